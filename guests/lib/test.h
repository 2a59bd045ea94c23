/* Self-checking programs: checks that print what failed, and probes that report the trap an access causes. */
#ifndef TEST_H
#define TEST_H

#include "console.h"
#include "hart.h"

/* Counts a check; if `got` is not `want`, prints both and where. Any hart may call it. */
void expect_equal(const char *file, int line, const char *what, uint64_t got, uint64_t want);
#define EXPECT_EQ(got, want) expect_equal(__FILE__, __LINE__, #got, (uint64_t)(got), (uint64_t)(want))
#define EXPECT(condition) expect_equal(__FILE__, __LINE__, #condition, !!(condition), 1)

/* Says how many checks there were and how many failed; 0 if all is well, else 1: main()'s result. */
int test_result(void);

/* The boot argument emulator=qemu: checks of rules that it is known to break are left out, with a word on each. */
bool is_qemu(void);

/* A probe is a function of an address that can trap; it runs in any mode. All sizes of load and store, an AMO, LR, SC,
 * and fetch: a call to the address, where a function should be. */
typedef uint64_t probe(uint64_t address);
probe load8, load16, load32, load64, store8, store16, store32, store64, amo32, amo64, lr64, fetch;

enum { NO_TRAP = 64 };
/* Added to addresses of code and stack in U-mode: USER_ALIAS when paging is on, 0 when it is off. */
extern uint64_t user_offset;
/* Runs the probe in a mode with expect_handler(); returns the cause of the trap, or NO_TRAP. tval is in this_hart(). */
uint64_t attempt(enum privilege mode, probe *probe, uint64_t address);
/* The cause if executing this one 32-bit instruction traps in that mode, else NO_TRAP. */
uint64_t attempt_instruction(enum privilege mode, uint32_t instruction);

/* EXPECT_EQ on the cause, and on tval where there is one. */
#define EXPECT_TRAP(mode, probe, address, cause_wanted) do { \
    uint64_t address_ = (address), cause_ = (cause_wanted); \
    EXPECT_EQ(attempt(mode, probe, address_), cause_); \
    if (cause_ != NO_TRAP) \
        EXPECT_EQ(this_hart()->tval, address_); \
} while (0)

#endif
