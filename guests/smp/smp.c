/* The machine that `mpemu run` boots: brings up all harts and gives them work that needs them in parallel.
 *
 * Boot arguments: scale=N (see smp.h). Ends with exit code 0, or the number of tests that failed.
 */
#include "smp.h"

unsigned scale;

static const struct {
    const char *name, *what;
    bool (*run)(void);
} tests[] = {
    {"spin lock", "amoswap, a counter behind it", test_spin_lock},
    {"ticket lock", "first come, first served", test_ticket_lock},
    {"barriers", "nobody a round ahead or behind", test_barrier},
    {"atomics", "amoadd, amoxor, amomax on shared words", test_amo},
    {"LR/SC", "a shared counter", test_lrsc},
    {"messages", "queues from hart to hart, without locks", test_messages},
    {"IPI ring", "a token from hart to hart, asleep between", test_ipi_ring},
    {"timers", "each hart its own, none early", test_timers},
    {"code change", "hart 0 rewrites code the others run", test_code_change},
    {"TLB shootdown", "S-mode, Sv39: hart 0 remaps a page", test_shootdown},
    {"primes", "S-mode, Sv39: a segmented sieve", test_primes},
    {"Mandelbrot", "double precision, rows shared out", test_mandelbrot},
};

static struct barrier line_up;

static void say_up(unsigned hart)
{
    for (unsigned turn = 0; turn < harts; turn++) { /* in order, to be pleasant to read */
        if (turn == hart)
            print("  hart %u is up: misa %lx, stack at %lx\n", hart, csr_read(misa), (uint64_t)__builtin_frame_address(0));
        barrier_wait(&line_up, harts);
    }
}

int main(void)
{
    unsigned failed = 0;
    scale = (unsigned)argument("scale", 1);
    print("\nmpemu SMP guest: %u hart%s, scale %u\n\n", harts, harts == 1 ? "" : "s", scale);
    parallel(say_up, harts);
    print("\n");
    uint64_t start = mtime();
    for (unsigned i = 0; i < sizeof tests / sizeof *tests; i++) {
        uint64_t began = mtime();
        bool good = tests[i].run();
        uint64_t ms = (mtime() - began) * 1000 / MTIME_HZ;
        print("  %-14s %-42s %s %6lu ms\n", tests[i].name, tests[i].what, good ? "OK  " : "FAIL", ms);
        failed += !good;
    }
    print("\n%s: %u of %u tests passed on %u hart%s in %lu ms\n", failed ? "FAIL" : "OK",
          (unsigned)(sizeof tests / sizeof *tests) - failed, (unsigned)(sizeof tests / sizeof *tests), harts,
          harts == 1 ? "" : "s", (mtime() - start) * 1000 / MTIME_HZ);
    return (int)failed;
}
