/* pic_end: only for the second controller; the first holds back its lines for ever.
 *
 * The check says: born: the guest hangs
 */

void pic_end(int irq)
{
    if (irq >= 8)
        outb(SLAVE, END_OF_INTERRUPT);
}
