/* See paging.h. */
#include "paging.h"

#include "hart.h"
#include "text.h"

enum { POOL_PAGES = 256 };

static uint64_t pool[POOL_PAGES][PAGE_SIZE / 8] __attribute__((aligned(4096)));
static unsigned pool_used;

uint64_t *page_table(void)
{
    if (pool_used == POOL_PAGES)
        panic("the pool of page tables is empty", 0, 0, 0);
    return memset(pool[pool_used++], 0, PAGE_SIZE);
}

void page_tables_reset(void) { pool_used = 0; }

uint64_t *page_entry(uint64_t *root, unsigned levels, uint64_t virtual, unsigned level)
{
    uint64_t *table = root;
    for (unsigned i = levels - 1;; i--) {
        uint64_t *entry = &table[virtual >> (12 + 9 * i) & 511];
        if (i == level)
            return entry;
        if (!(*entry & PTE_V))
            *entry = pte_leaf((uint64_t)page_table(), PTE_V);
        table = (uint64_t *)(*entry >> 10 << 12);
    }
}

void page_map(uint64_t *root, unsigned levels, uint64_t virtual, uint64_t physical, unsigned level, uint64_t flags)
{
    *page_entry(root, levels, virtual, level) = pte_leaf(physical, flags);
}

void page_map_identity(uint64_t *root, unsigned levels)
{
    for (uint64_t i = 0; i < 4; i++)
        page_map(root, levels, i * GIGAPAGE, i * GIGAPAGE, 2, i < 2 ? PTE_RW : PTE_RWX);
    for (uint64_t i = 2; i < 4; i++)
        page_map(root, levels, i * GIGAPAGE + USER_ALIAS, i * GIGAPAGE, 2, PTE_RWX | PTE_U);
}
