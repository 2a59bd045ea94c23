/* LR/SC: what must fail, counters and a lock-free stack on all harts, and exactness: no ABA.
 *
 * The ABA tests fail by design on emulators whose SC compares values; the boot argument exact=0 leaves them out.
 */
#include "sync.h"
#include "test.h"

static uint64_t rounds;

static inline uint64_t lr(volatile uint64_t *p)
{
    uint64_t value;
    asm volatile("lr.d.aqrl %0, (%1)" : "=r"(value) : "r"(p) : "memory");
    return value;
}

static inline bool sc(volatile uint64_t *p, uint64_t value)
{
    uint64_t failed;
    asm volatile("sc.d.aqrl %0, %1, (%2)" : "=r"(failed) : "r"(value), "r"(p) : "memory");
    return !failed;
}

/* Alone: an SC without a reservation, elsewhere, or a second one fails; the simple loop succeeds soon. */
static void single(void)
{
    static uint64_t a[32] __attribute__((aligned(64)));
    a[0] = 1;
    uint64_t tries = 0;
    do
        EXPECT_EQ(lr(a), 1);
    while (!sc(a, 2) && ++tries < 1000000);
    EXPECT_EQ(a[0], 2);
    EXPECT(!sc(a, 3)); /* the reservation is used up */
    EXPECT_EQ(a[0], 2);
    lr(a);
    EXPECT(!sc(a + 16, 4)); /* another granule */
    EXPECT_EQ(a[16], 0);
    EXPECT(!sc(a, 5)); /* given up by the failed one */
    uint32_t word = 0x80000001, failed;
    int64_t loaded;
    do
        asm volatile("lr.w %0, (%2)\n sc.w %1, zero, (%2)" : "=&r"(loaded), "=&r"(failed) : "r"(&word) : "memory");
    while (failed);
    EXPECT_EQ(loaded, (int64_t)(int32_t)0x80000001);
    EXPECT_EQ(word, 0);
}

static uint64_t counter CACHE_ALIGNED;
static uint32_t words[2] CACHE_ALIGNED;

static void count(unsigned hart)
{
    for (uint64_t i = 0; i < rounds; i++) {
        lrsc_add(&counter, 1);
        uint32_t old, new, failed, *word = &words[hart & 1]; /* two words of one granule */
        asm volatile("1: lr.w %0, (%3)\n addi %1, %0, 1\n sc.w %2, %1, (%3)\n bnez %2, 1b"
                     : "=&r"(old), "=&r"(new), "=&r"(failed) : "r"(word) : "memory");
    }
}

/* A Treiber stack without tags, which only an exact SC keeps whole: nodes move from hart to hart and come back. */
enum { NODES = 16 };
static struct node {
    struct node *next;
    uint32_t owner; /* hart + 1 while popped */
} nodes[NODES];
static uint64_t top CACHE_ALIGNED;
static uint32_t corrupt;

static struct node *pop(void)
{
    struct node *node, *next;
    do {
        node = (struct node *)lr(&top);
        if (!node)
            return NULL;
        next = load_relaxed(&node->next); /* a load between LR and SC: allowed to fail, not to be wrong */
    } while (!sc(&top, (uint64_t)next));
    return node;
}

static void push(struct node *node)
{
    do
        store_relaxed(&node->next, (struct node *)load_relaxed(&top)); /* stored outside the LR/SC pair */
    while ((struct node *)lr(&top) != node->next || !sc(&top, (uint64_t)node));
}

static void stack_work(unsigned hart)
{
    for (uint64_t i = 0; i < rounds; i++) {
        struct node *one = pop(), *two = pop();
        struct node *held[] = {one, two};
        for (int k = 0; k < 2; k++)
            if (held[k] && __atomic_exchange_n(&held[k]->owner, hart + 1, __ATOMIC_ACQ_REL))
                fetch_add(&corrupt, 1); /* somebody else has it too */
        for (int k = 0; k < 2; k++) /* the first popped goes back first: what makes ABA likely */
            if (held[k]) {
                store_release(&held[k]->owner, 0);
                push(held[k]);
            }
    }
}

/* Between one hart's LR and SC another stores to the granule: the SC must fail, whatever was stored. */
static uint64_t target[8] CACHE_ALIGNED;
static uint32_t phase CACHE_ALIGNED;
static uint32_t wrong;
enum { KINDS = 6 };

static void disturb(uint64_t kind)
{
    switch (kind) {
    case 0: store_relaxed(&target[0], 1), store_relaxed(&target[0], 0); break; /* A, B, A */
    case 1: store_relaxed(&target[0], 0); break;                               /* the same value */
    case 2: store_relaxed((uint8_t *)target + 3, 0); break;                    /* one byte of it */
    case 3: __atomic_fetch_add(&target[0], 0, __ATOMIC_RELAXED); break;        /* an AMO that changes nothing */
    case 4: lrsc_add(&target[0], 1), lrsc_add(&target[0], -1ul); break;
    case 5: asm volatile("fsd %0, 0(%1)" : : "f"(0.0), "r"(target) : "memory"); break;
    }
    full_fence();
}

static void exact_work(unsigned hart)
{
    for (uint32_t i = 0; hart < 2 && i < rounds; i++) { /* harts 0 and 1 hand each other the turn */
        uint32_t go = 2 * i + 1, done = go + 1;
        if (hart == 0) {
            lr(target);
            store_release(&phase, go); /* another granule */
            while (load_acquire(&phase) != done)
                cpu_pause();
            if (sc(target, 0))
                fetch_add(&wrong, 1);
        } else {
            while (load_acquire(&phase) != go)
                cpu_pause();
            disturb(i % KINDS);
            store_release(&phase, done);
        }
    }
}

/* All at once, without turns: hart 0's LR/SC section is right only if nobody stored in it. */
static uint64_t stamp CACHE_ALIGNED;
static uint32_t finished;

static void torture(unsigned hart)
{
    if (hart == 0) {
        for (uint64_t i = 0; i < rounds; i++) {
            lr(target);
            uint64_t inside = load_acquire(&stamp);
            for (volatile int k = 0; k < 20; k++)
                ;
            uint64_t after = load_acquire(&stamp);
            /* odd: in the middle of an ABA. Was there a whole one, begun and ended between LR and SC? */
            if (sc(target, 0) && (after & ~1ul) - ((inside + 1) & ~1ul) >= 2 && after > inside)
                fetch_add(&wrong, 1);
        }
        store_release(&finished, 1);
    } else if (hart == 1) {
        while (!load_acquire(&finished)) {
            store_release(&stamp, stamp + 1);
            store_relaxed(&target[0], 1);
            store_release(&target[0], 0);
            full_fence();
            store_release(&stamp, stamp + 1);
        }
    }
}

int main(void)
{
    rounds = argument("rounds", 3000);
    single();
    parallel(count, harts);
    EXPECT_EQ(counter, harts * rounds);
    EXPECT_EQ(words[0], (harts + 1) / 2 * rounds);
    EXPECT_EQ(words[1], harts / 2 * rounds);
    if (argument("exact", 1) && harts > 1) {
        for (unsigned i = 0; i < NODES; i++)
            push(&nodes[i]);
        parallel(stack_work, harts);
        EXPECT_EQ(corrupt, 0);
        unsigned left = 0;
        while (pop())
            left++;
        EXPECT_EQ(left, NODES);
        parallel(exact_work, harts);
        EXPECT_EQ(wrong, 0);
        wrong = 0;
        parallel(torture, harts);
        EXPECT_EQ(wrong, 0);
    }
    return test_result();
}
