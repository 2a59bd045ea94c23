/* The table of kernels; see kernels.h. */
#include "kernels.h"

const struct kernel *const kernels[] = {
    &kernel_coremark_like, &kernel_dhrystone_like, &kernel_sort, &kernel_crc, &kernel_state_machine, &kernel_list,
    &kernel_strings, &kernel_matmul_int, &kernel_matmul_float, &kernel_matmul_double, &kernel_nbody,
    &kernel_mandelbrot, &kernel_memcpy, &kernel_fill, &kernel_triad, &kernel_chase, &kernel_recursive,
    &kernel_indirect, NULL,
};
