/* The two 8259A interrupt controllers of a PC (Intel 8259A data sheet, "Initialization command words").
 * The second hangs on line 2 of the first. Real kernels use the APICs instead; every PC still has these. */
#include "guest.h"
#include "io.h"
#include "trap.h"

enum { MASTER = 0x20, SLAVE = 0xa0, DATA = 1, SLAVE_LINE = 2 };
enum { ICW1_INIT = 0x11, ICW4_8086 = 0x01, END_OF_INTERRUPT = 0x20 };

/* Move the 16 lines to vectors 32 to 47: after reset the first controller would use 8 to 15, which are
 * exceptions. Then let through the timer and the UART only. */
void pic_init(void)
{
    outb(MASTER, ICW1_INIT);
    outb(SLAVE, ICW1_INIT);
    outb(MASTER + DATA, VECTOR_IRQ);
    outb(SLAVE + DATA, VECTOR_IRQ + 8);
    outb(MASTER + DATA, 1 << SLAVE_LINE);
    outb(SLAVE + DATA, SLAVE_LINE);
    outb(MASTER + DATA, ICW4_8086);
    outb(SLAVE + DATA, ICW4_8086);
    outb(MASTER + DATA, (u8)~(1 << IRQ_TIMER | 1 << IRQ_UART));
    outb(SLAVE + DATA, 0xff);
}

/* Without this the controller holds back the line, and all of lower priority, for ever. */
void pic_end(int irq)
{
    if (irq >= 8)
        outb(SLAVE, END_OF_INTERRUPT);
    outb(MASTER, END_OF_INTERRUPT);
}
