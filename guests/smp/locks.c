/* Locks, barriers, atomics, queues: every test counts something shared and checks the sum. */
#include "smp.h"

static unsigned rounds(void) { return scale == 0 ? 200 : scale == 1 ? 20000 : 200000; }

static struct {
    struct spin_lock spin CACHE_ALIGNED;
    struct ticket_lock ticket CACHE_ALIGNED;
    struct barrier barrier CACHE_ALIGNED;
    uint64_t counter CACHE_ALIGNED; /* a plain variable: only the lock makes its sum right */
} shared;

static void spin_work(unsigned hart)
{
    (void)hart;
    for (unsigned i = 0; i < rounds(); i++) {
        spin_lock(&shared.spin);
        store_relaxed(&shared.counter, load_relaxed(&shared.counter) + 1);
        spin_unlock(&shared.spin);
    }
}

bool test_spin_lock(void)
{
    shared.counter = 0;
    parallel(spin_work, harts);
    return shared.counter == (uint64_t)harts * rounds();
}

static void ticket_work(unsigned hart)
{
    (void)hart;
    for (unsigned i = 0; i < rounds(); i++) {
        ticket_lock(&shared.ticket);
        store_relaxed(&shared.counter, load_relaxed(&shared.counter) + 1);
        ticket_unlock(&shared.ticket);
    }
}

bool test_ticket_lock(void)
{
    shared.counter = 0;
    parallel(ticket_work, harts);
    return shared.counter == (uint64_t)harts * rounds();
}

static uint32_t round_of[MAX_HARTS];
static uint32_t out_of_step;

static void barrier_work(unsigned hart)
{
    for (uint32_t i = 1; i <= rounds(); i++) {
        store_relaxed(&round_of[hart], i);
        barrier_wait(&shared.barrier, harts);
        for (unsigned other = 0; other < harts; other++)
            if (load_relaxed(&round_of[other]) != i)
                fetch_add(&out_of_step, 1);
        barrier_wait(&shared.barrier, harts);
    }
}

bool test_barrier(void)
{
    parallel(barrier_work, harts);
    return out_of_step == 0;
}

static struct {
    uint64_t sum, parity, largest;
    uint32_t word_sum;
} amo CACHE_ALIGNED;

static void amo_work(unsigned hart)
{
    for (uint64_t i = 1; i <= rounds(); i++) {
        __atomic_fetch_add(&amo.sum, i, __ATOMIC_RELAXED);
        __atomic_fetch_add(&amo.word_sum, 3, __ATOMIC_RELAXED);
        __atomic_fetch_xor(&amo.parity, i << hart, __ATOMIC_RELAXED);
        uint64_t mine = i * harts + hart;
        asm volatile("amomaxu.d zero, %1, %0" : "+A"(amo.largest) : "r"(mine) : "memory");
    }
}

bool test_amo(void)
{
    uint64_t n = rounds(), parity = 0;
    parallel(amo_work, harts);
    for (unsigned hart = 0; hart < harts; hart++)
        for (uint64_t i = 1; i <= n; i++)
            parity ^= i << hart;
    return amo.sum == harts * (n * (n + 1) / 2) && amo.word_sum == (uint32_t)(3 * n * harts) && amo.parity == parity &&
           amo.largest == n * harts + harts - 1;
}

static void lrsc_work(unsigned hart)
{
    for (unsigned i = 0; i < rounds(); i++)
        lrsc_add(&shared.counter, hart + 1);
}

bool test_lrsc(void)
{
    shared.counter = 0;
    parallel(lrsc_work, harts);
    return shared.counter == (uint64_t)rounds() * (harts * (harts + 1) / 2);
}

/* One queue from each hart to the next; single producer, single consumer. */
enum { SLOTS = 64 };
static struct queue {
    uint32_t head CACHE_ALIGNED;
    uint32_t tail CACHE_ALIGNED;
    uint64_t slot[SLOTS];
} queues[MAX_HARTS];
static uint32_t wrong_messages;

static uint64_t message(unsigned from, uint64_t i) { return (i + 1) * 0x9e3779b97f4a7c15ul + from; }

static void message_work(unsigned hart)
{
    struct queue *out = &queues[hart], *in = &queues[(hart + harts - 1) % harts];
    unsigned from = (hart + harts - 1) % harts;
    uint64_t sent = 0, received = 0;
    while (sent < rounds() || received < rounds()) {
        if (sent < rounds() && out->head - load_acquire(&out->tail) < SLOTS) {
            store_relaxed(&out->slot[sent % SLOTS], message(hart, sent));
            store_release(&out->head, (uint32_t)++sent);
        }
        if (load_acquire(&in->head) != in->tail) {
            if (load_relaxed(&in->slot[received % SLOTS]) != message(from, received))
                fetch_add(&wrong_messages, 1);
            store_release(&in->tail, (uint32_t)++received);
        } else {
            cpu_pause();
        }
    }
}

bool test_messages(void)
{
    parallel(message_work, harts);
    return wrong_messages == 0;
}
