/* Interrupts, exceptions and system calls: the numbers that C and assembly share, and the frame. */
#ifndef TRAP_H
#define TRAP_H

#define VECTOR_PAGE_FAULT 14
#define VECTOR_IRQ 32      /* the first 32 vectors belong to exceptions (SDM volume 3A, 6.3.1) */
#define VECTORS 48         /* 32 exceptions and the 16 lines of the two PICs */
#define VECTOR_SYSCALL 256 /* no vector at all: how our frame says that it came by `syscall` */

#define IRQ_TIMER 0
#define IRQ_UART 4

/* Selectors of the GDT that minivm built (minivm/boot/longmode.py). The low two bits are the ring. */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10
#define USER_DATA (0x18 | 3)
#define USER_CODE (0x20 | 3)
#define TSS_SELECTOR 0x28

#define USER_FLAGS (1 << 9 | 1 << 1) /* RFLAGS of a task: interrupts on; bit 1 is always 1 */

#define TSS_RSP0 4         /* offset in the 64-bit TSS (SDM volume 3A, figure 8-11) */
#define FRAME_CS 144       /* offset of cs in struct frame */

#ifndef __ASSEMBLER__
#include "bootinfo.h"

/* The registers of whoever was interrupted. 176 bytes, a multiple of 16, so the stack stays aligned. */
struct frame {
    u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
    u64 vector, error;
    u64 rip, cs, rflags, rsp, ss;
} __attribute__((aligned(16)));

_Static_assert(__builtin_offsetof(struct frame, cs) == FRAME_CS, "entry.S tests the ring there");

void trap_init(void);
void trap_stack(struct frame *frame); /* where the next trap out of ring 3 puts its frame */
void leave_kernel(struct frame *frame) __attribute__((noreturn)); /* entry.S */

extern u64 ticks; /* since pit_init, TICKS_PER_SECOND of them a second */
#endif
#endif
