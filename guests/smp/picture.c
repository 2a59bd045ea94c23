/* The Mandelbrot set in double precision, drawn with the number of the hart that computed each row. */
#include "smp.h"

enum { COLUMNS = 72, ROWS = 24 };
static char picture[ROWS][COLUMNS + 1];
static uint8_t drawn_by[ROWS];
static uint32_t next_row;
static uint64_t iterations;

static unsigned escape_time(double x, double y, unsigned most)
{
    double a = 0, b = 0;
    unsigned i = 0;
    while (i < most && a * a + b * b <= 4.0) {
        double t = a * a - b * b + x;
        b = 2 * a * b + y;
        a = t;
        i++;
    }
    return i;
}

static void draw(unsigned hart)
{
    static const char shades[] = " .,:;+*%#@";
    unsigned samples = scale == 0 ? 1 : scale == 1 ? 6 : 20, most = 500;
    uint64_t total = 0;
    for (uint32_t row; (row = fetch_add(&next_row, 1)) < ROWS;) {
        for (unsigned column = 0; column < COLUMNS; column++) {
            uint64_t sum = 0;
            for (unsigned i = 0; i < samples * samples; i++)
                sum += escape_time(-2.2 + 3.2 * (column + (double)(i % samples) / samples) / COLUMNS,
                                   -1.2 + 2.4 * (row + (double)(i / samples) / samples) / ROWS, most);
            unsigned mean = (unsigned)(sum / (samples * samples)), shade = 0;
            for (; mean > 2 && shade < 9; mean = mean * 5 / 9)
                shade++;
            picture[row][column] = shades[shade];
            total += sum;
        }
        drawn_by[row] = (uint8_t)hart;
    }
    fetch_add(&iterations, total);
}

bool test_mandelbrot(void)
{
    static const uint64_t expected[] = {183571, 6469660, 71639367}; /* the same sums by an x86-64 host */
    parallel(draw, harts);
    for (unsigned row = 0; row < ROWS && scale; row++)
        print("  hart %u %s\n", drawn_by[row], picture[row]);
    return iterations == expected[scale > 2 ? 2 : scale];
}
