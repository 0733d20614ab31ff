/* Input, a line at a time: echo what is typed, take backspace and ctrl-D, and keep the line for a reader. */
#include "guest.h"

#define SIZE 256
enum { CTRL_D = 4, BACKSPACE = 8, DELETE = 127 };

static char line[SIZE];
static u64 length; /* bytes in it */
static int complete; /* it waits to be read; until then nothing more is taken from the UART */
static int ended; /* after it nothing follows */

static void take(int c)
{
    if (c == '\r')
        c = '\n'; /* a terminal's Enter key sends a carriage return */
    if (c == CTRL_D) {
        complete = ended = 1;
    } else if (c == BACKSPACE || c == DELETE) {
        if (length) {
            length--;
            print("\b \b");
        }
    } else if (length < SIZE - 1 || c == '\n') {
        print("%c", c);
        line[length++] = c;
        complete = c == '\n' || length == SIZE;
    }
}

/* Take what the UART has, up to the end of a line. What is left in it stays there: its FIFO fills up and
 * the sender waits, so that no byte is lost however much is pasted. */
static void fill(void)
{
    int c;

    while (!complete && (c = uart_get()) >= 0)
        take(c);
    if (!complete && !uart_carrier())
        complete = ended = 1;
}

void console_interrupt(void)
{
    fill();
    uart_carrier(); /* in any case: it acknowledges a modem interrupt */
}

long console_read(char *buffer, u64 size)
{
    u64 n = 0;

    fill();
    if (!complete)
        return -1;
    while (n < length && n < size) {
        buffer[n] = line[n];
        n++;
    }
    length = 0;
    complete = ended; /* at the end, every read returns 0 */
    return n;
}
