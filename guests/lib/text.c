/* See text.h. Built with -fno-builtin, or the loops would become calls of themselves. */
#include "text.h"

#include <stdint.h>

void *memcpy(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (!(((uintptr_t)t | (uintptr_t)f) & 7)) {
        for (; size >= 32; size -= 32, t += 32, f += 32) {
            const uint64_t *s = (const uint64_t *)f;
            uint64_t a = s[0], b = s[1], c = s[2], d = s[3], *w = (uint64_t *)t;
            w[0] = a, w[1] = b, w[2] = c, w[3] = d;
        }
        for (; size >= 8; size -= 8, t += 8, f += 8)
            *(uint64_t *)t = *(const uint64_t *)f;
    }
    while (size--)
        *t++ = *f++;
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    uint8_t *t = to;
    const uint8_t *f = from;
    if (t <= f || t >= f + size)
        return memcpy(to, from, size);
    while (size--)
        t[size] = f[size];
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    uint8_t *t = to;
    uint64_t word = 0x0101010101010101ul * (uint8_t)byte;
    for (; size && ((uintptr_t)t & 7); size--)
        *t++ = (uint8_t)byte;
    for (; size >= 8; size -= 8, t += 8)
        *(uint64_t *)t = word;
    while (size--)
        *t++ = (uint8_t)byte;
    return to;
}

int memcmp(const void *a, const void *b, size_t size)
{
    const uint8_t *p = a, *q = b;
    for (; size; size--, p++, q++)
        if (*p != *q)
            return *p - *q;
    return 0;
}

size_t strlen(const char *s)
{
    const char *p = s;
    while (*p)
        p++;
    return (size_t)(p - s);
}

int strncmp(const char *a, const char *b, size_t size)
{
    for (; size; size--, a++, b++)
        if (*a != *b || !*a)
            return (uint8_t)*a - (uint8_t)*b;
    return 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }
