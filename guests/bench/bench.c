/* Runs the kernels that the boot arguments ask for and prints a line for each:
 *
 *   bench NAME|UNIT|MODE|HARTS|WORK|TICKS|LEAST|MOST|CHECK
 *
 * WORK is the sum over all harts, TICKS the longest time of any (10 MHz), LEAST and MOST the work of single harts.
 * Arguments: set=alone (portable and privileged kernels, one hart), scaling (one kernel on 1..n harts), smp; ms=N per
 * kernel; only=TEXT: kernels whose names begin so (_ for a blank).
 */
#include "bench.h"

#include "text.h"

struct measured measured[MAX_HARTS];
uint64_t duration, warm_up;
unsigned players;

#define MEMORY (RAM + (32ul << 20)) /* behind the program: 64 MiB, or 4 MiB for each of 16 harts */
#define MEMORY_OF(hart) ((uint8_t *)(MEMORY + ((uint64_t)(hart) << 22)))

static const struct kernel *kernel;
static bool paging;
static uint64_t *root;

static void report(const char *name, const char *unit, const char *mode)
{
    uint64_t work = 0, ticks = 0, least = UINT64_MAX, most = 0;
    for (unsigned i = 0; i < players; i++) {
        struct measured *m = &measured[i];
        work += m->work;
        ticks = m->ticks > ticks ? m->ticks : ticks;
        least = m->work < least ? m->work : least;
        most = m->work > most ? m->work : most;
    }
    print("bench %s|%s|%s|%u|%lu|%lu|%lu|%lu|%lx\n", name, unit, mode, players, work, ticks, least, most,
          measured[0].check);
}

static uint64_t measure_kernel(uint64_t hart)
{
    uint8_t *memory = MEMORY_OF(hart);
    uint64_t check = 0;
    MEASURE(hart, kernel->work, check = kernel->run(memory));
    measured[hart].check = check;
    return 0;
}

static void run_kernel(unsigned hart)
{
    open_to_lower_modes();
    memset(MEMORY_OF(hart), 0, kernel->memory);
    if (kernel->prepare)
        kernel->prepare(MEMORY_OF(hart));
    if (!paging) {
        measure_kernel(hart);
        return;
    }
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    call_in_mode(S_MODE, measure_kernel, hart, 0);
    csr_write(satp, 0);
    sfence_vma();
}

/* RAM in 4 KiB pages, as an operating system would map a program's memory; devices as a gigapage. */
static void make_tables(void)
{
    root = page_table();
    page_map_identity(root, SV39);
    *page_entry(root, SV39, RAM, 2) = 0;
    for (uint64_t offset = 0; offset < 96ul << 20; offset += PAGE_SIZE)
        page_map(root, SV39, RAM + offset, RAM + offset, 0, PTE_RWX);
}

static bool wanted(const char *name)
{
    for (const char *only = argument_text("only"); *only; only++, name++)
        if (*name != (*only == '_' ? ' ' : *only))
            return false;
    return true;
}

static void run_portable(bool with_paging)
{
    paging = with_paging;
    for (const struct kernel *const *k = kernels; (kernel = *k); k++) {
        if (!wanted(kernel->name))
            continue;
        parallel(run_kernel, players);
        report(kernel->name, kernel->unit, paging ? "S" : "M");
    }
}

static void run_machine(const struct machine_kernel *k, const char *mode)
{
    for (; k->name; k++) {
        if (k->least_harts > players || !wanted(k->name))
            continue;
        memset(measured, 0, sizeof measured);
        parallel(k->run, players);
        report(k->name, k->unit, mode);
    }
}

int main(void)
{
    uint64_t ms = argument("ms", 300);
    duration = ms * (MTIME_HZ / 1000);
    warm_up = duration / 3;
    make_tables();
    if (!strcmp(argument_text("set"), "alone")) {
        players = 1;
        run_portable(false);
        run_portable(true);
        run_machine(privileged_kernels, "S");
    } else if (!strcmp(argument_text("set"), "scaling")) {
        for (players = 1; players <= harts; players++) {
            kernel = &kernel_coremark_like;
            paging = false;
            parallel(run_kernel, players);
            report("scaling", kernel->unit, "M");
        }
    } else {
        players = harts;
        run_machine(smp_kernels, "M");
    }
    return 0;
}
