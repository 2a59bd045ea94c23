/* Programs to compare emulators by. The test writes them into `blob` of the ELF file (tests/system/random_programs.py):
 * u64 count, then per program a u64 offset of its struct program in the blob.
 */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

enum { BLOB_SIZE = 1 << 20, SCRATCH_WORDS = 512 };

struct state {
    uint64_t x[32], f[32], fcsr;
};

struct program {
    struct state initial;
    uint32_t code[]; /* ends with an ecall */
};

/* Loads all registers from the state, then mret. */
uint64_t start_program(uint64_t state);
/* Stores f0..f31. */
void save_fp(uint64_t f[32]);

#endif
