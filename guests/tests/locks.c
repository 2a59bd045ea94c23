/* Spin locks, ticket locks and barriers on all harts: sums that only mutual exclusion makes right. */
#include "sync.h"
#include "test.h"

static struct spin_lock spin CACHE_ALIGNED;
static struct ticket_lock ticket CACHE_ALIGNED;
static struct barrier barrier CACHE_ALIGNED;
static uint64_t in_spin CACHE_ALIGNED, in_ticket CACHE_ALIGNED, in_both CACHE_ALIGNED;
static uint32_t step_of[MAX_HARTS], out_of_step;
static uint64_t rounds, barriers;

static void bump(uint64_t *counter) { store_relaxed(counter, load_relaxed(counter) + 1); }

static void work(unsigned hart)
{
    for (uint64_t i = 0; i < rounds; i++) {
        spin_lock(&spin);
        bump(&in_spin);
        spin_unlock(&spin);
        ticket_lock(&ticket);
        bump(&in_ticket);
        spin_lock(&spin); /* nested */
        bump(&in_both);
        spin_unlock(&spin);
        ticket_unlock(&ticket);
    }
    for (uint32_t i = 1; i <= barriers; i++) {
        store_relaxed(&step_of[hart], i);
        barrier_wait(&barrier, harts);
        for (unsigned other = 0; other < harts; other++)
            if (load_relaxed(&step_of[other]) != i)
                fetch_add(&out_of_step, 1);
        barrier_wait(&barrier, harts);
    }
}

int main(void)
{
    rounds = argument("rounds", 1000);
    barriers = argument("barriers", 50);
    parallel(work, harts);
    EXPECT_EQ(in_spin, harts * rounds);
    EXPECT_EQ(in_ticket, harts * rounds);
    EXPECT_EQ(in_both, harts * rounds);
    EXPECT_EQ(out_of_step, 0);
    return test_result();
}
