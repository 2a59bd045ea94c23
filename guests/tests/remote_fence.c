/* One hart changes code, mappings and permissions that all the others use, and tells them by IPI (as an SBI does). */
#include "paging.h"
#include "sync.h"
#include "test.h"

#define WINDOW (-(256ul << 30))
#define LI_A0(n) (0x513u | (uint32_t)(n) << 20)
#define RET 0x8067u

static uint64_t rounds, *root;
static uint32_t code[PAGE_SIZE / 4] __attribute__((aligned(PAGE_SIZE))); /* nothing else in its page */
static uint64_t frames[2][PAGE_SIZE / 8] __attribute__((aligned(PAGE_SIZE)));
static uint32_t acknowledged CACHE_ALIGNED, wrong_code CACHE_ALIGNED, wrong_data, finished;
static uint64_t current CACHE_ALIGNED; /* round whose changes all harts have acknowledged */

static void fence_interrupt(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval)
{
    if (cause == CAUSE_STORE_PAGE) { /* probing the window for writing */
        hart->traps++;
        frame->pc += 4;
        return;
    }
    if (cause != (CAUSE_INTERRUPT | IRQ_MSI))
        panic("remote fence: not an IPI", cause, frame->pc, tval);
    ipi_clear(hart->id);
    fence_i();
    sfence_vma();
    fetch_add(&acknowledged, 1);
}

static void fence_everybody(void)
{
    store_relaxed(&acknowledged, 0);
    full_fence();
    fence_i();
    sfence_vma();
    for (unsigned other = 1; other < harts; other++)
        ipi_send(other);
    while (load_acquire(&acknowledged) != harts - 1)
        cpu_pause();
}

/* Hart 0 goes on changing; the others look all the time. What they see may be that of the change under way, never older
 * than the last one that everybody has acknowledged. */
static uint64_t observe(uint64_t unused)
{
    while (!load_acquire(&finished)) {
        uint64_t before = load_acquire(&current);
        uint64_t called = ((uint64_t(*)(void))(uint64_t)code)(), read = load_relaxed((uint64_t *)WINDOW);
        uint64_t after = load_acquire(&current);
        if (called < before || called > after + 1)
            fetch_add(&wrong_code, 1);
        if (read < before || read > after + 1)
            fetch_add(&wrong_data, 1);
    }
    return unused;
}

static uint64_t change(uint64_t unused)
{
    for (uint64_t i = 1; i <= rounds; i++) {
        store_relaxed(&code[0], LI_A0(i));
        store_relaxed(&frames[i % 2][0], i);
        store_relaxed(page_entry(root, SV39, WINDOW, 0), pte_leaf((uint64_t)frames[i % 2], PTE_RW));
        fence_everybody();
        store_release(&current, i);
    }
    store_release(&finished, 1);
    return unused;
}

/* In step: after the fence every hart must see exactly this round's function, frame and permission. */
static struct barrier step;
static uint64_t in_step(uint64_t hart)
{
    struct hart *me = this_hart();
    for (uint64_t i = 1; i <= rounds; i++) {
        if (hart == 0) {
            store_relaxed(&code[0], LI_A0(i));
            store_relaxed(page_entry(root, SV39, WINDOW, 0),
                          pte_leaf((uint64_t)frames[i % 2], i % 3 ? PTE_RW : PTE_V | PTE_R | PTE_A | PTE_D));
            fence_everybody();
        }
        barrier_wait(&step, harts);
        me->traps = 0;
        store64(WINDOW + 8 + 8 * (hart & 255));
        if (me->traps != (i % 3 == 0) || load_relaxed((uint64_t *)WINDOW) != i % 2)
            fetch_add(&wrong_data, 1);
        if (((uint64_t(*)(void))(uint64_t)code)() != i)
            fetch_add(&wrong_code, 1);
        barrier_wait(&step, harts);
    }
    return 0;
}

static void work(unsigned hart)
{
    open_to_lower_modes();
    this_hart()->m_handler = fence_interrupt;
    csr_write(mie, IRQ_BIT(IRQ_MSI));
    csr_write(satp, satp_for(root, SV39, 0));
    sfence_vma();
    call_in_mode(S_MODE, in_step, hart, 0);
    barrier_wait(&step, harts);
    if (hart == 0) {
        store_relaxed(&code[0], LI_A0(0));
        store_relaxed(&frames[0][0], 0);
        store_relaxed(page_entry(root, SV39, WINDOW, 0), pte_leaf((uint64_t)frames[0], PTE_RW));
    }
    barrier_wait(&step, harts);
    fence_i();
    sfence_vma();
    barrier_wait(&step, harts);
    call_in_mode(S_MODE, hart == 0 ? change : observe, hart, 0);
    csr_write(satp, 0);
    sfence_vma();
    csr_write(mie, 0);
    this_hart()->m_handler = NULL;
}

int main(void)
{
    rounds = argument("rounds", 200);
    if (rounds > 2000) /* they must fit the immediate of LI_A0 */
        rounds = 2000;
    code[0] = LI_A0(0), code[1] = RET;
    frames[1][0] = 1;
    root = page_table();
    page_map_identity(root, SV39);
    page_map(root, SV39, WINDOW, (uint64_t)frames[0], 0, PTE_RW);
    fence_i();
    parallel(work, harts);
    EXPECT_EQ(wrong_data, 0);
    if (!is_qemu()) /* now and then it runs a whole round with the code of the one before */
        EXPECT_EQ(wrong_code, 0);
    return test_result();
}
