/* Code that changes: FENCE.I, code pages remapped under SFENCE.VMA, instructions that straddle pages. */
#include "paging.h"
#include "test.h"

#define WINDOW (-(256ul << 30))
#define LI_A0(n) (0x513u | (uint32_t)(n) << 20)
#define RET 0x8067u

static uint32_t frames[3][PAGE_SIZE / 4] __attribute__((aligned(PAGE_SIZE)));

static uint64_t run(uint64_t address) { return ((uint64_t(*)(void))address)(); }

/* A function rewritten again and again; also from itself: the rest of it is new after FENCE.I. */
static void rewriting(void)
{
    frames[0][1] = RET;
    for (uint32_t i = 0; i < 2000; i++) {
        frames[0][0] = LI_A0(i);
        fence_i();
        EXPECT_EQ(run((uint64_t)frames[0]), i);
    }
    uint64_t result;
    asm volatile(".option push; .option norvc\n"
                 "  lla t0, 1f\n  li t1, 0x00700513\n" /* li a0, 7 */
                 "  sw t1, 0(t0)\n  fence.i\n"
                 "1: li a0, 3\n  mv %0, a0\n"
                 ".option pop" : "=r"(result) : : "t0", "t1", "a0", "memory");
    EXPECT_EQ(result, 7);
}

/* A loop patches its own body: it must leave when the branch becomes a jump out. */
static void loop_patches_itself(void)
{
    uint64_t turns;
    asm volatile(".option push; .option norvc\n"
                 "  li %0, 0\n  lla t0, 2f\n  li t1, 0x00000013\n  li t2, 100\n"
                 "1: addi %0, %0, 1\n  bne %0, t2, 2f\n  sw t1, 0(t0)\n  fence.i\n"
                 "2: j 1b\n" /* becomes a nop at the hundredth turn */
                 ".option pop" : "=&r"(turns) : : "t0", "t1", "t2", "memory");
    EXPECT_EQ(turns, 100);
}

/* Data beside code, in one page: stores that don't change instructions leave them alone. */
static void data_beside_code(void)
{
    frames[0][0] = LI_A0(5), frames[0][1] = RET;
    fence_i();
    for (uint32_t i = 2; i < PAGE_SIZE / 4; i++) {
        frames[0][i] = i;
        EXPECT_EQ(run((uint64_t)frames[0]), 5);
    }
}

static uint64_t *root;

static uint64_t in_s_mode(uint64_t address) { return call_in_mode(S_MODE, run, address, 0); }

static void remapping(void)
{
    for (unsigned i = 0; i < 3; i++) {
        frames[i][0] = LI_A0(100 + i), frames[i][1] = RET;
    }
    fence_i();
    for (unsigned i = 0; i < 300; i++) {
        page_map(root, SV39, WINDOW, (uint64_t)frames[i % 3], 0, PTE_RWX);
        i % 2 ? sfence_vma() : sfence_vma_page(WINDOW);
        EXPECT_EQ(in_s_mode(WINDOW), 100 + i % 3);
    }
}

/* An instruction whose halves are in two pages, each of which changes its frame. */
static void straddling(void)
{
    uint64_t last = WINDOW + PAGE_SIZE - 2;
    for (unsigned i = 0; i < 3; i++) {
        frames[i][PAGE_SIZE / 4 - 1] = (LI_A0(0) & 0xffff) << 16 | 1; /* c.nop, then the lower half */
        uint16_t *next = (uint16_t *)frames[i];
        next[0] = (uint16_t)(LI_A0(200 + i) >> 16);
        next[1] = 0x8082; /* c.ret */
    }
    fence_i();
    for (unsigned i = 0; i < 300; i++) {
        page_map(root, SV39, WINDOW, (uint64_t)frames[i / 3 % 3], 0, PTE_RWX);
        page_map(root, SV39, WINDOW + PAGE_SIZE, (uint64_t)frames[i % 3], 0, PTE_RWX);
        sfence_vma();
        EXPECT_EQ(in_s_mode(last), 200 + i % 3);
    }
    uint16_t *next = (uint16_t *)frames[1];
    page_map(root, SV39, WINDOW + PAGE_SIZE, (uint64_t)frames[1], 0, PTE_RWX);
    sfence_vma();
    for (unsigned i = 0; i < 100; i++) { /* the upper half is rewritten */
        next[0] = (uint16_t)(LI_A0(i) >> 16);
        fence_i();
        EXPECT_EQ(in_s_mode(last), i);
    }
    *page_entry(root, SV39, WINDOW + PAGE_SIZE, 0) = 0; /* the second half faults: epc is the instruction's */
    sfence_vma();
    EXPECT_EQ(attempt(S_MODE, fetch, last), CAUSE_FETCH_PAGE);
    EXPECT_EQ(this_hart()->epc, last);
    EXPECT_EQ(this_hart()->tval, WINDOW + PAGE_SIZE);
}

int main(void)
{
    open_to_lower_modes();
    rewriting();
    loop_patches_itself();
    data_beside_code();
    root = page_table();
    page_map_identity(root, SV39);
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    remapping();
    straddling();
    csr_write(satp, 0);
    sfence_vma();
    return test_result();
}
