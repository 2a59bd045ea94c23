/* Physical memory protection (privileged manual, section "Physical Memory Protection"): matching, priority, locking. */
#include "paging.h"
#include "test.h"

enum { PMP_R = 1, PMP_W = 2, PMP_X = 4, PMP_TOR = 1 << 3, PMP_NA4 = 2 << 3, PMP_NAPOT = 3 << 3, PMP_L = 0x80 };

static uint64_t page[16 * PAGE_SIZE / 8] __attribute__((aligned(16 * PAGE_SIZE)));

static uint64_t napot(uint64_t base, uint64_t size) { return (base + size / 2 - 1) >> 2; }

/* Entries 0..3, each its address register and configuration byte; the rest are off. */
static void set_entries(uint64_t a0, int c0, uint64_t a1, int c1, uint64_t a2, int c2, uint64_t a3, int c3)
{
    csr_write(pmpcfg0, 0);
    csr_write(pmpaddr0, a0);
    csr_write(pmpaddr1, a1);
    csr_write(pmpaddr2, a2);
    csr_write(pmpaddr3, a3);
    csr_write(pmpcfg0, (uint32_t)(c0 | c1 << 8 | c2 << 16) | (uint64_t)c3 << 24);
    sfence_vma();
}

static const uint64_t everything = UINT64_MAX >> 10;
enum { ALL = PMP_NAPOT | PMP_R | PMP_W | PMP_X };

static void expect_page(enum privilege mode, uint64_t offset, int rights)
{
    uint64_t address = (uint64_t)page + offset;
    EXPECT_TRAP(mode, load64, address, rights & PMP_R ? NO_TRAP : CAUSE_LOAD_ACCESS);
    EXPECT_TRAP(mode, store64, address, rights & PMP_W ? NO_TRAP : CAUSE_STORE_ACCESS);
    page[offset / 8] = 0x0000806700008067; /* ret: the store overwrote it */
    fence_i();
    EXPECT_TRAP(mode, fetch, address, rights & PMP_X ? NO_TRAP : CAUSE_FETCH_ACCESS);
}

/* Not even the way back to M-mode may be executed: opens memory, then does what expect_handler() does. */
static void open_and_return(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    set_entries(everything, ALL, 0, 0, 0, 0, 0, 0);
    expect_handler(hart, frame, cause, tval);
}

static void no_match(void)
{
    for (enum privilege mode = U_MODE; mode <= S_MODE; mode++) {
        set_entries(napot(NOTHING_THERE, 64), PMP_NAPOT | PMP_R, 0, 0, 0, 0, 0, 0); /* one that matches nothing */
        expect_page(M_MODE, 0, 7); /* M-mode may do everything, the others nothing */
        this_hart()->m_handler = open_and_return;
        this_hart()->traps = 0;
        call_in_mode(mode, (probe *)page, 0, 0);
        EXPECT_EQ(this_hart()->traps, 1);
        EXPECT_EQ(this_hart()->cause, CAUSE_FETCH_ACCESS);
    }
    this_hart()->m_handler = NULL;
}

static void rights(void)
{
    for (int rwx = 0; rwx < 8; rwx++) {
        if ((rwx & PMP_W) && !(rwx & PMP_R))
            continue; /* reserved */
        set_entries(napot((uint64_t)page, PAGE_SIZE), PMP_NAPOT | rwx, everything, ALL, 0, 0, 0, 0);
        for (uint64_t offset = 0; offset < PAGE_SIZE; offset += 1360) {
            expect_page(S_MODE, offset, rwx);
            expect_page(U_MODE, offset, rwx);
            expect_page(M_MODE, offset, 7);
        }
    }
}

/* The granularity, as the manual says how to find it out: 4 bytes up to a page. */
static uint64_t granularity(void)
{
    csr_write(pmpcfg0, 0);
    csr_write(pmpaddr0, UINT64_MAX);
    uint64_t writable = csr_read(pmpaddr0);
    EXPECT(writable != 0);
    return 4ul << __builtin_ctzl(writable);
}

static void regions(void)
{
    uint64_t base = (uint64_t)page, grain = granularity(), unit = grain < 64 ? 64 : grain;
    EXPECT(grain <= PAGE_SIZE);
    /* the lower entry decides: a hole of one unit in 16 readable ones */
    set_entries(napot(base + 8 * unit, unit), PMP_NAPOT, napot(base, 16 * unit), PMP_NAPOT | PMP_R, everything, ALL,
                0, 0);
    expect_page(S_MODE, 8 * unit - 8, PMP_R);
    expect_page(S_MODE, 8 * unit, 0);
    expect_page(S_MODE, 9 * unit - 8, 0);
    expect_page(S_MODE, 9 * unit, PMP_R);
    /* top of range: units 4 to 7 */
    set_entries((base + 4 * unit) >> 2, 0, (base + 8 * unit) >> 2, PMP_TOR | PMP_R | PMP_W, napot(base, 16 * unit),
                PMP_NAPOT, everything, ALL);
    expect_page(S_MODE, 4 * unit - 8, 0);
    expect_page(S_MODE, 4 * unit, PMP_R | PMP_W);
    expect_page(S_MODE, 8 * unit - 8, PMP_R | PMP_W);
    expect_page(S_MODE, 8 * unit, 0);
    /* an empty range matches nothing */
    set_entries((base + 8 * unit) >> 2, 0, (base + 4 * unit) >> 2, PMP_TOR, everything, ALL, 0, 0);
    expect_page(S_MODE, 4 * unit, 7);
    if (grain > 4) /* then NA4 can't be selected */
        return;
    /* four bytes; an access that an entry matches only in part fails */
    set_entries((base + 8) >> 2, PMP_NA4 | PMP_R, napot(base, PAGE_SIZE), PMP_NAPOT, everything, ALL, 0, 0);
    EXPECT_TRAP(S_MODE, load32, base + 8, NO_TRAP);
    EXPECT_TRAP(S_MODE, load32, base + 12, CAUSE_LOAD_ACCESS);
    EXPECT_TRAP(S_MODE, load64, base + 8, CAUSE_LOAD_ACCESS);
}

static void locked(void)
{
    uint64_t base = (uint64_t)page;
    csr_write(pmpaddr4, napot(base, PAGE_SIZE)); /* until reset: the last test */
    csr_write(pmpcfg0, csr_read(pmpcfg0) | (uint64_t)(PMP_L | PMP_NAPOT | PMP_R) << 32);
    set_entries(0, 0, 0, 0, 0, 0, 0, 0);
    EXPECT_TRAP(M_MODE, load64, base, NO_TRAP);
    EXPECT_TRAP(M_MODE, store64, base, CAUSE_STORE_ACCESS);
    EXPECT_TRAP(M_MODE, fetch, base, CAUSE_FETCH_ACCESS);
    csr_write(pmpaddr4, 0);
    csr_write(pmpcfg0, 0);
    EXPECT_EQ(csr_read(pmpaddr4), napot(base, PAGE_SIZE));
    EXPECT_EQ(csr_read(pmpcfg0) >> 32, PMP_L | PMP_NAPOT | PMP_R);
}

/* The walk reads page tables with S-mode's rights. */
static void page_tables_protected(void)
{
    uint64_t *root = page_table(), *other = page_table();
    page_map_identity(root, SV39);
    set_entries(napot((uint64_t)other, PAGE_SIZE), PMP_NAPOT, everything, ALL, 0, 0, 0, 0);
    root[5] = pte_leaf((uint64_t)other, PTE_V);
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    EXPECT_TRAP(S_MODE, load64, 5 * GIGAPAGE, CAUSE_LOAD_ACCESS);
    EXPECT_TRAP(S_MODE, store64, 5 * GIGAPAGE, CAUSE_STORE_ACCESS);
    EXPECT_TRAP(S_MODE, fetch, 5 * GIGAPAGE, CAUSE_FETCH_ACCESS);
    csr_write(satp, 0);
    sfence_vma();
}

int main(void)
{
    no_match();
    rights();
    regions();
    page_tables_protected();
    locked();
    return test_result();
}
