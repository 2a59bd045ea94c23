/* Counters: instret to the instruction, cycle, time against mtime, inhibition, writes. */
#include "test.h"

#define COUNT(instructions) ({ \
    uint64_t before_, after_; \
    asm volatile("csrr %0, minstret\n" instructions "csrr %1, minstret" \
                 : "=&r"(before_), "=&r"(after_) : : "t0", "t1", "memory"); \
    after_ - before_; })

int main(void)
{
    open_to_lower_modes();
    if (!is_qemu()) { /* whose instret is the host's clock unless told otherwise */
        EXPECT_EQ(COUNT(""), 1);
        EXPECT_EQ(COUNT("nop\n nop\n nop\n"), 4);
        EXPECT_EQ(COUNT("li t0, 100\n 1: addi t0, t0, -1\n bnez t0, 1b\n"), 202);
        EXPECT_EQ(COUNT(".option push\n .option norvc\n li t0, 10\n 1: lla t1, 1b\n ld t1, 0(t1)\n addi t0, t0, -1\n"
                        " bnez t0, 1b\n .option pop\n"), 52);
        csr_write(minstret, 1000); /* the write itself is not counted */
        EXPECT_EQ(csr_read(minstret), 1000);
        EXPECT_EQ(attempt_instruction(S_MODE, 0xc0202573), NO_TRAP); /* csrr a0, instret */
    }
    uint64_t cycle = csr_read(cycle), instret = csr_read(instret);
    for (volatile int i = 0; i < 1000; i++)
        ;
    EXPECT(csr_read(cycle) - cycle >= 1000);
    EXPECT(csr_read(instret) - instret >= 1000);

    csr_write(mcountinhibit, 5);
    uint64_t c = csr_read(mcycle), i = csr_read(minstret);
    for (volatile int k = 0; k < 1000; k++)
        ;
    EXPECT_EQ(csr_read(mcycle), c);
    EXPECT_EQ(csr_read(minstret), i);
    csr_write(mcountinhibit, 0);
    for (volatile int k = 0; k < 1000; k++)
        ;
    EXPECT(csr_read(mcycle) - c >= 1000);

    for (int k = 0; k < 100; k++) { /* time lies between two looks at mtime, and never goes back */
        uint64_t a = mtime(), t = csr_read(time), b = mtime();
        EXPECT(a <= t && t <= b);
    }
    return test_result();
}
