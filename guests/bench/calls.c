/* Calls: recursive ones, and through pointers that a predictor can't know. */
#include "kernels.h"

__attribute__((noinline)) static uint64_t fibonacci(uint64_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

static uint64_t run_recursive(uint8_t *memory)
{
    (void)memory;
    return fibonacci(18);
}
const struct kernel kernel_recursive = {"recursive calls", "calls", 8361, 8, NULL, run_recursive};

typedef uint64_t operation(uint64_t, uint64_t);
static uint64_t op_add(uint64_t a, uint64_t b) { return a + b; }
static uint64_t op_sub(uint64_t a, uint64_t b) { return a - b; }
static uint64_t op_xor(uint64_t a, uint64_t b) { return a ^ b; }
static uint64_t op_rotate(uint64_t a, uint64_t b) { return a << (b & 31) | a >> (63 - (b & 31)); }
static uint64_t op_multiply(uint64_t a, uint64_t b) { return a * (b | 1); }
static uint64_t op_and(uint64_t a, uint64_t b) { return a & ~b; }
static uint64_t op_or(uint64_t a, uint64_t b) { return a | b; }
static uint64_t op_shift(uint64_t a, uint64_t b) { return a >> (b & 7); }
static operation *const operations[] = {op_add, op_sub, op_xor, op_rotate, op_multiply, op_and, op_or, op_shift};

enum { PROGRAM = 8192 };
static void prepare_indirect(uint8_t *memory)
{
    uint64_t seed = 1234;
    for (int i = 0; i < PROGRAM; i++)
        memory[i] = (uint8_t)(next_random(&seed) >> 20 & 7);
}

static uint64_t run_indirect(uint8_t *memory)
{
    uint64_t value = 1;
    for (uint64_t i = 0; i < PROGRAM; i++)
        value = operations[memory[i]](value, i) + 1;
    return value;
}
const struct kernel kernel_indirect = {"indirect calls", "calls", PROGRAM, PROGRAM, prepare_indirect, run_indirect};
