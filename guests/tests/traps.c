/* Traps: causes, tval, delegation, mstatus stacking, who may execute and access what. */
#include "test.h"

#define INSN_ECALL 0x00000073
#define INSN_EBREAK 0x00100073
#define INSN_SRET 0x10200073
#define INSN_MRET 0x30200073
#define INSN_WFI 0x10500073
#define INSN_SFENCE_VMA 0x12000073
#define CSRR_A0(csr) ((uint32_t)(csr) << 20 | 0x2573)   /* csrrs a0, csr, zero */
#define CSRW_ZERO(csr) ((uint32_t)(csr) << 20 | 0x1073) /* csrrw zero, csr, zero */

static void causes(void)
{
    EXPECT_EQ(attempt_instruction(M_MODE, INSN_ECALL), CAUSE_ECALL_M);
    EXPECT_EQ(this_hart()->tval, 0);
    EXPECT_EQ(attempt_instruction(S_MODE, INSN_ECALL), CAUSE_ECALL_S);
    EXPECT_EQ(attempt_instruction(U_MODE, INSN_ECALL), CAUSE_ECALL_U);
    EXPECT_EQ(attempt_instruction(U_MODE, INSN_EBREAK), CAUSE_BREAKPOINT);
    static const uint32_t illegal[] = {0xffffffff, 0x0000007f, 0x0000702f, CSRR_A0(0x123), INSN_ECALL | 1 << 7};
    for (unsigned i = 0; i < sizeof illegal / sizeof *illegal; i++) {
        EXPECT_EQ(attempt_instruction(M_MODE, illegal[i]), CAUSE_ILLEGAL);
        EXPECT_EQ(this_hart()->tval, illegal[i]);
    }
    EXPECT_TRAP(M_MODE, load64, NOTHING_THERE, CAUSE_LOAD_ACCESS);
    EXPECT_TRAP(M_MODE, store32, NOTHING_THERE, CAUSE_STORE_ACCESS);
    EXPECT_TRAP(M_MODE, fetch, NOTHING_THERE, CAUSE_FETCH_ACCESS);
}

static void rights(void)
{
    static const struct { uint32_t instruction; uint64_t m, s, u; } table[] = {
        {INSN_SFENCE_VMA, NO_TRAP, NO_TRAP, CAUSE_ILLEGAL},
        {CSRR_A0(0x100), NO_TRAP, NO_TRAP, CAUSE_ILLEGAL},          /* sstatus */
        {CSRR_A0(0x300), NO_TRAP, CAUSE_ILLEGAL, CAUSE_ILLEGAL},    /* mstatus */
        {CSRR_A0(0xf14), NO_TRAP, CAUSE_ILLEGAL, CAUSE_ILLEGAL},    /* mhartid */
        {CSRW_ZERO(0xf14), CAUSE_ILLEGAL, CAUSE_ILLEGAL, CAUSE_ILLEGAL},
        {CSRR_A0(0x001), NO_TRAP, NO_TRAP, NO_TRAP},                /* fflags */
        {CSRR_A0(0xc00), NO_TRAP, NO_TRAP, NO_TRAP},                /* cycle */
        {CSRW_ZERO(0xc00), CAUSE_ILLEGAL, CAUSE_ILLEGAL, CAUSE_ILLEGAL},
        {INSN_MRET, 65, CAUSE_ILLEGAL, CAUSE_ILLEGAL},              /* 65: not tried */
        {INSN_SRET, 65, 65, CAUSE_ILLEGAL},
    };
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].m != 65)
            EXPECT_EQ(attempt_instruction(M_MODE, table[i].instruction), table[i].m);
        if (table[i].s != 65)
            EXPECT_EQ(attempt_instruction(S_MODE, table[i].instruction), table[i].s);
        EXPECT_EQ(attempt_instruction(U_MODE, table[i].instruction), table[i].u);
    }
    csr_set(mstatus, MSTATUS_TVM);
    EXPECT_EQ(attempt_instruction(S_MODE, CSRR_A0(0x180)), CAUSE_ILLEGAL); /* satp */
    EXPECT_EQ(attempt_instruction(S_MODE, INSN_SFENCE_VMA), CAUSE_ILLEGAL);
    EXPECT_EQ(attempt_instruction(M_MODE, CSRR_A0(0x180)), NO_TRAP);
    csr_clear(mstatus, MSTATUS_TVM);
    csr_set(mstatus, MSTATUS_TSR);
    EXPECT_EQ(attempt_instruction(S_MODE, INSN_SRET), CAUSE_ILLEGAL);
    csr_clear(mstatus, MSTATUS_TSR);
    csr_set(mstatus, MSTATUS_TW);
    EXPECT_EQ(attempt_instruction(S_MODE, INSN_WFI), CAUSE_ILLEGAL);
    csr_clear(mstatus, MSTATUS_TW);
    csr_clear(mstatus, MSTATUS_FS); /* FP off: every FP instruction and CSR is illegal */
    EXPECT_EQ(attempt_instruction(M_MODE, CSRR_A0(0x003)), CAUSE_ILLEGAL);
    EXPECT_EQ(attempt_instruction(M_MODE, 0x02007053), CAUSE_ILLEGAL); /* fadd.d */
    EXPECT_EQ(attempt_instruction(M_MODE, 0x00053007), CAUSE_ILLEGAL); /* fld */
    csr_set(mstatus, 1 << 13);
    EXPECT_EQ(csr_read(mstatus) >> 63, 0);
    asm volatile("fmv.d.x ft0, zero" : : : "ft0");
    EXPECT_EQ(csr_read(mstatus) & MSTATUS_FS, MSTATUS_FS); /* dirty */
    EXPECT_EQ(csr_read(mstatus) >> 63, 1);
}

static void counters_enabled(void)
{
    csr_write(mcounteren, 0);
    EXPECT_EQ(attempt_instruction(S_MODE, CSRR_A0(0xc01)), CAUSE_ILLEGAL);
    EXPECT_EQ(attempt_instruction(M_MODE, CSRR_A0(0xc02)), NO_TRAP);
    csr_write(mcounteren, 7);
    csr_write(scounteren, 0);
    EXPECT_EQ(attempt_instruction(S_MODE, CSRR_A0(0xc01)), NO_TRAP);
    EXPECT_EQ(attempt_instruction(U_MODE, CSRR_A0(0xc01)), CAUSE_ILLEGAL);
    csr_write(scounteren, 7);
    EXPECT_EQ(attempt_instruction(U_MODE, CSRR_A0(0xc01)), NO_TRAP);
}

/* What trap entry and xRET do to the stacks of mode and interrupt enable. */
static uint64_t seen_sstatus, seen_scause;
static void note_s(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    (void)hart, (void)tval;
    seen_scause = cause;
    seen_sstatus = csr_read(sstatus);
    frame->pc += 4;
}

static uint64_t ecall_with_interrupts_on(uint64_t unused)
{
    csr_set(sstatus, MSTATUS_SIE); /* nothing is enabled in sie */
    asm volatile(".option push; .option norvc; ebreak; .option pop");
    uint64_t after = csr_read(sstatus);
    csr_clear(sstatus, MSTATUS_SIE);
    return after + unused;
}

static void delegation(void)
{
    struct hart *hart = this_hart();
    hart->s_handler = note_s;
    csr_write(medeleg, 1 << CAUSE_BREAKPOINT);
    seen_scause = NO_TRAP;
    uint64_t after = call_in_mode(S_MODE, ecall_with_interrupts_on, 0, 0);
    EXPECT_EQ(seen_scause, CAUSE_BREAKPOINT);
    EXPECT_EQ(seen_sstatus & (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP), MSTATUS_SPIE | MSTATUS_SPP);
    EXPECT_EQ(after & (MSTATUS_SIE | MSTATUS_SPIE | MSTATUS_SPP), MSTATUS_SIE | MSTATUS_SPIE);
    seen_scause = NO_TRAP;
    EXPECT_EQ(attempt_instruction(U_MODE, INSN_EBREAK), NO_TRAP); /* that is: none into M-mode */
    EXPECT_EQ(seen_scause, CAUSE_BREAKPOINT);
    EXPECT_EQ(seen_sstatus & MSTATUS_SPP, 0);
    EXPECT_EQ(attempt_instruction(M_MODE, INSN_EBREAK), CAUSE_BREAKPOINT); /* never down */
    csr_write(medeleg, 1 << CAUSE_ILLEGAL);
    seen_scause = NO_TRAP;
    EXPECT_EQ(attempt_instruction(U_MODE, 0xffffffff), NO_TRAP);
    EXPECT_EQ(seen_scause, CAUSE_ILLEGAL);
    csr_write(medeleg, UINT64_MAX);
    EXPECT((csr_read(medeleg) & 1 << CAUSE_ECALL_M) == 0 || is_qemu());
    csr_write(medeleg, 0);
    hart->s_handler = NULL;
}

static void legal_values(void)
{
    csr_write(mtvec, 0x80000001); /* vectored */
    EXPECT_EQ(csr_read(mtvec), 0x80000001);
    csr_write(mtvec, (uint64_t)trap_from_m);
    csr_write(mepc, 0x80000003);
    EXPECT(csr_read(mepc) == 0x80000002 || is_qemu());
    uint64_t before = csr_read(mstatus);
    csr_set(mstatus, MSTATUS_MPP);
    csr_clear(mstatus, 1ul << MSTATUS_MPP_SHIFT); /* MPP = 2 does not exist */
    EXPECT((csr_read(mstatus) >> MSTATUS_MPP_SHIFT & 3) != 2 || is_qemu());
    csr_write(mstatus, before);
    EXPECT_EQ(csr_read(mstatus) >> 32 & 15, 10); /* UXL and SXL: 64 bits */
    csr_write(mie, UINT64_MAX);
    EXPECT_EQ(csr_read(mie) & 0xaaa, 0xaaa);
    csr_write(mie, 0);
    EXPECT_EQ(csr_read(mhartid), 0);
    EXPECT_EQ(csr_read(misa) & (1 << 8 | 1 << 12 | 1 << 0), 1 << 8 | 1 << 12 | 1 << 0); /* I, M, A */
}

int main(void)
{
    open_to_lower_modes();
    causes();
    rights();
    counters_enabled();
    delegation();
    legal_values();
    return test_result();
}
