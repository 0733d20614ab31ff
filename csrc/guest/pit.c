/* The 8254 timer (Intel 82C54 data sheet): channel 0 divides 1.193182 MHz and raises IRQ 0. */
#include "guest.h"
#include "io.h"

enum { CHANNEL0 = 0x40, COMMAND = 0x43 };
enum { RATE_GENERATOR = 0x34 }; /* channel 0, low byte then high byte, mode 2 */
#define HERTZ 1193182

void pit_init(void)
{
    u16 divisor = HERTZ / TICKS_PER_SECOND;

    outb(COMMAND, RATE_GENERATOR);
    outb(CHANNEL0, divisor & 0xff);
    outb(CHANNEL0, divisor >> 8);
}
