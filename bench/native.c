/* The portable kernels of guests/bench on the host itself: the limit of what an emulator can reach. Threads are harts.
 *
 * Usage: native SET MILLISECONDS WARM-UP-MILLISECONDS THREADS [NAME-PREFIX]. SET is alone or smp; all as in
 * guests/bench/bench.c, and so are the lines that it prints, with mode "native".
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define main guest_main /* hart.h declares one without arguments */
#include "../guests/bench/bench.h"
#undef main

enum { TICKS_PER_MS = 10000 }; /* as mtime: 10 MHz */

static const struct kernel *kernel;
static uint8_t *memories[MAX_HARTS];
static const char *only = "";
static hart_function *work;
static pthread_barrier_t begin;

uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 10000000 + (uint64_t)t.tv_nsec / 100;
}

bool wanted(const char *name) { return !strncmp(name, only, strlen(only)); }

int print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int length = vprintf(format, arguments);
    va_end(arguments);
    fflush(stdout);
    return length;
}

static void *run_thread(void *hart)
{
    pthread_barrier_wait(&begin);
    work((unsigned)(uintptr_t)hart);
    return NULL;
}

void parallel(hart_function *function, unsigned count)
{
    pthread_t threads[MAX_HARTS];
    work = function;
    pthread_barrier_init(&begin, NULL, count);
    for (uintptr_t i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, run_thread, (void *)i)) {
            fprintf(stderr, "native: can't start thread %lu\n", (unsigned long)i);
            exit(1);
        }
    for (unsigned i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&begin);
}

static void prepare_kernel(unsigned hart)
{
    memories[hart] = aligned_alloc(4096, (kernel->memory + 4095) & ~4095ul);
    memset(memories[hart], 0, kernel->memory);
    if (kernel->prepare)
        kernel->prepare(memories[hart]);
}

static void run_kernel(unsigned hart)
{
    uint8_t *memory = memories[hart];
    uint64_t check;
    MEASURE(hart, kernel->work, check = kernel->run(memory));
    measured[hart].check = check;
}

static void run_portable(void)
{
    for (const struct kernel *const *k = kernels; (kernel = *k); k++) {
        if (!wanted(kernel->name))
            continue;
        parallel(prepare_kernel, players);
        measure(kernel->name, kernel->unit, "native", run_kernel);
        for (unsigned i = 0; i < players; i++)
            free(memories[i]);
    }
}

int main(int argc, char **argv)
{
    players = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
    if (players < 1 || players > MAX_HARTS) {
        fprintf(stderr, "usage: native SET MILLISECONDS WARM-UP-MILLISECONDS THREADS [NAME-PREFIX]\n");
        return 2;
    }
    last_duration = strtoull(argv[2], NULL, 10) * TICKS_PER_MS;
    first_duration = strtoull(argv[3], NULL, 10) * TICKS_PER_MS;
    only = argc > 5 ? argv[5] : "";
    if (!strcmp(argv[1], "alone"))
        run_portable();
    else
        measure_all(contended_kernels, "native");
    return 0;
}
