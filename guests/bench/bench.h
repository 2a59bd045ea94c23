/* The benchmark: runs one kernel at a time for a fixed time and says how much work was done.
 *
 * The guest is all of this directory. On the host, bench/native.c stands for bench.c, threads for harts, and what is about
 * the machine (privileged.c, ipi.c) is left out.
 *
 * Every kernel runs in passes: the first finds caches and translators cold, the last one, which counts, finds them settled.
 */
#ifndef BENCH_H
#define BENCH_H

#include "console.h"
#include "hart.h"
#include "kernels.h"
#include "paging.h"
#include "sync.h"

/* Work and time of one hart, filled in by a measured function. */
struct measured {
    uint64_t work, ticks, check;
} CACHE_ALIGNED;
extern struct measured measured[MAX_HARTS];

extern uint64_t duration; /* of the pass that is running, in ticks of mtime */
extern unsigned players;  /* harts that take part */

/* A kernel that measures by itself: run(hart) fills in measured[hart]. The guest calls it in M-mode; it may go lower. */
struct machine_kernel {
    const char *name, *unit;
    unsigned least_harts; /* 1, 2: in pairs, or any number from 2 on */
    hart_function *run;   /* once per pass */
};

/* Memory of one hart's own for any kernel. */
#define HART_MEMORY (64ul << 20)
#define MEMORY_OF(hart) ((uint8_t *)(RAM + (32ul << 20) + (hart) * HART_MEMORY)) /* the program lies before */

/* The last one has no name. */
extern const struct machine_kernel privileged_kernels[], contended_kernels[], ipi_kernels[];

/* What bench.c and native.c have in their ways. */
bool wanted(const char *name); /* whether the kernel is to be measured */
#ifdef __riscv
static inline uint64_t now(void) { return csr_read(time); } /* in ticks of mtime */
#else
uint64_t now(void);
#endif

/* Runs the passes of a kernel on `players` harts and prints the line for it; passes.c says what is in it. */
void measure(const char *name, const char *unit, const char *mode, hart_function *run);
/* The same for all kernels of a table that are wanted and have enough players. */
void measure_all(const struct machine_kernel *k, const char *mode);
extern uint64_t first_duration, last_duration; /* of the passes: the last one, and those before */

/* Page tables of the privileged kernels, for `players` harts. */
void prepare_privileged(void);

/* Repeats `unit` (which does `count` units of work) on one hart for the time of the pass. */
#define MEASURE(hart, count, unit) do { \
    uint64_t start_ = now(), work_ = 0, ticks_; \
    do { unit; work_ += (count); ticks_ = now() - start_; } while (ticks_ < duration); \
    measured[hart].work = work_, measured[hart].ticks = ticks_; \
} while (0)

#endif
