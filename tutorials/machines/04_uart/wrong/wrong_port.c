/* uart_put: the byte to the register of interrupts, one port too high.
 *
 * The check says: greeting: it is not so
 */

void uart_put(char c)
{
    while (!(inb(COM1 + LINE_STATUS) & STATUS_CAN_SEND))
        ;
    outb(COM1 + INTERRUPTS, c);
}
