/* Kernels that move and search data. */
#include "kernels.h"

/* -- quicksort of 64-bit integers */
enum { SORT_COUNT = 4096 };
static void quicksort(uint64_t *low, uint64_t *high) /* both inclusive */
{
    while (high - low > 12) {
        uint64_t pivot = low[(high - low) / 2], *i = low, *j = high;
        while (i <= j) {
            while (*i < pivot)
                i++;
            while (*j > pivot)
                j--;
            if (i <= j) {
                uint64_t t = *i;
                *i++ = *j;
                *j-- = t;
            }
        }
        if (j - low < high - i) {
            quicksort(low, j);
            low = i;
        } else {
            quicksort(i, high);
            high = j;
        }
    }
    for (uint64_t *i = low + 1; i <= high; i++) {
        uint64_t value = *i, *j = i;
        for (; j > low && j[-1] > value; j--)
            *j = j[-1];
        *j = value;
    }
}

static uint64_t run_sort(uint8_t *memory)
{
    uint64_t *values = (uint64_t *)memory, seed = 42, sum = 0;
    for (int i = 0; i < SORT_COUNT; i++)
        values[i] = next_random(&seed);
    quicksort(values, values + SORT_COUNT - 1);
    for (int i = 0; i < SORT_COUNT; i++)
        sum = sum * 3 + values[i];
    return sum;
}
const struct kernel kernel_sort = {"sort", "numbers", SORT_COUNT, 8 * SORT_COUNT, NULL, run_sort};

/* -- a linked list in shuffled order, inserted into by key, searched */
struct node {
    struct node *next;
    uint64_t key;
};
enum { NODES = 256 };
static uint64_t run_list(uint8_t *memory)
{
    struct node *nodes = (struct node *)memory, *head = NULL;
    uint64_t seed = 99, sum = 0;
    for (int i = 0; i < NODES; i++) {
        struct node *node = &nodes[i * 37 % NODES], **place = &head;
        node->key = next_random(&seed);
        while (*place && (*place)->key < node->key)
            place = &(*place)->next;
        node->next = *place;
        *place = node;
    }
    for (struct node *node = head; node; node = node->next)
        sum = sum * 7 + node->key;
    return sum;
}
const struct kernel kernel_list = {"list", "insertions", NODES, NODES * sizeof(struct node), NULL, run_list};

/* -- words counted in a hash table of strings */
enum { TEXT = 16384, BUCKETS = 256, WORDS = 512 };
struct word {
    const uint8_t *text;
    uint32_t length, count;
};
struct strings {
    uint8_t text[TEXT];
    struct word table[BUCKETS * 4];
};
static void prepare_strings(uint8_t *memory)
{
    struct strings *s = (struct strings *)memory;
    uint64_t seed = 5;
    for (int i = 0; i < TEXT;) {
        uint64_t word = next_random(&seed) % 300;
        for (uint64_t k = 0; k < 3 + word % 7 && i < TEXT; k++)
            s->text[i++] = (uint8_t)('a' + (word * (k + 3) + k) % 26);
        if (i < TEXT)
            s->text[i++] = ' ';
    }
}

static uint64_t run_strings(uint8_t *memory)
{
    struct strings *s = (struct strings *)memory;
    uint64_t sum = 0;
    for (unsigned i = 0; i < BUCKETS * 4; i++)
        s->table[i].count = 0;
    for (uint32_t i = 0; i < TEXT;) {
        uint32_t start = i, hash = 0;
        for (; i < TEXT && s->text[i] != ' '; i++)
            hash = hash * 31 + s->text[i];
        for (uint32_t slot = hash % (BUCKETS * 4);; slot = (slot + 1) % (BUCKETS * 4)) {
            struct word *word = &s->table[slot];
            if (!word->count) {
                word->text = &s->text[start], word->length = i - start, word->count = 1;
                break;
            }
            uint32_t k = 0;
            while (word->length == i - start && k < word->length && word->text[k] == s->text[start + k])
                k++;
            if (k == word->length) {
                word->count++;
                break;
            }
        }
        i++;
    }
    for (unsigned i = 0; i < BUCKETS * 4; i++)
        sum = sum * 5 + s->table[i].count;
    return sum;
}
const struct kernel kernel_strings = {"strings", "bytes", TEXT, sizeof(struct strings), prepare_strings, run_strings};

/* -- memory: copy, fill, a = b + 3 * c */
enum { BLOCK = 65536 };
static uint64_t run_memcpy(uint8_t *memory)
{
    const volatile uint64_t *from = (const uint64_t *)memory; /* volatile: the loop is the kernel, not a library call */
    volatile uint64_t *to = (uint64_t *)(memory + BLOCK);
    for (size_t i = 0; i < BLOCK / 8; i += 4) {
        uint64_t a = from[i], b = from[i + 1], c = from[i + 2], d = from[i + 3];
        to[i] = a, to[i + 1] = b, to[i + 2] = c, to[i + 3] = d;
    }
    return to[17];
}
const struct kernel kernel_memcpy = {"memcpy", "bytes", BLOCK, 2 * BLOCK, NULL, run_memcpy};

static uint64_t run_fill(uint8_t *memory)
{
    volatile uint64_t *to = (uint64_t *)memory;
    for (size_t i = 0; i < BLOCK / 8; i += 4)
        to[i] = i, to[i + 1] = i, to[i + 2] = i, to[i + 3] = i;
    return to[16];
}
const struct kernel kernel_fill = {"fill", "bytes", BLOCK, BLOCK, NULL, run_fill};

static uint64_t run_triad(uint8_t *memory)
{
    volatile double *a = (double *)memory, *b = a + BLOCK / 8, *c = b + BLOCK / 8;
    for (size_t i = 0; i < BLOCK / 8; i++)
        a[i] = b[i] + 3 * c[i];
    return (uint64_t)a[5];
}
const struct kernel kernel_triad = {"triad", "bytes", 3 * BLOCK, 3 * BLOCK, NULL, run_triad};

/* -- a random cycle through 64 MiB */
enum { CHASE_BYTES = 64 << 20, STRIDE = 64, STEPS = 4096 };
static void prepare_chase(uint8_t *memory)
{
    uint64_t count = CHASE_BYTES / STRIDE, step = 1;
    uint64_t position = 0; /* a full-period linear congruential sequence visits every line once */
    for (uint64_t i = 0; i < count; i++) {
        uint64_t next = (position * 1664525 + 1013904223) % count;
        *(uint64_t *)(memory + position * STRIDE) = next * STRIDE;
        position = next;
    }
    *(uint64_t *)(memory + 8) = step;
}

static uint64_t run_chase(uint8_t *memory)
{
    uint64_t position = 0, sum = 0;
    for (int i = 0; i < STEPS; i++) {
        position = *(volatile uint64_t *)(memory + position);
        sum += position;
    }
    return sum;
}
const struct kernel kernel_chase = {"pointer chase", "steps", STEPS, CHASE_BYTES, prepare_chase, run_chase};
