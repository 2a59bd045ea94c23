/* The passes of a kernel, and the line for it:
 *
 *   bench NAME|UNIT|MODE|HARTS|WORK|TICKS|LEAST|MOST|CHECK|FIRST WORK|FIRST TICKS
 *
 * WORK is the sum over all harts, TICKS the longest time of any (10 MHz), LEAST and MOST the work of single harts. FIRST:
 * the same of the first pass; between it and the measured one there are others until speed does not grow.
 */
#include "bench.h"
#include "text.h"

struct measured measured[MAX_HARTS];
uint64_t duration, first_duration, last_duration;
unsigned players;

enum { MOST_SETTLING = 8, PATIENCE = 2 };

struct total {
    uint64_t work, ticks, least, most;
};

static struct total pass(hart_function *run, uint64_t ticks)
{
    struct total total = {.least = UINT64_MAX};
    duration = ticks;
    memset(measured, 0, sizeof measured);
    parallel(run, players);
    for (unsigned i = 0; i < players; i++) {
        struct measured *m = &measured[i];
        total.work += m->work;
        total.ticks = m->ticks > total.ticks ? m->ticks : total.ticks;
        total.least = m->work < total.least ? m->work : total.least;
        total.most = m->work > total.most ? m->work : total.most;
    }
    return total;
}

static double rate(struct total t) { return (double)t.work / (double)t.ticks; }

/* More passes, until PATIENCE of them in a row were not faster: a translator may have other things to do at first. */
static void settle(hart_function *run, struct total first)
{
    double best = rate(first);
    for (int i = 0, in_vain = 0; i < MOST_SETTLING && in_vain < PATIENCE; i++) {
        double speed = rate(pass(run, first_duration));
        in_vain = speed < 1.05 * best ? in_vain + 1 : 0;
        best = speed > best ? speed : best;
    }
}

void measure(const char *name, const char *unit, const char *mode, hart_function *run)
{
    struct total first = pass(run, first_duration);
    settle(run, first);
    struct total t = pass(run, last_duration);
    print("bench %s|%s|%s|%u|%lu|%lu|%lu|%lu|%lx|%lu|%lu\n", name, unit, mode, players, t.work, t.ticks, t.least,
          t.most, measured[0].check, first.work, first.ticks);
}

void measure_all(const struct machine_kernel *k, const char *mode)
{
    for (; k->name; k++)
        if (k->least_harts <= players && wanted(k->name))
            measure(k->name, k->unit, mode, k->run);
}
