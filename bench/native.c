/* The portable kernels of guests/bench on the host itself: the limit of what an emulator can reach.
 *
 * Usage: native MILLISECONDS [NAME-PREFIX]. Prints the same lines as the guest (guests/bench/bench.c), mode "native".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../guests/bench/kernels.h"

enum { TICKS_PER_MS = 10000 }; /* as mtime: 10 MHz */

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 10000000 + (uint64_t)t.tv_nsec / 100;
}

int main(int argc, char **argv)
{
    uint64_t duration = (argc > 1 ? strtoull(argv[1], NULL, 10) : 300) * TICKS_PER_MS;
    const char *only = argc > 2 ? argv[2] : "";
    for (const struct kernel *const *k = kernels; *k; k++) {
        if (strncmp((*k)->name, only, strlen(only)))
            continue;
        uint8_t *memory = aligned_alloc(4096, ((*k)->memory + 4095) & ~4095ul);
        memset(memory, 0, (*k)->memory);
        if ((*k)->prepare)
            (*k)->prepare(memory);
        uint64_t check, work = 0, start = now();
        while (now() - start < duration / 3)
            (*k)->run(memory);
        start = now();
        do {
            check = (*k)->run(memory);
            work += (*k)->work;
        } while (now() - start < duration);
        uint64_t ticks = now() - start;
        printf("bench %s|%s|native|1|%lu|%lu|%lu|%lu|%lx\n", (*k)->name, (*k)->unit, work, ticks, work, work, check);
        free(memory);
    }
    return 0;
}
