/* uart_get: it does not ask whether there is a byte; an empty register reads as 0.
 *
 * The check says: born: the guest hangs
 */

int uart_get(void)
{
    return inb(COM1 + DATA);
}
