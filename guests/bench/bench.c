/* The benchmark guest: runs the kernels that the boot arguments ask for.
 *
 * Arguments: set=alone (portable and privileged kernels, each hart for itself), scaling (one kernel on 1..n harts), smp;
 * ms=N and warm=N, lengths of the measured pass and of the others; only=TEXT: kernels whose names begin so (_ for a blank).
 */
#include "bench.h"

#include "text.h"

enum { START_PASSES = 10 }; /* the time of so many goes by before the first kernel: a translator may be starting */
static const struct kernel *kernel;
static bool paging;
static uint64_t *root;

static uint64_t measure_kernel(uint64_t hart)
{
    uint8_t *memory = MEMORY_OF(hart);
    uint64_t check = 0;
    MEASURE(hart, kernel->work, check = kernel->run(memory));
    measured[hart].check = check;
    return 0;
}

static void prepare_kernel(unsigned hart)
{
    open_to_lower_modes();
    memset(MEMORY_OF(hart), 0, kernel->memory);
    if (kernel->prepare)
        kernel->prepare(MEMORY_OF(hart));
}

static void run_kernel(unsigned hart)
{
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
    for (uint64_t address = RAM; address < (uint64_t)MEMORY_OF(harts); address += PAGE_SIZE)
        page_map(root, SV39, address, address, 0, PTE_RWX);
}

bool wanted(const char *name)
{
    for (const char *only = argument_text("only"); *only; only++, name++)
        if (*name != (*only == '_' ? ' ' : *only))
            return false;
    return true;
}

static void measure_portable(const char *name, bool with_paging)
{
    paging = with_paging;
    parallel(prepare_kernel, players);
    measure(name, kernel->unit, paging ? "S" : "M", run_kernel);
}

static void run_portable(bool with_paging)
{
    for (const struct kernel *const *k = kernels; (kernel = *k); k++)
        if (wanted(kernel->name))
            measure_portable(kernel->name, with_paging);
}

int main(void)
{
    uint64_t ms = argument("ms", 300);
    last_duration = ms * (MTIME_HZ / 1000);
    first_duration = argument("warm", ms / 3) * (MTIME_HZ / 1000);
    players = harts;
    wait_until(false, START_PASSES * first_duration);
    if (!strcmp(argument_text("set"), "alone")) {
        make_tables();
        prepare_privileged();
        run_portable(false);
        run_portable(true);
        measure_all(privileged_kernels, "S");
    } else if (!strcmp(argument_text("set"), "scaling")) {
        kernel = &kernel_coremark_like;
        for (players = 1; players <= harts; players++)
            measure_portable("scaling", false);
    } else {
        measure_all(contended_kernels, "M");
        measure_all(ipi_kernels, "M");
    }
    return 0;
}
