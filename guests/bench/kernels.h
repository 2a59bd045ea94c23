/* Kernels in portable C: built for the guest, and natively as the limit of what an emulator can reach. */
#ifndef KERNELS_H
#define KERNELS_H

#include <stddef.h>
#include <stdint.h>

struct kernel {
    const char *name;
    const char *unit;                   /* what `work` counts */
    uint64_t work;                      /* units that one run() does; a run takes about 0.1 to 2 ms natively */
    size_t memory;                      /* bytes that it works in, zeroed before prepare() */
    void (*prepare)(uint8_t *memory);   /* or NULL */
    uint64_t (*run)(uint8_t *memory);   /* returns a checksum, the same each time */
};

extern const struct kernel *const kernels[];   /* the last one is NULL */

/* integer.c */
extern const struct kernel kernel_coremark_like, kernel_dhrystone_like, kernel_state_machine, kernel_crc;
/* data.c */
extern const struct kernel kernel_sort, kernel_strings, kernel_list, kernel_memcpy, kernel_fill, kernel_triad;
extern const struct kernel kernel_chase;
/* numeric.c */
extern const struct kernel kernel_matmul_int, kernel_matmul_float, kernel_matmul_double, kernel_nbody, kernel_mandelbrot;
/* calls.c */
extern const struct kernel kernel_recursive, kernel_indirect;

/* xorshift64: the kernels' inputs. */
static inline uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

#endif
