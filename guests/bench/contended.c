/* Kernels of several harts: locks, atomics, barriers, ping-pong. Hart 0 looks at the clock and ends each of them. */
#include "bench.h"

static struct {
    struct spin_lock spin CACHE_ALIGNED;
    struct ticket_lock ticket CACHE_ALIGNED;
    struct barrier barrier CACHE_ALIGNED;
    struct barrier start CACHE_ALIGNED;
    uint64_t counter CACHE_ALIGNED;
    uint64_t last_round CACHE_ALIGNED;
    uint32_t stop CACHE_ALIGNED;
} shared;
static struct { uint64_t value CACHE_ALIGNED; } own[MAX_HARTS];

enum { BATCH = 100 };

/* Everybody repeats `operation` until hart 0 finds that the time is over. */
#define FREE_RUN(hart, operation) do { \
    uint64_t work_ = 0, start_; \
    if (hart == 0) \
        store_relaxed(&shared.stop, 0); \
    barrier_wait(&shared.start, players); \
    start_ = now(); \
    while (!load_relaxed(&shared.stop)) { \
        for (int i_ = 0; i_ < BATCH; i_++) { operation; } \
        work_ += BATCH; \
        if (hart == 0 && now() - start_ >= duration) \
            store_relaxed(&shared.stop, 1); \
    } \
    measured[hart].work = work_, measured[hart].ticks = now() - start_; \
} while (0)

static void run_spin(unsigned hart)
{
    FREE_RUN(hart, spin_lock(&shared.spin); shared.counter++; spin_unlock(&shared.spin));
}

static void run_ticket(unsigned hart)
{
    FREE_RUN(hart, ticket_lock(&shared.ticket); shared.counter++; ticket_unlock(&shared.ticket));
}

static void run_add_shared(unsigned hart) { FREE_RUN(hart, __atomic_fetch_add(&shared.counter, 1, __ATOMIC_RELAXED)); }
static void run_add_own(unsigned hart) { FREE_RUN(hart, __atomic_fetch_add(&own[hart].value, 1, __ATOMIC_RELAXED)); }
#ifdef __riscv /* the host's own way is that of amoadd */
static void run_lrsc_shared(unsigned hart) { FREE_RUN(hart, lrsc_add(&shared.counter, 1)); }
static void run_lrsc_own(unsigned hart) { FREE_RUN(hart, lrsc_add(&own[hart].value, 1)); }
#endif

/* All in step; hart 0 says in a round that it is the last one, before the barrier that ends the round. Each hart's work
 * is the rounds divided by the harts, so that the sum is the number of barriers. */
static void run_barrier(unsigned hart)
{
    uint64_t round = 0, start;
    if (hart == 0)
        store_relaxed(&shared.last_round, UINT64_MAX);
    barrier_wait(&shared.start, players);
    start = now();
    do {
        round++;
        if (hart == 0 && now() - start >= duration)
            store_relaxed(&shared.last_round, round);
        barrier_wait(&shared.barrier, players);
    } while (load_relaxed(&shared.last_round) > round);
    measured[hart].ticks = now() - start;
    measured[hart].work = hart == 0 ? round - round / players * (players - 1) : round / players;
}

/* Pairs of harts hand a flag back and forth: even values to the first, odd ones to the second; the end is a huge one. */
#define FLAG_END (1ul << 62)
static struct { uint64_t value CACHE_ALIGNED; } flags[MAX_HARTS];

static void run_ping_pong(unsigned hart)
{
    uint64_t *flag = &flags[hart / 2].value, mine = hart & 1, turns = 0, start;
    if (players % 2 && hart == players - 1)
        return;
    if (!mine)
        store_relaxed(flag, 0);
    barrier_wait(&shared.start, players & ~1u);
    start = now();
    for (uint64_t seen;;) {
        while (((seen = load_acquire(flag)) & 1) != mine && seen < FLAG_END)
            cpu_pause();
        if (seen >= FLAG_END)
            break;
        turns++;
        if (!mine && turns % BATCH == 0 && now() - start >= duration) {
            store_release(flag, FLAG_END);
            break;
        }
        store_release(flag, seen + 1);
    }
    measured[hart].ticks = now() - start;
    measured[hart].work = mine ? 0 : turns;
}

const struct machine_kernel contended_kernels[] = {
    {"spin lock", "sections", 1, run_spin},
    {"ticket lock", "sections", 1, run_ticket},
    {"amoadd shared", "additions", 1, run_add_shared},
    {"amoadd private", "additions", 1, run_add_own},
#ifdef __riscv
    {"LR/SC shared", "additions", 1, run_lrsc_shared},
    {"LR/SC private", "additions", 1, run_lrsc_own},
#endif
    {"barrier", "barriers", 2, run_barrier},
    {"flag ping-pong", "round trips", 2, run_ping_pong},
    {0},
};
