/* A hot loop whose code lies on several pages: the same sum as by a loop that lies on one; for some milliseconds.
 * There is only code on these pages, so they are the same in every run: data comes behind main(). */
#include "test.h"

#define ON_A_PAGE_OF_ITS_OWN __attribute__((noinline, aligned(4096)))

static inline uint64_t mixed(uint64_t x) { return (x ^ x >> 29) * 0x9e3779b97f4a7c15; }
static inline uint64_t turned(uint64_t x, uint64_t i) { return i % 3 ? mixed(x + i) : x << 7 | x >> 57; }

uint64_t mix(uint64_t x);
uint64_t turn(uint64_t x, uint64_t i);
uint64_t over_pages(uint64_t rounds);
uint64_t on_one_page(uint64_t rounds);

ON_A_PAGE_OF_ITS_OWN uint64_t mix(uint64_t x) { return mixed(x); }

ON_A_PAGE_OF_ITS_OWN uint64_t turn(uint64_t x, uint64_t i) { return i % 3 ? mix(x + i) : x << 7 | x >> 57; }

ON_A_PAGE_OF_ITS_OWN uint64_t over_pages(uint64_t rounds)
{
    uint64_t x = 1;
    for (uint64_t i = 0; i < rounds; i++)
        x = turn(x, i);
    return x;
}

ON_A_PAGE_OF_ITS_OWN uint64_t on_one_page(uint64_t rounds)
{
    uint64_t x = 1;
    for (uint64_t i = 0; i < rounds; i++)
        x = turned(x, i);
    return x;
}

ON_A_PAGE_OF_ITS_OWN int main(void)
{
    uint64_t rounds = argument("rounds", 100000), want = on_one_page(rounds);
    uint64_t end = mtime() + argument("ms", 0) * (MTIME_HZ / 1000);
    do {
        asm volatile("" : "+r"(rounds)); /* else the compiler calls it but once */
        EXPECT_EQ(over_pages(rounds), want);
    } while (mtime() < end);
    return test_result();
}
