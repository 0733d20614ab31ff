/* Who offers what; one block a file, in reading order. */
#ifndef GUEST_H
#define GUEST_H

#include "bootinfo.h"

/* uart.c */
void uart_init(void);
void uart_put(char c);
int uart_get(void); /* a byte, or -1 when none has arrived */
int uart_carrier(void); /* 0 once the other end has hung up */

/* print.c: %s a string, %c a character, %d and %x a u64 */
void print(const char *format, ...);
void panic(const char *format, ...) __attribute__((noreturn));

/* console.c */
void console_interrupt(void);
long console_read(char *buffer, u64 size); /* bytes, 0 at the end of input, or -1: no line yet */

/* pic.c */
void pic_init(void);
void pic_end(int irq);

/* pit.c */
#define TICKS_PER_SECOND 100
void pit_init(void);

/* paging.c */
void paging_open_to_user(u64 start, u64 end);

/* power.c */
void power_off(int status) __attribute__((noreturn));

#endif
