/* Boot of all harts, trap dispatch, parallel(). See hart.h. */
#include "hart.h"

#include "console.h"
#include "fdt.h"
#include "sync.h"

#define MODE_RETURN UINT64_MAX /* a7 of the ecall that ends call_in_mode(); also in start.S */

_Static_assert(offsetof(struct hart, m) == HART_M_FRAME, "hart_offsets.h");
_Static_assert(offsetof(struct hart, s) == HART_S_FRAME, "hart_offsets.h");
_Static_assert(offsetof(struct frame, pc) == FRAME_PC, "hart_offsets.h");
_Static_assert(offsetof(struct hart, m_stack) == HART_M_STACK, "hart_offsets.h");
_Static_assert(offsetof(struct hart, s_stack) == HART_S_STACK, "hart_offsets.h");
_Static_assert(offsetof(struct hart, mode_sp) == HART_MODE_SP, "hart_offsets.h");
_Static_assert(sizeof(struct hart) == 1 << HART_SIZE_SHIFT, "hart_offsets.h");

struct hart hart_table[MAX_HARTS];
unsigned harts;
uint32_t boot_ready __attribute__((section(".data"))); /* not in .bss: read while hart 0 clears that */

static uint8_t trap_stacks[MAX_HARTS][2][TRAP_STACK_SIZE] __attribute__((aligned(16)));
static const void *device_tree;

extern uint64_t enter_mode(uint64_t pc, uint64_t argument, uint64_t stack_offset);
extern void mode_resume(void);

_Noreturn void panic(const char *why, uint64_t cause, uint64_t epc, uint64_t tval)
{
    print("\nhart %u: %s: cause %lx, pc %lx, tval %lx\n", this_hart()->id, why, cause, epc, tval);
    power_off(99);
}

void return_to_caller(struct hart *hart)
{
    hart->m.pc = (uint64_t)mode_resume;
    hart->m.x[2] = hart->mode_sp;
    hart->m.x[4] = (uint64_t)hart;
    csr_set(mstatus, MSTATUS_MPP);
}

void trap_m(struct hart *hart)
{
    uint64_t cause = csr_read(mcause), tval = csr_read(mtval);
    if ((cause == CAUSE_ECALL_S || cause == CAUSE_ECALL_U) && hart->m.x[17] == MODE_RETURN) {
        return_to_caller(hart);
        return;
    }
    if (!hart->m_handler)
        panic("unexpected trap into M-mode", cause, hart->m.pc, tval);
    hart->m_handler(hart, &hart->m, cause, tval);
}

void trap_s(struct hart *hart)
{
    uint64_t cause = csr_read(scause), tval = csr_read(stval);
    if (cause == CAUSE_ECALL_U && hart->s.x[17] == MODE_RETURN) /* delegated: hand it on to M-mode */
        asm volatile("mv a0, %0; li a7, -1; ecall" : : "r"(hart->s.x[10]) : "a0", "a7", "memory");
    if (!hart->s_handler)
        panic("unexpected trap into S-mode", cause, hart->s.pc, tval);
    hart->s_handler(hart, &hart->s, cause, tval);
}

void expect_handler(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    hart->cause = cause;
    hart->tval = tval;
    hart->epc = frame->pc;
    hart->traps++;
    if (cause == CAUSE_FETCH_ACCESS || cause == CAUSE_FETCH_PAGE || cause == CAUSE_FETCH_MISALIGNED)
        frame->pc = frame->x[1];
    else
        frame->pc += 4;
}

uint64_t call_in_mode(enum privilege mode, uint64_t (*function)(uint64_t), uint64_t argument, uint64_t offset)
{
    csr_clear(mstatus, MSTATUS_MPP | MSTATUS_MPIE);
    csr_set(mstatus, (uint64_t)mode << MSTATUS_MPP_SHIFT);
    csr_write(stvec, (uint64_t)trap_from_s);
    csr_write(sscratch, (uint64_t)this_hart());
    return enter_mode((uint64_t)function + offset, argument, offset);
}

void open_to_lower_modes(void)
{
    csr_write(pmpaddr0, UINT64_MAX >> 10);
    csr_write(pmpcfg0, 0x1f); /* NAPOT, read, write, execute */
    csr_write(mcounteren, 7);
    csr_write(scounteren, 7);
}

uint64_t hart_random(void)
{
    uint64_t *x = &this_hart()->random;
    *x ^= *x >> 12;
    *x ^= *x << 25;
    *x ^= *x >> 27;
    return *x * 0x2545f4914f6cdd1dul;
}

uint64_t argument(const char *name, uint64_t otherwise) { return fdt_bootarg(device_tree, name, otherwise); }
const char *argument_text(const char *name) { return fdt_bootarg_text(device_tree, name); }

static struct barrier started, cleared;
static unsigned working;

/* All harts have got their IPI from parallel() and cleared it before any of them begins: IPIs that the work sends are
 * not taken for those. */
static void begin_together(unsigned hart)
{
    barrier_wait(&started, working);
    ipi_clear(hart);
    full_fence();
    barrier_wait(&cleared, working);
}

void parallel(hart_function *function, unsigned count)
{
    working = count;
    for (unsigned i = 1; i < count; i++) {
        store_release(&hart_table[i].work, function);
        full_fence();
        ipi_send(i);
    }
    begin_together(0);
    function(0);
    for (unsigned i = 1; i < count; i++)
        while (load_acquire(&hart_table[i].work))
            cpu_pause();
}

/* Where harts other than 0 spend their life. */
_Noreturn void hart_main(void)
{
    struct hart *hart = this_hart();
    for (;;) {
        csr_write(mie, IRQ_BIT(IRQ_MSI));
        while (!load_acquire(&hart->work)) {
            wfi();
            ipi_clear(hart->id);
            full_fence(); /* clear, then look: the IPI for work set after the look stays pending */
        }
        csr_write(mie, 0);
        begin_together(hart->id);
        hart->work(hart->id);
        store_release(&hart->work, (hart_function *)0);
    }
}

/* Hart 0, with .bss cleared. */
_Noreturn void boot(uint64_t hart, const void *fdt)
{
    (void)hart;
    device_tree = fdt;
    harts = fdt_count_cpus(fdt);
    if (harts > MAX_HARTS)
        harts = MAX_HARTS;
    for (unsigned i = 0; i < harts; i++) {
        hart_table[i].id = i;
        hart_table[i].random = 0x9e3779b97f4a7c15ul * (i + 1);
        hart_table[i].m_stack = (uint64_t)trap_stacks[i][1];
        hart_table[i].s_stack = (uint64_t)trap_stacks[i][1] + TRAP_STACK_SIZE;
    }
    console_init();
    store_release(&boot_ready, 1);
    full_fence();
    for (unsigned i = 1; i < harts; i++)
        ipi_send(i);
    power_off((unsigned)main());
}
