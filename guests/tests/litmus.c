/* Memory-model litmus tests between pairs of harts: outcomes that RVWMO forbids must never be seen.
 *
 *   SB   store buffering with full fences (Dekker): not both read 0
 *   MP   message passing by release/acquire, and by fences: no stale data behind a flag
 *   LB   load buffering with fences: not both read 1
 *   IRIW independent readers (four harts) with fences: both must agree on the order of the writes
 */
#include "sync.h"
#include "test.h"

static uint64_t rounds;
static struct {
    uint64_t x CACHE_ALIGNED;
    uint64_t y CACHE_ALIGNED;
    uint64_t seen[4][2] CACHE_ALIGNED;
    struct barrier barrier CACHE_ALIGNED;
} m;
static uint32_t forbidden[4];

enum { SB, MP, LB, IRIW };
static unsigned kind, players;

/* Both sides of a round; `i` makes values unique, so nothing need be cleared between rounds. */
static void play(unsigned hart, uint64_t i)
{
    uint64_t a = 0, b = 0;
    for (volatile uint64_t k = 0; k < (hart_random() >> 60); k++) /* meet at different offsets */
        ;
    switch (kind) {
    case SB:
        store_relaxed(hart ? &m.y : &m.x, i);
        full_fence();
        a = load_relaxed(hart ? &m.x : &m.y);
        break;
    case MP:
        if (hart) {
            a = load_acquire(&m.y);
            b = load_relaxed(&m.x);
        } else if (i % 2) {
            store_relaxed(&m.x, i);
            store_release(&m.y, i);
        } else {
            store_relaxed(&m.x, i);
            fence(w, w);
            store_relaxed(&m.y, i);
        }
        break;
    case LB:
        a = load_relaxed(hart ? &m.x : &m.y);
        fence(r, w);
        store_relaxed(hart ? &m.y : &m.x, i);
        break;
    case IRIW:
        if (hart < 2) {
            store_relaxed(hart ? &m.y : &m.x, i);
        } else {
            a = load_relaxed(hart == 2 ? &m.x : &m.y);
            full_fence();
            b = load_relaxed(hart == 2 ? &m.y : &m.x);
        }
        break;
    }
    m.seen[hart][0] = a;
    m.seen[hart][1] = b;
}

static bool is_forbidden(uint64_t i)
{
    switch (kind) {
    case SB: return m.seen[0][0] != i && m.seen[1][0] != i;
    case MP: return m.seen[1][0] == i && m.seen[1][1] != i;
    case LB: return m.seen[0][0] == i && m.seen[1][0] == i;
    default: return m.seen[2][0] == i && m.seen[2][1] != i && m.seen[3][0] == i && m.seen[3][1] != i;
    }
}

static void game(unsigned hart)
{
    for (uint64_t i = 1; i <= rounds; i++) {
        barrier_wait(&m.barrier, players);
        play(hart, i);
        barrier_wait(&m.barrier, players);
        if (hart == 0)
            forbidden[kind] += is_forbidden(i);
    }
}

int main(void)
{
    rounds = argument("rounds", 200);
    for (kind = SB; kind <= IRIW; kind++) {
        players = kind == IRIW ? 4 : 2;
        if (players > harts)
            continue;
        m.x = m.y = 0;
        parallel(game, players);
        EXPECT_EQ(forbidden[kind], 0);
    }
    return test_result();
}
