/* Harts: their private data, traps, modes, and running work on all of them.
 *
 * Hart 0 runs main(); the others sleep until parallel() gives them something to do. Everything starts in M-mode with
 * interrupts off. A trap nobody expects prints what happened and ends the machine with code 99.
 */
#ifndef HART_H
#define HART_H

#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "hart_offsets.h"
#include "riscv.h"

struct frame {
    uint64_t x[32]; /* x[0] unused */
    uint64_t pc;
};

struct hart;
typedef void trap_handler(struct hart *hart, struct frame *frame, uint64_t cause, uint64_t tval);
typedef void hart_function(unsigned hart);

struct hart {
    struct frame m, s;              /* what the last trap into M-mode (S-mode) interrupted */
    uint64_t m_stack, s_stack;      /* tops of the stacks that trap handlers run on */
    uint64_t mode_sp;               /* of call_in_mode() */
    trap_handler *m_handler;        /* NULL: the trap is a failure */
    trap_handler *s_handler;
    hart_function *work;            /* set by parallel(), cleared by the hart when it is done */
    uint32_t id;
    /* by expect_handler() */
    uint32_t traps;
    uint64_t cause, tval, epc;      /* of the last trap that it saw */
    uint64_t random;                /* state of hart_random() */
} __attribute__((aligned(1 << HART_SIZE_SHIFT)));

extern struct hart hart_table[MAX_HARTS];
extern unsigned harts;              /* how many there are (device tree), at most MAX_HARTS */

static inline struct hart *this_hart(void)
{
    struct hart *hart;
    asm("mv %0, tp" : "=r"(hart));
    return hart;
}

/* Every program defines it; runs on hart 0. Its result is the machine's exit code. */
int main(void);

/* The device tree's /chosen/bootargs has `name=number`: the number, else `otherwise`. */
uint64_t argument(const char *name, uint64_t otherwise);
/* The text of `name=text` (up to the next blank), "" if there is none; valid until the next call. */
const char *argument_text(const char *name);

/* Runs function(0..count-1) on harts 0..count-1 at once; returns when all have returned. From hart 0, M-mode. */
void parallel(hart_function *function, unsigned count);

/* Calls function(argument) in S- or U-mode; returns its result, with mstatus.MIE off. (M-mode interrupts that mie enables
 * are taken in lower modes whatever MIE says.) `offset` is added to the pc and the stack pointer: the virtual address of
 * RAM minus its physical one in that mode. */
uint64_t call_in_mode(enum privilege mode, uint64_t (*function)(uint64_t), uint64_t argument, uint64_t offset);

/* For a trap handler: ends the call_in_mode() that was interrupted, with a0 of the frame as its result. */
void return_to_caller(struct hart *hart);

/* Lets S-mode reach everything: one PMP entry over all memory, counters readable. Each hart for itself. */
void open_to_lower_modes(void);

/* A trap handler that notes cause, tval and epc in the hart, counts, and goes on behind the instruction, which must be
 * uncompressed; after a fetch fault it returns to the caller (ra). */
trap_handler expect_handler;

/* xorshift64*: each hart its own sequence. */
uint64_t hart_random(void);

/* Spins (with PAUSE) until condition() or for `ticks` of mtime; whether the condition came true. */
#define wait_until(condition, ticks) ({ \
    uint64_t end_ = mtime() + (ticks); \
    while (!(condition) && mtime() < end_) \
        cpu_pause(); \
    (bool)(condition); })

extern void trap_from_m(void), trap_from_s(void);
/* Prints the hart's failure and ends the machine with code 99. */
_Noreturn void panic(const char *why, uint64_t cause, uint64_t epc, uint64_t tval);

#endif
