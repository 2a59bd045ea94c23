/* IPIs, timers, and a remote fence. */
#include "smp.h"

static unsigned laps(void) { return scale == 0 ? 20 : scale == 1 ? 2000 : 20000; }

/* -- a token goes round: each hart sleeps until the IPI comes, takes the interrupt, and sends the next one. */
static uint32_t ipis[MAX_HARTS];

static void ring_interrupt(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    if (cause != (CAUSE_INTERRUPT | IRQ_MSI))
        panic("IPI ring: not an IPI", cause, frame->pc, tval);
    ipi_clear(hart->id);
    store_relaxed(&ipis[hart->id], ipis[hart->id] + 1);
}

static void ring_work(unsigned hart)
{
    this_hart()->m_handler = ring_interrupt;
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    for (uint32_t lap = 1; lap <= laps(); lap++) {
        if (hart == 0)
            ipi_send(1 % harts);
        while (load_relaxed(&ipis[hart]) < lap) { /* look with interrupts off, sleep, then let the interrupt in */
            wfi();
            csr_set(mstatus, MSTATUS_MIE);
            csr_clear(mstatus, MSTATUS_MIE);
        }
        if (hart != 0)
            ipi_send((hart + 1) % harts);
    }
    csr_write(mie, 0);
    this_hart()->m_handler = NULL;
}

bool test_ipi_ring(void)
{
    parallel(ring_work, harts);
    for (unsigned hart = 0; hart < harts; hart++)
        if (ipis[hart] != laps())
            return false;
    return true;
}

/* -- timers */
enum { TICKS = 20 };
static uint32_t ticks[MAX_HARTS], early[MAX_HARTS];
static uint64_t due[MAX_HARTS];

static void timer_interrupt(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    unsigned id = hart->id;
    uint64_t now = mtime();
    if (cause != (CAUSE_INTERRUPT | IRQ_MTI))
        panic("timers: not a timer interrupt", cause, frame->pc, tval);
    early[id] += now < due[id];
    due[id] = now + MTIME_HZ / 1000 + 100 * id;
    timer_set(id, due[id]);
    store_relaxed(&ticks[id], ticks[id] + 1);
}

static void timer_work(unsigned hart)
{
    this_hart()->m_handler = timer_interrupt;
    due[hart] = mtime() + MTIME_HZ / 1000;
    timer_set(hart, due[hart]);
    csr_write(mie, IRQ_BIT(IRQ_MTI));
    csr_set(mstatus, MSTATUS_MIE);
    while (load_relaxed(&ticks[hart]) < TICKS)
        wfi();
    csr_clear(mstatus, MSTATUS_MIE);
    csr_write(mie, 0);
    timer_off(hart);
    this_hart()->m_handler = NULL;
}

bool test_timers(void)
{
    parallel(timer_work, harts);
    for (unsigned hart = 0; hart < harts; hart++)
        if (ticks[hart] < TICKS || early[hart])
            return false;
    return true;
}

/* -- hart 0 rewrites a function; an IPI makes the others execute FENCE.I; then all must run the new one. */
enum { LI_A0 = 0x513, RET = 0x8067, CODE_ROUNDS_MAX = 2000 };
static uint32_t code[2] __attribute__((aligned(64)));
static uint32_t fenced, wrong_results;
static struct barrier code_barrier;

static void code_interrupt(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    if (cause != (CAUSE_INTERRUPT | IRQ_MSI))
        panic("code change: not an IPI", cause, frame->pc, tval);
    ipi_clear(hart->id);
    fence_i();
    fetch_add(&fenced, 1);
}

static void code_work(unsigned hart)
{
    unsigned count = laps() < CODE_ROUNDS_MAX ? laps() : CODE_ROUNDS_MAX;
    uint64_t (*function)(void) = (uint64_t(*)(void))(uint64_t)code;
    this_hart()->m_handler = code_interrupt;
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    csr_set(mstatus, MSTATUS_MIE);
    for (uint32_t i = 1; i <= count; i++) {
        if (hart == 0) {
            store_relaxed(&fenced, 0);
            store_relaxed(&code[0], LI_A0 | i << 20);
            store_relaxed(&code[1], RET);
            full_fence();
            fence_i();
            for (unsigned other = 1; other < harts; other++)
                ipi_send(other);
            while (load_acquire(&fenced) != harts - 1)
                cpu_pause();
        }
        barrier_wait(&code_barrier, harts);
        if (function() != i)
            fetch_add(&wrong_results, 1);
        barrier_wait(&code_barrier, harts);
    }
    csr_clear(mstatus, MSTATUS_MIE);
    csr_write(mie, 0);
    this_hart()->m_handler = NULL;
}

bool test_code_change(void)
{
    parallel(code_work, harts);
    return wrong_results == 0;
}
