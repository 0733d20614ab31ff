/* Instructions that C has no words for. */
#ifndef IO_H
#define IO_H

#include "bootinfo.h"

/* Port I/O: each of these leaves the virtual machine, unless the device lives in the host kernel
 * (PIC and PIT do). Intel SDM volume 1, chapter 19 "Input/Output". */
static inline void outb(u16 port, u8 value)
{
    asm volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}

static inline u8 inb(u16 port)
{
    u8 value;

    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

/* Model-specific registers are 64 bits wide and travel in EDX:EAX. Intel SDM volume 4. */
static inline void wrmsr(u32 msr, u64 value)
{
    asm volatile("wrmsr" : : "c"(msr), "a"((u32)value), "d"((u32)(value >> 32)));
}

static inline u64 rdmsr(u32 msr)
{
    u32 low, high;

    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
    return (u64)high << 32 | low;
}

#endif
