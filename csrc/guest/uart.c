/* The 16550 serial port at COM1 (National Semiconductor PC16550D data sheet, section 8). */
#include "guest.h"
#include "io.h"

#define COM1 0x3f8

enum { /* registers, as offsets */
    DATA = 0,         /* read: received byte; write: byte to send */
    INTERRUPTS = 1,   /* which events raise IRQ 4 */
    FIFO_CONTROL = 2, /* write only */
    LINE_CONTROL = 3,
    MODEM_CONTROL = 4,
    LINE_STATUS = 5,
    MODEM_STATUS = 6,
};

enum {
    INTERRUPT_RECEIVED = 1 << 0,
    INTERRUPT_MODEM = 1 << 3,
    FIFO_ON = 1 << 0,
    FIFO_CLEAR = 3 << 1,
    LINE_8_BITS = 3 << 0,
    MODEM_DTR_RTS = 3 << 0,
    MODEM_OUT2 = 1 << 3, /* on a PC, OUT2 connects the UART to its interrupt line */
    STATUS_RECEIVED = 1 << 0,
    STATUS_CAN_SEND = 1 << 5,
    MODEM_CARRIER = 1 << 7,
};

/* The speed (the divisor latch) is left alone: a virtual wire has none. */
void uart_init(void)
{
    outb(COM1 + LINE_CONTROL, LINE_8_BITS);
    outb(COM1 + FIFO_CONTROL, FIFO_ON | FIFO_CLEAR);
    outb(COM1 + MODEM_CONTROL, MODEM_DTR_RTS | MODEM_OUT2);
    outb(COM1 + INTERRUPTS, INTERRUPT_RECEIVED | INTERRUPT_MODEM);
}

/* Send one byte, waiting for room. Two exits from the virtual machine: the dearest thing this kernel does. */
void uart_put(char c)
{
    while (!(inb(COM1 + LINE_STATUS) & STATUS_CAN_SEND))
        ;
    outb(COM1 + DATA, c);
}

int uart_get(void)
{
    if (!(inb(COM1 + LINE_STATUS) & STATUS_RECEIVED))
        return -1;
    return inb(COM1 + DATA);
}

/* Reading the modem status also acknowledges its interrupt. */
int uart_carrier(void)
{
    return inb(COM1 + MODEM_STATUS) & MODEM_CARRIER;
}
