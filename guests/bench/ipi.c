/* Interrupts between harts. The first hart of each pair looks at the clock and ends it. */
#include "bench.h"

enum { BATCH = 100 };
static struct barrier begin CACHE_ALIGNED;
static struct { uint64_t end CACHE_ALIGNED; } pairs[MAX_HARTS / 2];

/* Pairs of harts send each other IPIs and wait for the answer: looking at mip all the time, or in WFI. */
static void ipi_pairs(unsigned hart, bool asleep)
{
    unsigned other = hart ^ 1;
    uint64_t *end = &pairs[hart / 2].end, turns = 0, start;
    if (players % 2 && hart == players - 1)
        return;
    if (!(hart & 1))
        store_relaxed(end, 0);
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    barrier_wait(&begin, players & ~1u);
    start = now();
    for (bool go_on = true; go_on;) {
        if (!(hart & 1)) {
            if (++turns % BATCH == 0 && now() - start >= duration) {
                store_release(end, 1);
                go_on = false;
            }
            ipi_send(other);
            if (!go_on)
                break;
        }
        while (!(csr_read(mip) & IRQ_BIT(IRQ_MSI)))
            asleep ? wfi() : cpu_pause();
        ipi_clear(hart);
        full_fence();
        if (hart & 1) {
            go_on = !load_acquire(end);
            if (go_on)
                ipi_send(other);
        }
    }
    csr_write(mie, 0);
    measured[hart].ticks = now() - start;
    measured[hart].work = turns;
}

static void run_ipi_polled(unsigned hart) { ipi_pairs(hart, false); }
static void run_ipi_wfi(unsigned hart) { ipi_pairs(hart, true); }

const struct machine_kernel ipi_kernels[] = {
    {"IPI polled", "round trips", 2, run_ipi_polled},
    {"IPI WFI", "round trips", 2, run_ipi_wfi},
    {0},
};
