/* Garbage to every device: all harts at once load and store at random offsets, sizes and values, virtio queues made of
 * random descriptors included. Nothing is checked but that the machine is still there in the end: the boot argument
 * rounds=N says how many accesses each hart makes, seed=N which. */
#include "sync.h"
#include "test.h"

enum { SCRATCH = 1 << 16 };
static uint64_t scratch[SCRATCH / 8] __attribute__((aligned(4096)));
static uint32_t arrived;

/* Where devices are, or look as if they were. Not the test finisher: it works. */
static const struct { uint64_t address, size; } regions[] = {
    {FINISHER + 0x1000, 0x40}, /* RTC */
    {CLINT, 0x20}, {CLINT + 0x4000, 0x60}, {CLINT + 0xbff0, 0x10}, {CLINT, 0x10000},
    {0x2f00000, 0x4000}, /* ACLINT sswi */
    {PLIC, 0x200}, {PLIC + 0x1000, 0x20}, {PLIC + 0x2000, 0x800}, {PLIC + 0x200000, 0x9000}, {PLIC, 0x600000},
    {UART, 8}, {UART, 8}, {UART, 0x100},
    {UART + 0x1000, 0x8000}, {UART + 0x1000, 0x120}, {UART + 0x2000, 0x120}, {UART + 0x3000, 0x120},
    {UART + 0x1000, 0x120}, {UART + 0x2000, 0x120}, {UART + 0x3000, 0x120}, /* virtio */
    {0x20000000, 0x1000}, {0x22000000, 0x1000}, /* flash */
    {0x1000, 0x1000}, {NOTHING_THERE, 0x1000},
};

static uint64_t scratch_address(void) { return (uint64_t)scratch + hart_random() % SCRATCH; }

/* Nothing that points into the rest of RAM: a device that is told to may well overwrite the program. */
static uint64_t value(void)
{
    switch (hart_random() % 8) {
    case 0: return 0;
    case 1: return UINT64_MAX;
    case 2: return 1ul << hart_random() % 31;
    case 3: return hart_random() % 16;
    case 4: return scratch_address();
    case 5: return scratch_address() & ~4095ul;
    default: return hart_random() & ~0x80000000ul;
    }
}

static void access(uint64_t address, uint64_t data, unsigned kind)
{
    uint64_t got;
    switch (kind) {
    case 0: asm volatile(".option push; .option norvc\n lbu %0, (%1)\n .option pop" : "=r"(got) : "r"(address)); break;
    case 1: asm volatile(".option push; .option norvc\n lhu %0, (%1)\n .option pop" : "=r"(got) : "r"(address)); break;
    case 2: case 8: asm volatile(".option push; .option norvc\n lwu %0, (%1)\n .option pop" : "=r"(got) : "r"(address)); break;
    case 3: asm volatile(".option push; .option norvc\n ld %0, (%1)\n .option pop" : "=r"(got) : "r"(address)); break;
    case 4: asm volatile(".option push; .option norvc\n sb %0, (%1)\n .option pop" : : "r"(data), "r"(address)); break;
    case 5: asm volatile(".option push; .option norvc\n sh %0, (%1)\n .option pop" : : "r"(data), "r"(address)); break;
    case 6: asm volatile(".option push; .option norvc\n sd %0, (%1)\n .option pop" : : "r"(data), "r"(address)); break;
    case 7: asm volatile("amoadd.w %0, %2, (%1)" : "=r"(got) : "r"(address), "r"(data)); break;
    default: asm volatile(".option push; .option norvc\n sw %0, (%1)\n .option pop" : : "r"(data), "r"(address));
    }
}

/* A queue of random descriptors, from the reset to the notification, and what it does is anybody's guess. */
static void start_queue(void)
{
    static const uint32_t steps[][2] = {{0x70, 0}, {0x70, 1}, {0x70, 3}, {0x24, 1}, {0x20, 1}, {0x24, 0}, {0x20, 0},
                                        {0x70, 11}, {0x30, 0}, {0x38, 16}};
    uint64_t slot = UART + 0x1000 + 0x1000 * (hart_random() % 4);
    for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++)
        write32(slot + steps[i][0], steps[i][1]);
    uint64_t pages = hart_random() % (SCRATCH / 4096 - 2);
    uint64_t *descriptors = scratch + pages * 512;
    for (unsigned i = 0; i < 16; i++) {
        descriptors[2 * i] = hart_random() % 8 ? scratch_address() : value();
        descriptors[2 * i + 1] = hart_random() % 16 << 48 | hart_random() % 8 << 32 | hart_random() % 2048;
    }
    uint16_t *available = (uint16_t *)(descriptors + 512);
    for (unsigned i = 0; i < 18; i++)
        available[i] = hart_random() % (i < 2 ? 18 : 16);
    for (unsigned i = 0; i < 3; i++) {
        write32(slot + 0x80 + 0x10 * i, (uint32_t)(uint64_t)(descriptors + 512 * i));
        write32(slot + 0x84 + 0x10 * i, 0);
    }
    write32(slot + 0x44, 1);
    write32(slot + 0x70, 15);
    write32(slot + 0x50, 0);
}

static void fuzz(unsigned hart)
{
    this_hart()->m_handler = expect_handler;
    this_hart()->random = argument("seed", 1) * 0x9e3779b97f4a7c15ul + hart + 1;
    fetch_add(&arrived, 1);
    while (load_acquire(&arrived) < harts) /* an IPI that starts a hart must not be taken back */
        cpu_pause();
    uint64_t rounds = argument("rounds", 2000);
    for (uint64_t i = 0; i < rounds; i++) {
        unsigned where = hart_random() % (sizeof regions / sizeof *regions);
        uint64_t offset = hart_random() % regions[where].size;
        if (hart_random() % 8)
            offset &= ~3ul;
        access(regions[where].address + offset, value(), hart_random() % 12);
        if (i % 64 == 63)
            start_queue();
    }
}

int main(void)
{
    parallel(fuzz, harts);
    for (unsigned slot = 0; slot < 8; slot++)
        write32(UART + 0x1000 + 0x1000 * slot + 0x70, 0);
    write8(UART + 3, 0); /* the UART as it was */
    write8(UART + 1, 0);
    write8(UART + 4, 0);
    print("\nPASS: still there\n");
    return 0;
}
