/* Misaligned loads and stores of every size: within a page, across pages that are not neighbours, and into faults. */
#include "paging.h"
#include "test.h"
#include "text.h"

#define WINDOW (-(256ul << 30))

static uint8_t frames[3][PAGE_SIZE] __attribute__((aligned(PAGE_SIZE)));
static uint64_t *root;

static uint64_t read_bytes(const volatile uint8_t *p, unsigned size)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value |= (uint64_t)p[i] << 8 * i;
    return value;
}

static uint64_t load_signed(uint64_t address) /* sizes 2 and 4 with sign, and the FP loads, added up */
{
    int64_t half, word;
    uint64_t single, wide;
    asm volatile("lh %0, 0(%4)\n lw %1, 0(%4)\n flw ft0, 0(%4)\n fmv.x.w %2, ft0\n fld ft1, 0(%4)\n fmv.x.d %3, ft1"
                 : "=&r"(half), "=&r"(word), "=&r"(single), "=&r"(wide) : "r"(address) : "ft0", "ft1", "memory");
    return (uint64_t)half * 3 + (uint64_t)word * 5 + single * 7 + wide * 11;
}

static uint64_t store_fp(uint64_t address)
{
    uint64_t value = 0x8877665544332211;
    asm volatile("fmv.d.x ft0, %0\n fsd ft0, 0(%1)\n" : : "r"(value), "r"(address) : "ft0", "memory");
    return 0;
}

/* Every offset of a 16-byte span around `offset` in the frames that `low` and `high` (16 bytes on) stand for. */
static void everywhere(enum privilege mode, uint64_t at, uint8_t *low, uint8_t *high, unsigned first)
{
    uint8_t expected[32];
    for (unsigned start = 0; start < 16; start++) {
        for (unsigned i = 0; i < 32; i++)
            *(i < first ? low + i : high + i - first) = expected[i] = (uint8_t)(0x91 * i + 0x85 + start);
        uint64_t address = at + start;
        EXPECT_EQ(call_in_mode(mode, load16, address, 0), read_bytes(expected + start, 2));
        EXPECT_EQ(call_in_mode(mode, load32, address, 0), read_bytes(expected + start, 4));
        EXPECT_EQ(call_in_mode(mode, load64, address, 0), read_bytes(expected + start, 8));
        uint64_t half = (uint64_t)(int16_t)read_bytes(expected + start, 2);
        uint64_t word = (uint64_t)(int32_t)read_bytes(expected + start, 4);
        EXPECT_EQ(call_in_mode(mode, load_signed, address, 0),
                  half * 3 + word * 5 + word * 7 + read_bytes(expected + start, 8) * 11);
        static const struct { probe *store; unsigned size; } stores[] = {{store16, 2}, {store32, 4}, {store64, 8}};
        for (unsigned k = 0; k < 4; k++) { /* stores write their own address, but the FP one */
            call_in_mode(mode, k == 3 ? store_fp : stores[k].store, address, 0);
            uint64_t value = k == 3 ? 0x8877665544332211 : address;
            memcpy(expected + start, &value, k == 3 ? 8 : stores[k].size);
            for (unsigned i = 0; i < 32; i++)
                EXPECT_EQ(*(i < first ? low + i : high + i - first), expected[i]);
        }
    }
}

static void into_faults(void)
{
    uint64_t end = WINDOW + PAGE_SIZE;
    for (uint64_t address = end - 7; address < end; address++) {
        *page_entry(root, SV39, end, 0) = 0; /* the second page is not there: nothing is written to the first */
        sfence_vma();
        memset(frames[0], 0x5a, PAGE_SIZE);
        EXPECT_EQ(attempt(S_MODE, load64, address), CAUSE_LOAD_PAGE);
        EXPECT(this_hart()->tval == end || is_qemu()); /* the part that faults */
        EXPECT_EQ(attempt(S_MODE, store64, address), CAUSE_STORE_PAGE);
        EXPECT(this_hart()->tval == end || is_qemu());
        for (unsigned i = PAGE_SIZE - 8; i < PAGE_SIZE; i++)
            EXPECT_EQ(frames[0][i], 0x5a);
        page_map(root, SV39, end, (uint64_t)frames[2], 0, PTE_V | PTE_R | PTE_A); /* there, but read-only */
        sfence_vma();
        EXPECT_EQ(attempt(S_MODE, load64, address), NO_TRAP);
        EXPECT_EQ(attempt(S_MODE, store64, address), CAUSE_STORE_PAGE);
        for (unsigned i = PAGE_SIZE - 8; i < PAGE_SIZE; i++)
            EXPECT_EQ(frames[0][i], 0x5a);
        uint64_t saved = *page_entry(root, SV39, WINDOW, 0); /* the first page is not there */
        *page_entry(root, SV39, WINDOW, 0) = 0;
        sfence_vma();
        EXPECT_TRAP(S_MODE, load64, address, CAUSE_LOAD_PAGE);
        EXPECT_TRAP(S_MODE, store64, address, CAUSE_STORE_PAGE);
        *page_entry(root, SV39, WINDOW, 0) = saved;
        sfence_vma();
    }
}

int main(void)
{
    open_to_lower_modes();
    call_in_mode(S_MODE, load8, RAM, 0);
    everywhere(S_MODE, (uint64_t)frames[1] + 64, frames[1] + 64, frames[1] + 80, 16); /* no paging */
    everywhere(S_MODE, (uint64_t)frames[1] - 16, frames[1] - 16, frames[1], 16);
    root = page_table();
    page_map_identity(root, SV39);
    page_map(root, SV39, WINDOW, (uint64_t)frames[0], 0, PTE_RW);
    page_map(root, SV39, WINDOW + PAGE_SIZE, (uint64_t)frames[2], 0, PTE_RW);
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    everywhere(S_MODE, WINDOW + 128, frames[0] + 128, frames[0] + 144, 16);
    everywhere(S_MODE, WINDOW + PAGE_SIZE - 16, frames[0] + PAGE_SIZE - 16, frames[2], 16);
    into_faults();
    csr_write(satp, 0);
    sfence_vma();
    return test_result();
}
