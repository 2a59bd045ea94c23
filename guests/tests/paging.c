/* Translation in Sv39, Sv48 and Sv57: every kind of page fault, permissions, superpages, SUM, MXR, MPRV, A and D. */
#include "paging.h"
#include "test.h"

#define MENVCFG_ADUE (1ul << 61)
#define WINDOW (-(256ul << 30)) /* where the tests map things; canonical in all modes, the identity mapping far away */

static uint64_t frame[2][PAGE_SIZE / 8] __attribute__((aligned(PAGE_SIZE)));
static uint64_t *root;
static unsigned levels;
static bool hardware_updates; /* of A and D bits (Svadu); else their absence faults (Svade) */

static uint64_t *window_entry(unsigned level) { return page_entry(root, levels, WINDOW, level); }

static void map_window(uint64_t pte)
{
    *window_entry(0) = pte;
    sfence_vma();
}

static uint64_t frame_pte(uint64_t flags) { return pte_leaf((uint64_t)frame[0], flags); }

static void expect_access(enum privilege mode, bool read, bool write, bool execute)
{
    EXPECT_TRAP(mode, load64, WINDOW, read ? NO_TRAP : CAUSE_LOAD_PAGE);
    EXPECT_TRAP(mode, load8, WINDOW + 4095, read ? NO_TRAP : CAUSE_LOAD_PAGE);
    EXPECT_TRAP(mode, lr64, WINDOW + 8, read ? NO_TRAP : CAUSE_LOAD_PAGE);
    EXPECT_TRAP(mode, store64, WINDOW + 8, write ? NO_TRAP : CAUSE_STORE_PAGE);
    if (read || !is_qemu()) /* it reports a load page fault */
        EXPECT_TRAP(mode, amo32, WINDOW + 16, write ? NO_TRAP : CAUSE_STORE_PAGE);
    EXPECT_TRAP(mode, fetch, WINDOW, execute ? NO_TRAP : CAUSE_FETCH_PAGE);
}

static void permissions(void)
{
    for (uint64_t rwx = 0; rwx < 8; rwx++) {
        bool r = rwx & 1, w = rwx & 2, x = rwx & 4, leaf = rwx && !(w && !r);
        for (int user = 0; user < 2; user++) {
            map_window(frame_pte(PTE_V | PTE_A | PTE_D | rwx << 1 | (user ? PTE_U : 0)));
            expect_access(user ? U_MODE : S_MODE, leaf && r, leaf && w, leaf && x);
            expect_access(user ? S_MODE : U_MODE, false, false, false);
        }
    }
    map_window(frame_pte(PTE_RWX) & ~(uint64_t)PTE_V);
    expect_access(S_MODE, false, false, false);
}

static void sum_and_mxr(void)
{
    map_window(frame_pte(PTE_RWX | PTE_U));
    csr_set(mstatus, MSTATUS_SUM);
    expect_access(S_MODE, true, true, false); /* S-mode never executes user pages */
    csr_clear(mstatus, MSTATUS_SUM);
    expect_access(S_MODE, false, false, false);
    map_window(frame_pte(PTE_V | PTE_X | PTE_A | PTE_D));
    csr_set(mstatus, MSTATUS_MXR);
    expect_access(S_MODE, true, false, true);
    csr_clear(mstatus, MSTATUS_MXR);
    expect_access(S_MODE, false, false, true);
}

/* MPRV makes M-mode's loads and stores go by the mode in MPP; fetches don't. */
static void mprv(void)
{
    struct hart *hart = this_hart();
    map_window(frame_pte(PTE_RW));
    frame[0][3] = 0x1234;
    hart->m_handler = expect_handler;
    csr_clear(mstatus, MSTATUS_MPP);
    csr_set(mstatus, 1ul << MSTATUS_MPP_SHIFT | MSTATUS_MPRV);
    uint64_t value = load64(WINDOW + 24);
    csr_clear(mstatus, MSTATUS_MPRV);
    EXPECT_EQ(value, 0x1234);
    hart->cause = NO_TRAP;
    csr_clear(mstatus, MSTATUS_MPP);
    csr_set(mstatus, MSTATUS_MPRV); /* as U-mode: no access */
    load64(WINDOW + 24);
    csr_clear(mstatus, MSTATUS_MPRV);
    EXPECT_EQ(hart->cause, CAUSE_LOAD_PAGE);
    hart->m_handler = NULL;
}

static void superpages(void)
{
    uint64_t target = (uint64_t)frame[1];
    frame[1][5] = 0xfeed;
    for (unsigned level = 1; level < levels; level++) {
        uint64_t size = PAGE_SIZE << 9 * level, base = target & ~(size - 1), window = WINDOW & ~(size - 1);
        uint64_t saved = *window_entry(level);
        *window_entry(level) = pte_leaf(base, PTE_RW);
        sfence_vma();
        EXPECT_EQ(call_in_mode(S_MODE, load64, window + target - base + 40, 0), 0xfeed);
        EXPECT_TRAP(S_MODE, store64, window + target - base + 48, NO_TRAP);
        EXPECT_EQ(frame[1][6], window + target - base + 48);
        for (uint64_t bit = 12; bit < 12 + 9 * level; bit += 4) { /* a misaligned superpage */
            *window_entry(level) = pte_leaf(base | 1ul << bit, PTE_RW);
            sfence_vma();
            EXPECT_TRAP(S_MODE, load64, window, CAUSE_LOAD_PAGE);
        }
        *window_entry(level) = saved;
        sfence_vma();
    }
}

static void malformed(void)
{
    map_window(pte_leaf((uint64_t)frame[0], PTE_V)); /* a pointer where only leaves may be */
    expect_access(S_MODE, false, false, false);
    static const uint64_t reserved[] = {1ul << 54, 1ul << 57, 1ul << 60};
    for (unsigned i = 0; i < sizeof reserved / sizeof *reserved; i++) {
        map_window(frame_pte(PTE_RWX) | reserved[i]);
        expect_access(S_MODE, false, false, false);
    }
    map_window(frame_pte(PTE_RWX | 3 << 8)); /* the two bits for software */
    expect_access(S_MODE, true, true, true);
    map_window(frame_pte(PTE_RWX));
    static const uint64_t bad_in_pointers[] = {PTE_A, PTE_D, PTE_U};
    for (unsigned i = 0; i < sizeof bad_in_pointers / sizeof *bad_in_pointers; i++) {
        *window_entry(1) ^= bad_in_pointers[i];
        sfence_vma();
        expect_access(S_MODE, false, false, false);
        *window_entry(1) ^= bad_in_pointers[i];
    }
    sfence_vma();
    expect_access(S_MODE, true, true, true);
    uint64_t width = 12 + 9 * levels; /* bits above must equal the highest one that is translated */
    for (uint64_t bit = width; bit < 64; bit += 5) {
        uint64_t address = WINDOW ^ 1ul << bit;
        EXPECT_TRAP(S_MODE, load64, address, CAUSE_LOAD_PAGE);
        EXPECT_TRAP(S_MODE, store64, address, CAUSE_STORE_PAGE);
    }
    EXPECT_TRAP(S_MODE, load64, 1ul << (width - 1), CAUSE_LOAD_PAGE);
    uint64_t top = -(uint64_t)PAGE_SIZE; /* the highest page is canonical */
    page_map(root, levels, top, (uint64_t)frame[0], 0, PTE_RW);
    sfence_vma();
    EXPECT_TRAP(S_MODE, load64, top, NO_TRAP);
    map_window(frame_pte(PTE_RWX));
    if (is_qemu()) /* it reports page faults */
        return;
    uint64_t saved = *window_entry(1); /* the table is where no memory is */
    *window_entry(1) = pte_leaf(NOTHING_THERE, PTE_V);
    sfence_vma();
    EXPECT_TRAP(S_MODE, load64, WINDOW, CAUSE_LOAD_ACCESS);
    EXPECT_TRAP(S_MODE, store64, WINDOW, CAUSE_STORE_ACCESS);
    EXPECT_TRAP(S_MODE, fetch, WINDOW, CAUSE_FETCH_ACCESS);
    *window_entry(1) = saved;
    sfence_vma();
}

static void accessed_and_dirty(void)
{
    uint64_t clean = frame_pte(PTE_RWX) & ~(uint64_t)(PTE_A | PTE_D);
    map_window(clean);
    EXPECT_TRAP(S_MODE, load64, WINDOW, hardware_updates ? NO_TRAP : CAUSE_LOAD_PAGE);
    EXPECT_EQ(*window_entry(0), clean | (hardware_updates ? PTE_A : 0));
    map_window(clean);
    EXPECT_TRAP(S_MODE, fetch, WINDOW, hardware_updates ? NO_TRAP : CAUSE_FETCH_PAGE);
    EXPECT_EQ(*window_entry(0), clean | (hardware_updates ? PTE_A : 0));
    map_window(clean);
    EXPECT_TRAP(S_MODE, store64, WINDOW + 64, hardware_updates ? NO_TRAP : CAUSE_STORE_PAGE);
    EXPECT_EQ(*window_entry(0), clean | (hardware_updates ? PTE_A | PTE_D : 0));
    map_window(clean | PTE_A); /* a load first: the entry in the TLB must not let stores pass */
    EXPECT_TRAP(S_MODE, load64, WINDOW, NO_TRAP);
    EXPECT_EQ(*window_entry(0), clean | PTE_A);
    EXPECT_TRAP(S_MODE, store64, WINDOW + 64, hardware_updates ? NO_TRAP : CAUSE_STORE_PAGE);
    EXPECT_EQ(*window_entry(0), clean | PTE_A | (hardware_updates ? PTE_D : 0));
    uint64_t read_only = clean & ~(uint64_t)PTE_W; /* a store that faults must not set anything */
    map_window(read_only);
    EXPECT_TRAP(S_MODE, store64, WINDOW, CAUSE_STORE_PAGE);
    EXPECT_EQ(*window_entry(0), read_only);
}

/* sfence.vma makes a changed entry visible: frame, permission, by page and for all. */
static void remapping(void)
{
    frame[0][7] = 100, frame[1][7] = 101;
    for (unsigned i = 0; i < 20; i++) {
        *window_entry(0) = pte_leaf((uint64_t)frame[i % 2], PTE_RW);
        i % 4 < 2 ? sfence_vma() : sfence_vma_page(WINDOW);
        EXPECT_EQ(call_in_mode(S_MODE, load64, WINDOW + 56, 0), 100 + i % 2);
    }
    *window_entry(0) = frame_pte(PTE_V | PTE_R | PTE_A);
    sfence_vma_page(WINDOW);
    EXPECT_TRAP(S_MODE, store64, WINDOW, CAUSE_STORE_PAGE);
    EXPECT_TRAP(S_MODE, load64, WINDOW, NO_TRAP);
}

static void run_mode(void)
{
    page_tables_reset();
    root = page_table();
    page_map_identity(root, levels);
    csr_write(satp, satp_for(root, levels, 0));
    if (csr_read(satp) >> 60 != levels + 5) {
        print("Sv%u is not there\n", 12 + 9 * levels);
        return;
    }
    print("Sv%u\n", 12 + 9 * levels);
    sfence_vma();
    for (unsigned i = 0; i < PAGE_SIZE / 8; i++)
        frame[0][i] = 0x0000806700008067; /* ret, ret */
    fence_i();
    user_offset = USER_ALIAS;
    permissions();
    frame[0][0] = frame[0][1] = 0x0000806700008067; /* the stores wrote there */
    fence_i();
    sum_and_mxr();
    mprv();
    superpages();
    frame[0][0] = frame[0][1] = 0x0000806700008067;
    fence_i();
    malformed();
    frame[0][0] = 0x0000806700008067;
    fence_i();
    accessed_and_dirty();
    remapping();
    csr_write(satp, 0);
    sfence_vma();
}

int main(void)
{
    open_to_lower_modes();
    for (int adue = 0; adue < 2; adue++) { /* both ways of A and D, where the hart has menvcfg.ADUE */
        if (attempt_instruction(M_MODE, 0x30a022f3) == NO_TRAP) { /* csrr t0, menvcfg */
            csr_clear(0x30a, MENVCFG_ADUE);
            csr_set(0x30a, adue ? MENVCFG_ADUE : 0);
            hardware_updates = csr_read(0x30a) & MENVCFG_ADUE;
        }
        if (!hardware_updates) { /* older harts update without asking */
            levels = SV39;
            page_tables_reset();
            root = page_table();
            page_map_identity(root, levels);
            csr_write(satp, satp_for(root, levels, 0));
            map_window(frame_pte(PTE_RW) & ~(uint64_t)PTE_A);
            hardware_updates = attempt(S_MODE, load64, WINDOW) == NO_TRAP;
        }
        print("A and D bits: %s\n", hardware_updates ? "set by hardware" : "page fault");
        for (levels = SV39; levels <= SV57; levels++)
            run_mode();
    }
    csr_write(satp, (uint64_t)2 << 60); /* a reserved mode: the write has no effect */
    EXPECT_EQ(csr_read(satp), 0);
    return test_result();
}
