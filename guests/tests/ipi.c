/* IPI storms and wake-ups from WFI: none lost, none made up. rounds=N toggles. */
#include "sync.h"
#include "test.h"

static uint64_t rounds;
static uint32_t received[MAX_HARTS], requests[MAX_HARTS], stop;

static void note(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    if (cause != (CAUSE_INTERRUPT | IRQ_MSI))
        panic("ipi: not an IPI", cause, frame->pc, tval);
    ipi_clear(hart->id);
    full_fence(); /* clear first, then take what was asked for */
    received[hart->id] += __atomic_exchange_n(&requests[hart->id], 0, __ATOMIC_ACQ_REL);
}

static void request(unsigned hart)
{
    fetch_add(&requests[hart], 1);
    full_fence();
    ipi_send(hart);
}

static void interrupts_on(void)
{
    this_hart()->m_handler = note;
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    csr_set(mstatus, MSTATUS_MIE);
}

static void interrupts_off(void)
{
    csr_clear(mstatus, MSTATUS_MIE);
    csr_write(mie, 0);
    this_hart()->m_handler = NULL;
}

/* Everybody sends to everybody, as fast as they can. */
static uint32_t sent[MAX_HARTS], senders_done;
static void storm(unsigned hart)
{
    interrupts_on();
    for (uint64_t i = 0; i < rounds; i++) {
        unsigned to = (hart + 1 + (unsigned)(hart_random() >> 40) % harts) % harts;
        fetch_add(&sent[to], 1);
        request(to);
    }
    fetch_add(&senders_done, 1);
    wait_until(load_acquire(&senders_done) == harts && load_relaxed(&received[hart]) == load_relaxed(&sent[hart]),
               20 * MTIME_HZ);
    interrupts_off();
}

/* Lost wake-ups: hart 0 toggles another awake, which answers; a WFI that sleeps through its IPI hangs here. The sleeper
 * alternates between taking the interrupt and polling with interrupts off, and waits a varying time before it sleeps. */
static uint32_t ball CACHE_ALIGNED;

static void sleep_until_ball(unsigned hart, uint32_t value)
{
    while (load_acquire(&ball) != value) {
        wfi();
        if (value % 4 < 2) {
            csr_set(mstatus, MSTATUS_MIE);
            csr_clear(mstatus, MSTATUS_MIE);
        } else {
            ipi_clear(hart);
            full_fence();
        }
    }
}

static void toggle(unsigned hart)
{
    this_hart()->m_handler = note;
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    for (uint32_t i = 0; i < rounds; i++) { /* the ball goes round: value i * harts + hart is this hart's turn */
        uint32_t turn = i * harts + hart;
        if (i || hart)
            sleep_until_ball(hart, turn);
        for (volatile unsigned k = 0; k < i % 64; k++)
            ;
        store_release(&ball, turn + 1);
        full_fence();
        if (harts > 1)
            ipi_send((hart + 1) % harts);
    }
    interrupts_off();
}

/* A timer and an IPI race to wake the same hart. */
static void race(unsigned hart)
{
    this_hart()->m_handler = NULL;
    if (hart == 0) {
        while (!load_acquire(&stop)) {
            for (unsigned other = 1; other < harts; other++)
                ipi_send(other);
            for (volatile int k = 0; k < 50; k++)
                ;
        }
        return;
    }
    for (uint64_t i = 0; i < rounds / 50 + 10; i++) {
        uint64_t due = mtime() + i % 300;
        timer_set(hart, due);
        csr_write(mie, IRQ_BIT(IRQ_MTI) | (i % 2 ? IRQ_BIT(IRQ_MSI) : 0));
        while (!(csr_read(mip) & IRQ_BIT(IRQ_MTI))) {
            wfi();
            ipi_clear(hart);
        }
        EXPECT(mtime() >= due);
        timer_off(hart);
    }
    csr_write(mie, 0);
    if (hart == harts - 1)
        store_release(&stop, 1);
}

int main(void)
{
    rounds = argument("rounds", 2000);
    parallel(storm, harts);
    for (unsigned hart = 0; hart < harts; hart++)
        EXPECT_EQ(received[hart], sent[hart]);
    if (harts > 1) {
        parallel(toggle, harts);
        EXPECT_EQ(ball, rounds * harts);
        parallel(race, harts);
    }
    return test_result();
}
