/* See test.h. */
#include "test.h"

#include "sync.h"
#include "text.h"

uint64_t user_offset;
static uint32_t checks, failures;

void expect_equal(const char *file, int line, const char *what, uint64_t got, uint64_t want)
{
    fetch_add(&checks, 1);
    if (got != want && fetch_add(&failures, 1) < 50)
        print("%s:%d: hart %u: %s is 0x%lx, not 0x%lx\n", file, line, this_hart()->id, what, got, want);
}

int test_result(void)
{
    print("%s: %u checks, %u failed, %u hart%s\n", failures ? "FAIL" : "PASS", checks, failures, harts,
          harts == 1 ? "" : "s");
    return failures != 0;
}

bool is_qemu(void) { return !strcmp(argument_text("emulator"), "qemu"); }

/* Uncompressed, so that expect_handler() knows where to go on; naked, so that they run at an alias address too. */
#define PROBE(name, instruction) \
    __attribute__((naked)) uint64_t name(uint64_t address) \
    { \
        asm volatile(".option push; .option norvc\n" instruction "\n ret\n .option pop"); \
    }

PROBE(load8, "lbu a0, 0(a0)")
PROBE(load16, "lhu a0, 0(a0)")
PROBE(load32, "lwu a0, 0(a0)")
PROBE(load64, "ld a0, 0(a0)")
PROBE(store8, "sb a0, 0(a0)")
PROBE(store16, "sh a0, 0(a0)")
PROBE(store32, "sw a0, 0(a0)")
PROBE(store64, "sd a0, 0(a0)")
PROBE(amo32, "amoadd.w a0, zero, (a0)")
PROBE(amo64, "amoadd.d a0, zero, (a0)")
PROBE(lr64, "lr.d a0, (a0)")
PROBE(fetch, "addi sp, sp, -16\n sd ra, 0(sp)\n jalr ra, 0(a0)\n ld ra, 0(sp)\n addi sp, sp, 16")

uint64_t attempt(enum privilege mode, probe *probe, uint64_t address)
{
    struct hart *hart = this_hart();
    trap_handler *before = hart->m_handler;
    hart->m_handler = expect_handler;
    hart->cause = NO_TRAP;
    if (mode == M_MODE)
        probe(address);
    else
        call_in_mode(mode, probe, address, mode == U_MODE ? user_offset : 0);
    hart->m_handler = before;
    return hart->cause;
}

uint64_t attempt_instruction(enum privilege mode, uint32_t instruction)
{
    static uint32_t code[MAX_HARTS][2];
    uint32_t *mine = code[this_hart()->id];
    mine[0] = instruction;
    mine[1] = 0x8067; /* ret */
    fence_i();
    return attempt(mode, (probe *)mine, 0);
}
