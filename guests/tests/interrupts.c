/* Interrupts: priorities, delegation, vectored entry, WFI, timers (CLINT and Sstc), PLIC by way of the UART. */
#include "sync.h"
#include "test.h"

#define CSR_STIMECMP "0x14d"
#define CSR_MENVCFG "0x30a"
#define MENVCFG_STCE (1ul << 63)

static uint64_t order[16];
static unsigned taken;

/* Notes the cause and disables that interrupt, so that the next one comes. */
static void note_m(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    (void)hart;
    if (!(cause & CAUSE_INTERRUPT) || taken == 16)
        panic("interrupts: in M-mode", cause, frame->pc, tval);
    order[taken++] = cause & ~CAUSE_INTERRUPT;
    csr_clear(mie, 1ul << (cause & 63));
}

static void note_s(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    (void)hart;
    if (!(cause & CAUSE_INTERRUPT) || taken == 16)
        panic("interrupts: in S-mode", cause, frame->pc, tval);
    order[taken++] = 100 + (cause & ~CAUSE_INTERRUPT);
    csr_clear(sie, 1ul << (cause & 63));
}

static void allow_m(void)
{
    csr_set(mstatus, MSTATUS_MIE);
    csr_clear(mstatus, MSTATUS_MIE);
}

static uint64_t allow_s(uint64_t unused)
{
    csr_set(sstatus, MSTATUS_SIE);
    csr_clear(sstatus, MSTATUS_SIE);
    return unused;
}

static void expect_order(int line, const uint64_t *want, unsigned count)
{
    uint64_t wanted = 0, got = 0; /* QEMU takes them in the order of their numbers: look at the set only */
    expect_equal(__FILE__, line, "interrupts taken", taken, count);
    for (unsigned i = 0; i < taken && i < count; i++) {
        if (!is_qemu())
            expect_equal(__FILE__, line, "interrupt", order[i], want[i]);
        wanted += want[i] * want[i];
        got += order[i] * order[i];
    }
    expect_equal(__FILE__, line, "set of interrupts", got, wanted);
    taken = 0;
}
#define EXPECT_ORDER(...) expect_order(__LINE__, (uint64_t[]){__VA_ARGS__}, sizeof((uint64_t[]){__VA_ARGS__}) / 8)

/* Raises everything that software can raise: MSI, MTI, and the S-mode ones by mip. */
static void raise_all(void)
{
    ipi_send(0);
    timer_set(0, 0);
    csr_set(mip, IRQ_BIT(IRQ_SSI) | IRQ_BIT(IRQ_STI) | IRQ_BIT(IRQ_SEI));
    uint64_t all = IRQ_BIT(IRQ_SSI) | IRQ_BIT(IRQ_STI) | IRQ_BIT(IRQ_SEI) | IRQ_BIT(IRQ_MSI) | IRQ_BIT(IRQ_MTI);
    EXPECT(wait_until((csr_read(mip) & all) == all, MTIME_HZ));
}

static void lower_all(void)
{
    ipi_clear(0);
    timer_off(0);
    csr_clear(mip, IRQ_BIT(IRQ_SSI) | IRQ_BIT(IRQ_STI) | IRQ_BIT(IRQ_SEI));
    EXPECT(wait_until(!(csr_read(mip) & 0xaaa), MTIME_HZ));
}

static void priorities(void)
{
    raise_all();
    csr_write(mie, 0xaaa);
    allow_m();
    EXPECT_ORDER(IRQ_MSI, IRQ_MTI, IRQ_SEI, IRQ_SSI, IRQ_STI);
    csr_write(mideleg, IRQ_BIT(IRQ_SSI) | IRQ_BIT(IRQ_STI) | IRQ_BIT(IRQ_SEI));
    csr_write(mie, 0xaaa);
    allow_m(); /* delegated ones never interrupt M-mode */
    EXPECT_ORDER(IRQ_MSI, IRQ_MTI);
    call_in_mode(S_MODE, allow_s, 0, 0);
    EXPECT_ORDER(100 + IRQ_SEI, 100 + IRQ_SSI, 100 + IRQ_STI);
    csr_write(mie, 0xaaa);
    call_in_mode(S_MODE, allow_s, 0, 0); /* M-mode's interrupt S-mode at once */
    EXPECT_ORDER(IRQ_MSI, IRQ_MTI, 100 + IRQ_SEI, 100 + IRQ_SSI, 100 + IRQ_STI);
    csr_write(mie, 0x222); /* U-mode: S-mode's interrupts whatever SIE says */
    call_in_mode(U_MODE, load8, RAM, 0);
    EXPECT_ORDER(100 + IRQ_SEI, 100 + IRQ_SSI, 100 + IRQ_STI);
    csr_write(mie, 0);
    csr_write(mideleg, 0);
    lower_all();
}

/* What S-mode sees and may change of mip and mie. */
static uint64_t touch_sip(uint64_t bits)
{
    csr_write(sip, bits);
    return csr_read(sip);
}

static void supervisor_view(void)
{
    csr_write(mideleg, 0);
    EXPECT_EQ(call_in_mode(S_MODE, touch_sip, 0x222, 0) & 0xaaa, 0); /* not delegated: invisible */
    csr_write(mideleg, 0x222);
    EXPECT_EQ(call_in_mode(S_MODE, touch_sip, 0x222, 0) & 0xaaa, IRQ_BIT(IRQ_SSI)); /* only SSIP can be written */
    EXPECT_EQ(csr_read(mip) & 0x222, IRQ_BIT(IRQ_SSI));
    EXPECT_EQ(call_in_mode(S_MODE, touch_sip, 0, 0) & 0xaaa, 0);
    csr_write(mie, 0xaaa);
    EXPECT_EQ(csr_read(sie) & 0xaaa, 0x222);
    csr_write(sie, 0);
    EXPECT_EQ(csr_read(mie) & 0xaaa, 0x888);
    csr_write(mie, 0);
    csr_write(mideleg, 0);
}

/* Vectored: interrupts enter at base + 4 * number, exceptions at base. */
/* in .data to be within a jump of the code */
static uint32_t vectors[12] __attribute__((aligned(64), section(".data")));
static uint64_t entered;

__attribute__((naked, aligned(4))) static void enter_vector(void)
{
    /* each vector is `jal t6, enter_vector`: t6 says which; nobody else uses it */
    asm volatile("csrrw tp, mscratch, tp\n sd t5, 1016(tp)\n la t5, %0\n sd t6, 0(t5)\n ld t5, 1016(tp)\n"
                 "csrrw tp, mscratch, tp\n j trap_from_m" : : "i"(&entered));
}

static void vectored(void)
{
    for (unsigned i = 0; i < 12; i++) {
        uint32_t offset = (uint32_t)((uint64_t)enter_vector - (uint64_t)&vectors[i]);
        vectors[i] = (offset >> 20 & 1) << 31 | (offset >> 1 & 0x3ff) << 21 | (offset >> 11 & 1) << 20 |
                     (offset >> 12 & 0xff) << 12 | 31 << 7 | 0x6f; /* jal t6, enter_vector */
    }
    fence_i();
    csr_write(mtvec, (uint64_t)vectors | 1);
    raise_all();
    for (unsigned irq = 1; irq < 12; irq += 2) {
        if (irq == IRQ_MEI)
            continue;
        csr_write(mie, 1 << irq);
        asm volatile("csrsi mstatus, 8\n csrci mstatus, 8" : : : "t6", "memory");
        EXPECT_EQ((entered - (uint64_t)vectors) / 4, irq + 1);
    }
    lower_all();
    csr_write(mie, 0);
    taken = 0;
    this_hart()->m_handler = expect_handler;
    asm volatile(".option push; .option norvc; ebreak; .option pop" : : : "t6", "memory");
    EXPECT_EQ((entered - (uint64_t)vectors) / 4, 1);
    this_hart()->m_handler = note_m;
    csr_write(mtvec, (uint64_t)trap_from_m);
}

/* WFI goes on when an enabled interrupt is pending, MIE or not; a timer wakes it, not too early and not much too late. */
static void wait_for_interrupt(void)
{
    csr_write(mie, IRQ_BIT(IRQ_MTI));
    for (int i = 0; i < 5; i++) {
        uint64_t due = mtime() + MTIME_HZ / 200;
        timer_set(0, due);
        while (!(csr_read(mip) & IRQ_BIT(IRQ_MTI)))
            wfi();
        EXPECT(mtime() >= due);
    }
    EXPECT_EQ(taken, 0);
    wfi(); /* still pending: returns at once */
    timer_off(0);
    ipi_send(0);
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    wfi();
    ipi_clear(0);
    csr_write(mie, 0);
}

static void sstc(void)
{
    this_hart()->m_handler = expect_handler;
    if (attempt_instruction(M_MODE, 0x14d022f3) != NO_TRAP || attempt_instruction(M_MODE, 0x30a022f3) != NO_TRAP) {
        print("Sstc is not there\n");
        this_hart()->m_handler = note_m;
        return;
    }
    asm volatile("csrc " CSR_MENVCFG ", %0" : : "r"(MENVCFG_STCE));
    EXPECT_EQ(attempt_instruction(S_MODE, 0x14d022f3), CAUSE_ILLEGAL);
    asm volatile("csrs " CSR_MENVCFG ", %0" : : "r"(MENVCFG_STCE));
    EXPECT_EQ(attempt_instruction(S_MODE, 0x14d022f3), NO_TRAP);
    EXPECT_EQ(attempt_instruction(U_MODE, 0x14d022f3), CAUSE_ILLEGAL);
    this_hart()->m_handler = note_m;
    csr_write(mideleg, IRQ_BIT(IRQ_STI));
    asm volatile("csrw " CSR_STIMECMP ", %0" : : "r"(UINT64_MAX));
    EXPECT(wait_until(!(csr_read(mip) & IRQ_BIT(IRQ_STI)), MTIME_HZ));
    uint64_t due = mtime() + MTIME_HZ / 200;
    asm volatile("csrw " CSR_STIMECMP ", %0" : : "r"(due));
    csr_write(mie, IRQ_BIT(IRQ_STI));
    while (!(csr_read(mip) & IRQ_BIT(IRQ_STI)))
        wfi();
    EXPECT(mtime() >= due);
    call_in_mode(S_MODE, allow_s, 0, 0);
    EXPECT_ORDER(100 + IRQ_STI);
    asm volatile("csrw " CSR_STIMECMP ", %0" : : "r"(UINT64_MAX));
    EXPECT(wait_until(!(csr_read(mip) & IRQ_BIT(IRQ_STI)), MTIME_HZ));
    asm volatile("csrc " CSR_MENVCFG ", %0" : : "r"(MENVCFG_STCE));
    csr_write(mideleg, 0);
    csr_write(mie, 0);
}

/* The UART's "transmitter empty" through the PLIC: enable, threshold, claim, complete. */
static void external(void)
{
    unsigned m = plic_m_context(0), s = plic_s_context(0);
    plic_priority(UART_IRQ, 3);
    plic_threshold(m, 0);
    plic_threshold(s, 7);
    plic_enable(m, UART_IRQ, 1);
    write8(UART + 1, 2); /* IER: transmitter holding register empty */
    EXPECT(wait_until(csr_read(mip) & IRQ_BIT(IRQ_MEI), MTIME_HZ));
    plic_threshold(m, 3); /* not above the threshold */
    EXPECT(wait_until(!(csr_read(mip) & IRQ_BIT(IRQ_MEI)), MTIME_HZ));
    plic_threshold(m, 2);
    csr_write(mie, IRQ_BIT(IRQ_MEI));
    EXPECT(wait_until(csr_read(mip) & IRQ_BIT(IRQ_MEI), MTIME_HZ));
    allow_m();
    EXPECT_ORDER(IRQ_MEI);
    EXPECT_EQ(plic_claim(s), 0); /* not enabled there */
    EXPECT_EQ(plic_claim(m), UART_IRQ);
    EXPECT_EQ(plic_claim(m), 0);
    EXPECT(wait_until(!(csr_read(mip) & IRQ_BIT(IRQ_MEI)), MTIME_HZ));
    (void)read8(UART + 2); /* IIR: reading it takes the interrupt back */
    write8(UART + 1, 0);
    plic_complete(m, UART_IRQ);
    EXPECT_EQ(plic_claim(m), 0);
    plic_enable(m, UART_IRQ, 0); /* and to S-mode */
    plic_enable(s, UART_IRQ, 1);
    plic_threshold(s, 0);
    write8(UART + 1, 2);
    EXPECT(wait_until(csr_read(mip) & IRQ_BIT(IRQ_SEI), MTIME_HZ));
    csr_write(mideleg, IRQ_BIT(IRQ_SEI));
    csr_write(mie, IRQ_BIT(IRQ_SEI));
    call_in_mode(S_MODE, allow_s, 0, 0);
    EXPECT_ORDER(100 + IRQ_SEI);
    EXPECT_EQ(plic_claim(s), UART_IRQ);
    write8(UART + 1, 0);
    plic_complete(s, UART_IRQ);
    plic_enable(s, UART_IRQ, 0);
    csr_write(mideleg, 0);
    csr_write(mie, 0);
}

/* A handler that never looks at the UART (xv6's) gets one interrupt for each character, not one after another. */
static void external_unserved(void)
{
    unsigned m = plic_m_context(0);
    plic_threshold(m, 0);
    plic_enable(m, UART_IRQ, 1);
    write8(UART + 1, 2);
    for (int i = 0; i < 3; i++) {
        EXPECT(wait_until(csr_read(mip) & IRQ_BIT(IRQ_MEI), MTIME_HZ));
        EXPECT_EQ(plic_claim(m), UART_IRQ);
        plic_complete(m, UART_IRQ);
        EXPECT_EQ(csr_read(mip) & IRQ_BIT(IRQ_MEI), 0);
        write8(UART, '.');
    }
    write8(UART + 1, 0);
    plic_claim(m);
    plic_complete(m, UART_IRQ);
    plic_enable(m, UART_IRQ, 0);
}

int main(void)
{
    open_to_lower_modes();
    this_hart()->m_handler = note_m;
    this_hart()->s_handler = note_s;
    timer_off(0);
    priorities();
    supervisor_view();
    vectored();
    wait_for_interrupt();
    sstc();
    external();
    external_unserved();
    return test_result();
}
