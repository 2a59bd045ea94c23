/* See fdt.h. */
#include "fdt.h"

#include <stdbool.h>
#include <stddef.h>

#include "text.h"

enum { MAGIC = 0xd00dfeed, BEGIN_NODE = 1, END_NODE = 2, PROP = 3, NOP = 4 };

static uint32_t be32(const void *p) { return __builtin_bswap32(*(const uint32_t *)p); }

typedef bool visitor(void *context, const char *property, const char *value);

/* Calls visit for every property in the tree until it returns true. */
static void each_property(const void *fdt, visitor *visit, void *context)
{
    const char *base = fdt;
    if (!fdt || be32(base) != MAGIC)
        return;
    const char *p = base + be32(base + 8), *strings = base + be32(base + 12);
    for (;;) {
        uint32_t token = be32(p);
        p += 4;
        if (token == BEGIN_NODE) {
            p += (strlen(p) + 4) & ~3ul;
        } else if (token == PROP) {
            uint32_t length = be32(p);
            if (visit(context, strings + be32(p + 4), p + 8))
                return;
            p += 8 + ((length + 3) & ~3u);
        } else if (token != END_NODE && token != NOP) {
            return;
        }
    }
}

static bool count_cpu(void *context, const char *property, const char *value)
{
    *(unsigned *)context += !strcmp(property, "device_type") && !strcmp(value, "cpu");
    return false;
}

unsigned fdt_count_cpus(const void *fdt)
{
    unsigned count = 0;
    each_property(fdt, count_cpu, &count);
    return count ? count : 1;
}

static bool find_bootargs(void *context, const char *property, const char *value)
{
    if (strcmp(property, "bootargs"))
        return false;
    *(const char **)context = value;
    return true;
}

const char *fdt_bootarg_text(const void *fdt, const char *name)
{
    static char text[64];
    const char *p = "";
    each_property(fdt, find_bootargs, &p);
    size_t length = strlen(name), used = 0;
    for (; *p; p++) {
        if (!strncmp(p, name, length) && p[length] == '=') {
            for (p += length + 1; *p && *p != ' ' && used < sizeof text - 1; p++)
                text[used++] = *p;
            break;
        }
        while (*p && *p != ' ')
            p++;
        if (!*p)
            break;
    }
    text[used] = 0;
    return text;
}

uint64_t fdt_bootarg(const void *fdt, const char *name, uint64_t otherwise)
{
    const char *text = fdt_bootarg_text(fdt, name);
    uint64_t value = 0;
    if (*text < '0' || *text > '9')
        return otherwise;
    while (*text >= '0' && *text <= '9')
        value = 10 * value + (uint64_t)(*text++ - '0');
    return value;
}
