/* Floating point on every hart at once: results, flags, rounding modes, NaN boxing. Exhaustive checks are elsewhere;
 * this one shows that FP state belongs to its hart, in every mode. */
#include "test.h"

#define OP2(instruction, a, b, frm_, flags) ({ \
    uint64_t r_; \
    csr_write(fcsr, (uint64_t)(frm_) << 5); \
    asm volatile("fmv.d.x ft0, %1\n fmv.d.x ft1, %2\n" instruction " ft2, ft0, ft1\n fmv.x.d %0, ft2" \
                 : "=r"(r_) : "r"((uint64_t)(a)), "r"((uint64_t)(b)) : "ft0", "ft1", "ft2"); \
    *(flags) = csr_read(fflags); \
    r_; })

enum { NX = 1, UF = 2, OF = 4, DZ = 8, NV = 16 };
enum { RNE, RTZ, RDN, RUP, RMM };

#define ONE 0x3ff0000000000000ul
#define THREE 0x4008000000000000ul
#define BOXED(x) (0xffffffff00000000ul | (x))

static void check(unsigned hart)
{
    uint64_t flags;
    csr_set(mstatus, 1 << 13);
    for (int round = 0; round < 500; round++) {
        static const uint64_t third[] = {0x3fd5555555555555, 0x3fd5555555555555, 0x3fd5555555555555,
                                         0x3fd5555555555556, 0x3fd5555555555555};
        for (unsigned rm = RNE; rm <= RMM; rm++) {
            EXPECT_EQ(OP2("fdiv.d", ONE, THREE, rm, &flags), third[rm]);
            EXPECT_EQ(flags, NX);
        }
        EXPECT_EQ(OP2("fdiv.d", ONE, 0, RNE, &flags), 0x7ff0000000000000);
        EXPECT_EQ(flags, DZ);
        EXPECT_EQ(OP2("fdiv.d", 0, 0, RNE, &flags), 0x7ff8000000000000);
        EXPECT_EQ(flags, NV);
        EXPECT_EQ(OP2("fmul.d", 0x7fe0000000000000, THREE, RTZ, &flags), 0x7fefffffffffffff);
        EXPECT_EQ(flags, OF | NX);
        EXPECT_EQ(OP2("fmul.d", 1, 0x3fe0000000000000, RUP, &flags), 1);
        EXPECT_EQ(flags, UF | NX);
        EXPECT_EQ(OP2("fadd.s", BOXED(0x3f800000), BOXED(0x33800000), RNE, &flags), BOXED(0x3f800000));
        EXPECT_EQ(flags, NX);
        EXPECT_EQ(OP2("fadd.s", BOXED(0x3f800000), BOXED(0x33800000), RUP, &flags), BOXED(0x3f800001));
        EXPECT_EQ(OP2("fadd.s", 0x3f800000, BOXED(0x3f800000), RNE, &flags), BOXED(0x7fc00000)); /* not boxed: NaN */
        EXPECT_EQ(flags, 0);
        EXPECT_EQ(OP2("fmin.d", 0, 1ul << 63, RNE, &flags), 1ul << 63);
        EXPECT_EQ(OP2("fmax.d", 0x7ff0000000000001, ONE, RNE, &flags), ONE);
        EXPECT_EQ(flags, NV);
    }
    csr_write(frm, hart % 5); /* stays with this hart */
    for (volatile int i = 0; i < 20000; i++)
        ;
    EXPECT_EQ(csr_read(frm), hart % 5);
    csr_write(fcsr, 0);
}

int main(void)
{
    parallel(check, harts);
    return test_result();
}
