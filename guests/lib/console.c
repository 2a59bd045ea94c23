/* ns16550a output, a small printf, power off. */
#include "console.h"

#include <stdbool.h>
#include <stdint.h>

#include "board.h"
#include "riscv.h"
#include "sync.h"

enum { THR = 0, IER = 1, FCR = 2, LCR = 3, LSR = 5, FIFO_SIZE = 16 };
enum { LSR_THR_EMPTY = 0x20, LSR_IDLE = 0x40 };

static struct ticket_lock console_lock;

void console_init(void)
{
    write8(UART + IER, 0);
    write8(UART + LCR, 3); /* 8n1 */
    write8(UART + FCR, 7); /* FIFOs on and empty */
}

static void uart_write(const char *text, size_t length)
{
    while (length) { /* an empty FIFO takes 16 characters: one status read for them all */
        while (!(read8(UART + LSR) & LSR_THR_EMPTY))
            cpu_pause();
        for (int i = 0; i < FIFO_SIZE && length; i++, length--)
            write8(UART + THR, *text++);
    }
}

static char *put_number(char *digits_end, uint64_t value, unsigned base)
{
    do {
        *--digits_end = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    return digits_end;
}

int format_text(char *buffer, size_t size, const char *format, va_list arguments)
{
    size_t used = 0;
#define EMIT(c) do { char c_ = (c); if (used + 1 < size) buffer[used++] = c_; } while (0)
    for (; *format; format++) {
        if (*format != '%') {
            EMIT(*format);
            continue;
        }
        bool left = false, wide = false, negative = false;
        char pad = ' ', digits[24], *text = digits + sizeof digits - 1;
        int width = 0;
        for (format++; *format == '-' || *format == '0'; format++) {
            left |= *format == '-';
            pad = *format == '0' ? '0' : pad;
        }
        for (; *format >= '0' && *format <= '9'; format++)
            width = 10 * width + *format - '0';
        for (; *format == 'l'; format++)
            wide = true;
        *text = 0;
        switch (*format) {
        case 'd': {
            int64_t value = wide ? va_arg(arguments, int64_t) : va_arg(arguments, int);
            negative = value < 0;
            text = put_number(text, negative ? -(uint64_t)value : (uint64_t)value, 10);
            break;
        }
        case 'u':
        case 'x': {
            uint64_t value = wide ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned);
            text = put_number(text, value, *format == 'u' ? 10 : 16);
            break;
        }
        case 's':
            text = va_arg(arguments, char *);
            break;
        case 'c':
            *--text = (char)va_arg(arguments, int);
            break;
        default:
            *--text = *format;
        }
        int length = negative;
        for (char *p = text; *p; p++)
            length++;
        if (negative && pad == '0')
            EMIT('-');
        for (int i = length; i < width && !left; i++)
            EMIT(pad);
        if (negative && pad == ' ')
            EMIT('-');
        while (*text)
            EMIT(*text++);
        for (int i = length; i < width && left; i++)
            EMIT(' ');
    }
#undef EMIT
    buffer[used] = 0;
    return (int)used;
}

int print(const char *format, ...)
{
    char buffer[512];
    va_list arguments;
    va_start(arguments, format);
    int length = format_text(buffer, sizeof buffer, format, arguments);
    va_end(arguments);
    ticket_lock(&console_lock);
    uart_write(buffer, (size_t)length);
    ticket_unlock(&console_lock);
    return length;
}

_Noreturn void power_off(unsigned code)
{
    while (!(read8(UART + LSR) & LSR_IDLE))
        cpu_pause();
    write32(FINISHER, code ? code << 16 | 0x3333 : 0x5555);
    for (;;)
        wfi();
}
