/* Formatted output, as small as it can be. */
#include <stdarg.h>

#include "guest.h"

static void put(char c)
{
    if (c == '\n')
        uart_put('\r');
    uart_put(c);
}

static void number(u64 value, u64 base)
{
    char digits[20];
    int n = 0;

    do {
        digits[n++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value);
    while (n)
        put(digits[--n]);
}

static void vprint(const char *format, va_list values)
{
    for (; *format; format++) {
        if (*format != '%') {
            put(*format);
            continue;
        }
        switch (*++format) {
        case 's':
            for (const char *s = va_arg(values, const char *); *s; s++)
                put(*s);
            break;
        case 'c':
            put(va_arg(values, int));
            break;
        case 'd':
            number(va_arg(values, u64), 10);
            break;
        case 'x':
            print("0x");
            number(va_arg(values, u64), 16);
            break;
        default:
            put(*format);
        }
    }
}

/* %s a string, %c a character, %d and %x a u64. */
void print(const char *format, ...)
{
    va_list values;

    va_start(values, format);
    vprint(format, values);
    va_end(values);
}

/* Say why, and power off with status 101: the machine cannot go on. */
void panic(const char *format, ...)
{
    va_list values;

    print("kernel panic: ");
    va_start(values, format);
    vprint(format, values);
    va_end(values);
    print("\n");
    power_off(101);
}
