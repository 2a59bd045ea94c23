/* In S-mode under Sv39: a TLB shootdown, and a parallel prime sieve. */
#include "smp.h"
#include "text.h"

static uint64_t *root;

/* Runs function(hart) in S-mode with the identity mapping at `root`, on every hart. */
static void in_s_mode(uint64_t (*function)(uint64_t), unsigned hart)
{
    open_to_lower_modes();
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    call_in_mode(S_MODE, function, hart, 0);
    csr_write(satp, 0);
    sfence_vma();
}

static void make_tables(void)
{
    page_tables_reset();
    root = page_table();
    page_map_identity(root, SV39);
}

/* -- all harts read a window; hart 0 maps another page there and makes the others forget the old one by IPI. */
#define WINDOW (128ul << 30)
static uint64_t frames[2][PAGE_SIZE / 8] __attribute__((aligned(4096)));
static uint32_t flushed, wrong_reads;
static struct barrier step;

static void flush_interrupt(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    if (cause != (CAUSE_INTERRUPT | IRQ_MSI))
        panic("TLB shootdown: not an IPI", cause, frame->pc, tval);
    ipi_clear(hart->id);
    sfence_vma();
    fetch_add(&flushed, 1);
}

static uint64_t shootdown_rounds(uint64_t hart)
{
    volatile uint64_t *window = (volatile uint64_t *)WINDOW;
    for (unsigned i = 1; i <= (scale ? 1000 : 20); i++) {
        if (hart == 0) {
            store_relaxed(&flushed, 0);
            store_relaxed(page_entry(root, SV39, WINDOW, 0), pte_leaf((uint64_t)frames[i % 2], PTE_RW));
            full_fence();
            sfence_vma_page(WINDOW);
            for (unsigned other = 1; other < harts; other++)
                ipi_send(other);
            while (load_acquire(&flushed) != harts - 1)
                cpu_pause();
        }
        barrier_wait(&step, harts);
        if (*window != 1000 + i % 2)
            fetch_add(&wrong_reads, 1);
        barrier_wait(&step, harts);
    }
    return 0;
}

static void shootdown_work(unsigned hart)
{
    this_hart()->m_handler = flush_interrupt;
    csr_write(mie, IRQ_BIT(IRQ_MSI)); /* M-mode interrupts are always on below M-mode */
    in_s_mode(shootdown_rounds, hart);
    csr_write(mie, 0);
    this_hart()->m_handler = NULL;
}

bool test_shootdown(void)
{
    make_tables();
    frames[0][0] = 1000, frames[1][0] = 1001;
    page_map(root, SV39, WINDOW, (uint64_t)frames[0], 0, PTE_RW);
    parallel(shootdown_work, harts);
    return wrong_reads == 0;
}

/* -- primes below a limit: odd numbers in segments that harts take one after the other. */
enum { SEGMENT = 1 << 15 }; /* odd numbers in a segment */
static const struct { uint32_t limit, primes; } sieves[] = {{1000000, 78498}, {100000000, 5761455}, {1000000000, 50847534}};
static uint32_t limit, small_primes[3500], small_count, next_segment, segments, reported;
static uint64_t prime_count;
static uint8_t composite[MAX_HARTS][SEGMENT] CACHE_ALIGNED;

static void find_small_primes(void)
{
    small_count = 0;
    for (uint32_t n = 3; (uint64_t)n * n <= limit; n += 2) {
        bool prime = true;
        for (uint32_t i = 0; prime && i < small_count && small_primes[i] * small_primes[i] <= n; i++)
            prime = n % small_primes[i] != 0;
        if (prime)
            small_primes[small_count++] = n;
    }
}

static uint32_t sieve_segment(uint8_t *marks, uint64_t low) /* odd numbers low, low + 2, ...; low is odd */
{
    uint64_t high = low + 2 * SEGMENT;
    uint32_t count = 0;
    memset(marks, 0, SEGMENT);
    for (uint32_t i = 0; i < small_count && (uint64_t)small_primes[i] * small_primes[i] < high; i++) {
        uint64_t p = small_primes[i], first = p * p;
        if (first < low) {
            first = (low + p - 1) / p * p;
            first += first % 2 ? 0 : p;
        }
        for (uint64_t j = (first - low) / 2; j < SEGMENT; j += p)
            marks[j] = 1;
    }
    for (uint32_t j = 0; j < SEGMENT && low + 2 * j <= limit; j++)
        count += !marks[j];
    return count;
}

static uint64_t sieve(uint64_t hart)
{
    uint32_t count = 0, done = 0;
    for (uint32_t segment; (segment = fetch_add(&next_segment, 1)) < segments; done++) {
        count += sieve_segment(composite[hart], (uint64_t)segment * 2 * SEGMENT + 1);
        uint32_t quarter = (uint64_t)segment * 4 / segments;
        if (scale && quarter > load_relaxed(&reported) && quarter == fetch_add(&reported, 1) + 1)
            print("  hart %u: primes %u %%\n", (unsigned)hart, 25 * quarter);
    }
    fetch_add(&prime_count, count);
    if (scale)
        print("  hart %u: %u segments, %u primes\n", (unsigned)hart, done, count);
    return 0;
}

static void sieve_work(unsigned hart) { in_s_mode(sieve, hart); }

bool test_primes(void)
{
    unsigned which = scale > 2 ? 2 : scale;
    make_tables();
    limit = sieves[which].limit;
    segments = limit / (2 * SEGMENT) + 1;
    find_small_primes();
    parallel(sieve_work, harts);
    return prime_count == sieves[which].primes; /* counting 1 as prime makes up for 2, which is not odd */
}
