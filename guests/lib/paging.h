/* Page tables for Sv39, Sv48 and Sv57 (privileged manual, "Supervisor-Level ISA"): tables come from a static pool. */
#ifndef PAGING_H
#define PAGING_H

#include "riscv.h"

enum pte_bits {
    PTE_V = 1 << 0,
    PTE_R = 1 << 1,
    PTE_W = 1 << 2,
    PTE_X = 1 << 3,
    PTE_U = 1 << 4,
    PTE_G = 1 << 5,
    PTE_A = 1 << 6,
    PTE_D = 1 << 7,
    PTE_RW = PTE_V | PTE_R | PTE_W | PTE_A | PTE_D,
    PTE_RWX = PTE_RW | PTE_X,
};

#define PAGE_SIZE 4096ul
#define MEGAPAGE (1ul << 21)
#define GIGAPAGE (1ul << 30)

/* How many levels of table a mode has; satp.MODE is levels + 5. */
enum paging_levels { SV39 = 3, SV48 = 4, SV57 = 5 };

/* U-mode sees RAM at RAM + USER_ALIAS after page_map_identity(): S-mode may not execute pages that U-mode may. */
#define USER_ALIAS (64ul << 30)

/* An empty table. Not to be called by two harts at once. */
uint64_t *page_table(void);
/* Gives back all tables. */
void page_tables_reset(void);

/* Maps one page of 4096 << 9 * level bytes. Overwrites what was there. */
void page_map(uint64_t *root, unsigned levels, uint64_t virtual, uint64_t physical, unsigned level, uint64_t flags);
/* The entry for `virtual` in the table of that level (0: 4 KiB pages), tables made as needed. */
uint64_t *page_entry(uint64_t *root, unsigned levels, uint64_t virtual, unsigned level);
/* The first 4 GiB as they are (devices and RAM) for S-mode, RAM once more at USER_ALIAS for U-mode, as gigapages. */
void page_map_identity(uint64_t *root, unsigned levels);

static inline uint64_t pte_leaf(uint64_t physical, uint64_t flags) { return physical >> 12 << 10 | flags; }
static inline uint64_t satp_for(const uint64_t *root, unsigned levels, uint64_t asid)
{
    return (uint64_t)(levels + 5) << 60 | asid << 44 | (uint64_t)root >> 12;
}

#endif
