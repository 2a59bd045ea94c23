/* The portable kernels of guests/bench on the host itself: the limit of what an emulator can reach.
 *
 * Usage: native MILLISECONDS FIRST-MILLISECONDS THREADS [NAME-PREFIX]. Prints the same lines as the guest
 * (guests/bench/bench.c), mode "native"; a thread stands for a hart.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../guests/bench/kernels.h"

enum { TICKS_PER_MS = 10000, MOST_THREADS = 64 }; /* as mtime: 10 MHz */

struct pass {
    uint64_t work, ticks;
};

struct worker {
    const struct kernel *kernel;
    pthread_barrier_t *barrier;
    uint64_t durations[2], check;
    struct pass passes[2];
} __attribute__((aligned(64)));

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 10000000 + (uint64_t)t.tv_nsec / 100;
}

static void *work(void *argument)
{
    struct worker *w = argument;
    const struct kernel *k = w->kernel;
    uint8_t *memory = aligned_alloc(4096, (k->memory + 4095) & ~4095ul);
    memset(memory, 0, k->memory);
    if (k->prepare)
        k->prepare(memory);
    for (int i = 0; i < 2; i++) {
        struct pass *pass = &w->passes[i];
        pthread_barrier_wait(w->barrier);
        uint64_t start = now();
        do {
            w->check = k->run(memory);
            pass->work += k->work;
            pass->ticks = now() - start;
        } while (pass->ticks < w->durations[i]);
    }
    free(memory);
    return NULL;
}

static void measure(const struct kernel *kernel, unsigned threads, const uint64_t durations[2])
{
    static struct worker workers[MOST_THREADS];
    pthread_t ids[MOST_THREADS];
    pthread_barrier_t barrier;
    struct pass total[2] = {{0, 0}, {0, 0}};
    uint64_t least = UINT64_MAX, most = 0;
    pthread_barrier_init(&barrier, NULL, threads);
    for (unsigned i = 0; i < threads; i++) {
        workers[i] = (struct worker){kernel, &barrier, {durations[0], durations[1]}, 0, {{0, 0}, {0, 0}}};
        if (pthread_create(&ids[i], NULL, work, &workers[i])) {
            fprintf(stderr, "native: no thread %u\n", i);
            exit(1);
        }
    }
    for (unsigned i = 0; i < threads; i++) {
        pthread_join(ids[i], NULL);
        for (int k = 0; k < 2; k++) {
            struct pass *pass = &workers[i].passes[k];
            total[k].work += pass->work;
            total[k].ticks = pass->ticks > total[k].ticks ? pass->ticks : total[k].ticks;
        }
        uint64_t share = workers[i].passes[1].work;
        least = share < least ? share : least;
        most = share > most ? share : most;
    }
    pthread_barrier_destroy(&barrier);
    printf("bench %s|%s|native|%u|%lu|%lu|%lu|%lu|%lx|%lu|%lu\n", kernel->name, kernel->unit, threads, total[1].work,
           total[1].ticks, least, most, workers[0].check, total[0].work, total[0].ticks);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: native MILLISECONDS FIRST-MILLISECONDS THREADS [NAME-PREFIX]\n");
        return 2;
    }
    uint64_t durations[2] = {strtoull(argv[2], NULL, 10) * TICKS_PER_MS, strtoull(argv[1], NULL, 10) * TICKS_PER_MS};
    unsigned threads = (unsigned)atoi(argv[3]);
    const char *only = argc > 4 ? argv[4] : "";
    if (threads < 1 || threads > MOST_THREADS) {
        fprintf(stderr, "native: 1 to %u threads\n", MOST_THREADS);
        return 2;
    }
    for (const struct kernel *const *k = kernels; *k; k++)
        if (!strncmp((*k)->name, only, strlen(only)))
            measure(*k, threads, durations);
    return 0;
}
