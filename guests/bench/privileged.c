/* What operating systems do all the time: system calls, page faults, switches of the address space.
 *
 * The loops run in S-mode or below for the whole measurement, so that only what they are about is counted.
 */
#include "bench.h"

enum { BATCH = 1000, PAGES = 16 };
#define WINDOW (-(256ul << 30))

static uint64_t *roots[2];

/* Each hart has PAGES pages of its own, in both address spaces. */
static uint64_t window_of(uint64_t hart) { return WINDOW + hart * PAGES * PAGE_SIZE; }

void prepare_privileged(void)
{
    for (int i = 0; i < 2; i++) {
        roots[i] = page_table();
        page_map_identity(roots[i], SV39);
        for (uint64_t hart = 0; hart < players; hart++)
            for (uint64_t k = 0; k < PAGES; k++)
                page_map(roots[i], SV39, window_of(hart) + k * PAGE_SIZE, (uint64_t)MEMORY_OF(hart) + k * PAGE_SIZE, 0,
                         PTE_RW);
    }
}

/* Runs function(hart) in S-mode under Sv39 with a vector of its own for traps into S-mode. */
static void in_s_mode(uint64_t (*function)(uint64_t), unsigned hart, uint64_t causes)
{
    open_to_lower_modes();
    csr_write(satp, satp_for(roots[0], SV39, 1));
    sfence_vma();
    csr_write(medeleg, causes);
    call_in_mode(S_MODE, function, hart, 0);
    csr_write(medeleg, 0);
    csr_write(satp, 0);
    sfence_vma();
}

/* -- system calls: S-mode enters a U-mode loop by sret; an ecall with a7 = 1 ends the batch, others go straight back. */
__attribute__((naked, aligned(4))) static void syscall_vector(void)
{
    asm volatile(".option push; .option norvc\n"
                 "  bnez a7, 1f\n csrr t0, sepc\n addi t0, t0, 4\n csrw sepc, t0\n sret\n"
                 "1: ld ra, 0(sp)\n addi sp, sp, 16\n ret\n" /* returns from user_batch() */
                 ".option pop");
}

__attribute__((naked)) static void user_loop(void)
{
    asm volatile(".option push; .option norvc\n"
                 "1: ecall\n addi a0, a0, -1\n bnez a0, 1b\n li a7, 1\n ecall\n"
                 ".option pop");
}

/* One batch of `count` calls; the U-mode loop needs no stack and runs at its alias address. */
__attribute__((naked)) static void user_batch(uint64_t count, uint64_t loop)
{
    asm volatile("addi sp, sp, -16\n sd ra, 0(sp)\n csrw sepc, a1\n li t0, 0x100\n csrc sstatus, t0\n li a7, 0\n sret");
}

static uint64_t syscalls(uint64_t hart)
{
    uint64_t before = csr_swap(stvec, (uint64_t)syscall_vector);
    MEASURE(hart, BATCH, user_batch(BATCH, (uint64_t)user_loop + USER_ALIAS));
    csr_write(stvec, before);
    return 0;
}

static void run_syscalls(unsigned hart) { in_s_mode(syscalls, hart, 1 << CAUSE_ECALL_U); }

/* -- page faults: each store hits a page whose entry is not valid; the handler makes it so and returns to the store. */
__attribute__((naked, aligned(4))) static void fault_vector(void)
{
    asm volatile(".option push; .option norvc\n" /* t3 points to the entry */
                 "  ld t0, 0(t3)\n ori t0, t0, 1\n sd t0, 0(t3)\n csrr t1, stval\n sfence.vma t1, zero\n sret\n"
                 ".option pop");
}

static void fault_batch(uint64_t window, uint64_t *entries)
{
    for (uint64_t i = 0; i < BATCH; i++) {
        register uint64_t *entry asm("t3") = &entries[i % PAGES];
        uint64_t address = window + i % PAGES * PAGE_SIZE;
        *entry &= ~(uint64_t)PTE_V;
        sfence_vma_page(address);
        asm volatile("sd zero, 0(%1)" : "+r"(entry) : "r"(address) : "t0", "t1", "memory");
    }
}

static uint64_t page_faults(uint64_t hart)
{
    uint64_t before = csr_swap(stvec, (uint64_t)fault_vector);
    uint64_t *entries = page_entry(roots[0], SV39, window_of(hart), 0);
    MEASURE(hart, BATCH, fault_batch(window_of(hart), entries));
    csr_write(stvec, before);
    return 0;
}

static void run_page_faults(unsigned hart) { in_s_mode(page_faults, hart, 1 << CAUSE_STORE_PAGE); }

/* -- address spaces: switch with ASIDs, then touch some pages */
static void switch_batch(uint64_t window)
{
    for (uint64_t i = 0; i < BATCH / 10; i++) {
        csr_write(satp, satp_for(roots[i % 2], SV39, 1 + i % 2));
        for (uint64_t k = 0; k < PAGES; k++)
            *(volatile uint64_t *)(window + k * PAGE_SIZE) += 1;
    }
}

static uint64_t switches(uint64_t hart)
{
    MEASURE(hart, BATCH / 10, switch_batch(window_of(hart)));
    return 0;
}

static void run_switches(unsigned hart) { in_s_mode(switches, hart, 0); }

const struct machine_kernel privileged_kernels[] = {
    {"system calls", "calls", 1, run_syscalls},
    {"page faults", "faults", 1, run_page_faults},
    {"satp switches", "switches", 1, run_switches},
    {0},
};
