/* Zacas and Zabha where the hart has them: results, and sums kept by several harts. */
#include "sync.h"
#include "test.h"

enum { ROUNDS = 5000 };
#define ARCH(text) ".option push\n .option arch, +zacas, +zabha\n" text "\n .option pop"

static uint64_t cas_d(uint64_t *p, uint64_t expected, uint64_t new)
{
    asm volatile(ARCH("amocas.d.aqrl %0, %2, %1") : "+r"(expected), "+A"(*p) : "r"(new) : "memory");
    return expected;
}

static uint32_t cas_w(uint32_t *p, uint32_t expected, uint32_t new)
{
    asm volatile(ARCH("amocas.w.aqrl %0, %2, %1") : "+r"(expected), "+A"(*p) : "r"(new) : "memory");
    return expected;
}

static void cas_q(uint64_t p[2], uint64_t expected[2], const uint64_t new[2])
{
    register uint64_t e0 asm("a2") = expected[0], e1 asm("a3") = expected[1];
    register uint64_t n0 asm("a4") = new[0], n1 asm("a5") = new[1];
    asm volatile(ARCH("amocas.q.aqrl a2, a4, (%2)") : "+r"(e0), "+r"(e1) : "r"(p), "r"(n0), "r"(n1) : "memory");
    expected[0] = e0, expected[1] = e1;
}

static void single(void)
{
    uint64_t d = 5;
    EXPECT_EQ(cas_d(&d, 4, 9), 5);
    EXPECT_EQ(d, 5);
    EXPECT_EQ(cas_d(&d, 5, 9), 5);
    EXPECT_EQ(d, 9);
    uint32_t w[2] = {0x80000000, 7};
    EXPECT_EQ((int64_t)(int32_t)cas_w(w, 0x80000000, 3), (int64_t)(int32_t)0x80000000);
    EXPECT_EQ(w[0], 3);
    EXPECT_EQ(w[1], 7);
    static uint64_t q[2] __attribute__((aligned(16))) = {1, 2};
    uint64_t expected[2] = {1, 3}, new[2] = {10, 20};
    cas_q(q, expected, new);
    EXPECT(expected[0] == 1 && expected[1] == 2 && q[0] == 1 && q[1] == 2);
    cas_q(q, expected, new);
    EXPECT(q[0] == 10 && q[1] == 20);
    uint8_t b[4] = {250, 1, 2, 3};
    int64_t old;
    asm volatile(ARCH("amoadd.b %0, %2, %1") : "=r"(old), "+A"(b[0]) : "r"(10l) : "memory");
    EXPECT_EQ(old, -6);
    EXPECT_EQ(b[0], 4);
    EXPECT_EQ(b[1], 1);
    uint16_t h[2] = {0x8000, 1};
    asm volatile(ARCH("amomin.h %0, %2, %1") : "=r"(old), "+A"(h[1]) : "r"(-3l) : "memory");
    EXPECT_EQ(old, 1);
    EXPECT_EQ(h[1], 0xfffd);
    EXPECT_EQ(h[0], 0x8000);
}

static uint64_t counter CACHE_ALIGNED;
static uint64_t pair[2] __attribute__((aligned(64)));
static uint8_t bytes[8] CACHE_ALIGNED;

static void shared(unsigned hart)
{
    for (unsigned i = 0; i < ROUNDS; i++) {
        for (uint64_t seen = load_relaxed(&counter), before; (before = cas_d(&counter, seen, seen + 1)) != seen;)
            seen = before;
        for (uint64_t seen[2] = {0, 0};;) { /* one half counts up, the other down */
            uint64_t want[2] = {seen[0] + 1, seen[1] - 1}, was[2] = {seen[0], seen[1]};
            cas_q(pair, seen, want);
            if (seen[0] == was[0] && seen[1] == was[1])
                break;
        }
        asm volatile(ARCH("amoadd.b zero, %1, %0") : "+A"(bytes[hart % 2]) : "r"(1l) : "memory");
    }
}

int main(void)
{
    if (attempt_instruction(M_MODE, 0x2800302f) != NO_TRAP && this_hart()->cause == CAUSE_ILLEGAL) {
        print("Zacas is not there\n"); /* amocas.d zero, zero, (zero) */
        return 0;
    }
    single();
    parallel(shared, harts);
    EXPECT_EQ(counter, (uint64_t)harts * ROUNDS);
    EXPECT_EQ(pair[0], (uint64_t)harts * ROUNDS);
    EXPECT_EQ(pair[1], -(uint64_t)harts * ROUNDS);
    EXPECT_EQ(bytes[0], (uint8_t)((harts + 1) / 2 * ROUNDS));
    EXPECT_EQ(bytes[1], (uint8_t)(harts / 2 * ROUNDS));
    return test_result();
}
