/* Matrices, n-body, Mandelbrot. Built without contraction to multiply-add, so that all hosts agree to the bit. */
#include "kernels.h"

enum { SIDE = 48 };

#define MATMUL(type) \
    struct matrices_##type { type a[SIDE][SIDE], b[SIDE][SIDE], c[SIDE][SIDE]; }; \
    static void prepare_##type(uint8_t *memory) \
    { \
        struct matrices_##type *m = (struct matrices_##type *)memory; \
        uint64_t seed = 11; \
        for (int i = 0; i < SIDE; i++) \
            for (int j = 0; j < SIDE; j++) { \
                m->a[i][j] = (type)(next_random(&seed) % 100); \
                m->b[i][j] = (type)(next_random(&seed) % 100); \
            } \
    } \
    static uint64_t run_##type(uint8_t *memory) \
    { \
        struct matrices_##type *m = (struct matrices_##type *)memory; \
        uint64_t sum = 0; \
        for (int i = 0; i < SIDE; i++) \
            for (int j = 0; j < SIDE; j++) { \
                type total = 0; \
                for (int k = 0; k < SIDE; k++) \
                    total += m->a[i][k] * m->b[k][j]; \
                m->c[i][j] = total; \
            } \
        for (int i = 0; i < SIDE; i++) \
            sum = sum * 3 + (uint64_t)m->c[i][(i * 7) % SIDE]; \
        return sum; \
    }

MATMUL(int)
MATMUL(float)
MATMUL(double)
enum { MULTIPLIES = SIDE * SIDE * SIDE };
const struct kernel kernel_matmul_int = {"matmul int", "multiply-adds", MULTIPLIES, sizeof(struct matrices_int),
                                         prepare_int, run_int};
const struct kernel kernel_matmul_float = {"matmul float", "multiply-adds", MULTIPLIES, sizeof(struct matrices_float),
                                           prepare_float, run_float};
const struct kernel kernel_matmul_double = {"matmul double", "multiply-adds", MULTIPLIES,
                                            sizeof(struct matrices_double), prepare_double, run_double};

/* -- gravitation between five bodies, leapfrog; the state starts anew with each run */
enum { BODIES = 5, TIME_STEPS = 400 };
struct body {
    double position[3], velocity[3], mass;
};

static uint64_t run_nbody(uint8_t *memory)
{
    struct body *bodies = (struct body *)memory;
    uint64_t seed = 17;
    for (int i = 0; i < BODIES; i++) {
        for (int k = 0; k < 3; k++) {
            bodies[i].position[k] = (double)(next_random(&seed) % 2000) / 100 - 10;
            bodies[i].velocity[k] = (double)(next_random(&seed) % 2000) / 1000 - 1;
        }
        bodies[i].mass = i ? 0.01 * i : 40;
    }
    for (int step = 0; step < TIME_STEPS; step++) {
        for (int i = 0; i < BODIES; i++)
            for (int j = i + 1; j < BODIES; j++) {
                double d[3], square = 0.01;
                for (int k = 0; k < 3; k++) {
                    d[k] = bodies[i].position[k] - bodies[j].position[k];
                    square += d[k] * d[k];
                }
                double pull = 0.001 / (square * __builtin_sqrt(square));
                for (int k = 0; k < 3; k++) {
                    bodies[i].velocity[k] -= d[k] * bodies[j].mass * pull;
                    bodies[j].velocity[k] += d[k] * bodies[i].mass * pull;
                }
            }
        for (int i = 0; i < BODIES; i++)
            for (int k = 0; k < 3; k++)
                bodies[i].position[k] += 0.001 * bodies[i].velocity[k];
    }
    return (uint64_t)(int64_t)(bodies[0].position[0] * 1e12) ^ (uint64_t)(int64_t)(bodies[4].velocity[1] * 1e12);
}
const struct kernel kernel_nbody = {"n-body", "steps", TIME_STEPS, BODIES * sizeof(struct body), NULL, run_nbody};

enum { WIDTH = 48, HEIGHT = 32, MOST = 200 };
static uint64_t run_mandelbrot(uint8_t *memory)
{
    uint64_t sum = 0;
    (void)memory;
    for (int row = 0; row < HEIGHT; row++)
        for (int column = 0; column < WIDTH; column++) {
            double x = -2.2 + 3.2 * column / WIDTH, y = -1.2 + 2.4 * row / HEIGHT, a = 0, b = 0;
            int i = 0;
            for (; i < MOST && a * a + b * b <= 4; i++) {
                double t = a * a - b * b + x;
                b = 2 * a * b + y;
                a = t;
            }
            sum += (uint64_t)i;
        }
    return sum;
}
const struct kernel kernel_mandelbrot = {"Mandelbrot", "points", WIDTH * HEIGHT, 8, NULL, run_mandelbrot};
