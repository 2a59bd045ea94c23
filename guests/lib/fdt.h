/* The little that programs want from a flattened device tree (devicetree.org, version 0.4, chapter 5). */
#ifndef FDT_H
#define FDT_H

#include <stdint.h>

/* Nodes with device_type = "cpu"; 1 if there is no device tree. */
unsigned fdt_count_cpus(const void *fdt);
/* `name=number` (decimal) in /chosen/bootargs, else `otherwise`. */
uint64_t fdt_bootarg(const void *fdt, const char *name, uint64_t otherwise);
/* The text behind `name=` in /chosen/bootargs, up to a blank; "" if there is none. In a static buffer. */
const char *fdt_bootarg_text(const void *fdt, const char *name);

#endif
