/* Text on the UART. A call prints as a whole: output of several harts never mixes within one. */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stdarg.h>
#include <stddef.h>

void console_init(void);

/* Formats %d %u %x (with l for 64 bits), %s %c %%, with width, 0 and - flags; at most 511 characters a call. */
int print(const char *format, ...) __attribute__((format(printf, 1, 2)));
int format_text(char *buffer, size_t size, const char *format, va_list arguments);

#endif
