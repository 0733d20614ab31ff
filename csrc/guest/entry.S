/* Where the processor enters the kernel: once at start, then by interrupt, exception and system call; and the
 * one way out, by iretq.
 *
 * Whatever the way in, the same frame lies in memory afterwards (struct frame in trap.h), so the C code and
 * the way out need not know which it was:
 *
 *     higher   ss rsp rflags cs rip      pushed by the processor (SDM volume 3A, 6.14 "64-bit mode")
 *              error                     pushed by the processor for some exceptions, else 0 by us
 *              vector                    which stub
 *     lower    rax rcx rdx ... r15       pushed here
 */
#include "trap.h"

.text
.globl start
start:                              /* long mode, interrupts off, RDI = struct bootinfo */
    lea kernel_stack_top(%rip), %rsp
    xor %ebp, %ebp
    call main
1:  hlt
    jmp 1b

/* One stub a vector: the processor does not say which vector it took. Those of the exceptions 8, 10 to 14, 17,
 * 21, 29 and 30 find an error code on the stack (SDM volume 3A, table 6-1). */
.macro stub number
    .balign 16
    .if !(\number == 8 || (\number >= 10 && \number <= 14) || \number == 17 || \number == 21 || \number == 29 || \number == 30)
    pushq $0
    .endif
    pushq $\number
    jmp enter_kernel
.endm

.altmacro                           /* for %n: the number, not the name */
.balign 16
.globl stubs
stubs:                              /* 16 bytes apart: trap.c computes the address */
.set n, 0
.rept VECTORS
    stub %n
.set n, n + 1
.endr
.noaltmacro

/* syscall leaves the return address in RCX and the flags in R11, and does not change the stack
 * (SDM volume 2B, SYSCALL; interrupts are off because MSR_SFMASK says so). We build what an interrupt would
 * have pushed, on the same stack that it would have used: TSS.rsp0, the running task's frame. */
.globl syscall_entry
syscall_entry:
    mov %rsp, user_rsp(%rip)
    mov tss + TSS_RSP0(%rip), %rsp
    pushq $USER_DATA
    pushq user_rsp(%rip)
    pushq %r11
    pushq $USER_CODE
    pushq %rcx
    pushq $0
    pushq $VECTOR_SYSCALL

enter_kernel:
    cld                             /* C expects it, and a trap leaves it as the task had it */
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    mov %rsp, %rdi
    testb $3, FRAME_CS(%rsp)        /* from ring 0 (the idle loop) we stay on the kernel's stack */
    jz 1f
    lea kernel_stack_top(%rip), %rsp
1:  call trap                       /* struct frame *trap(struct frame *): may name another task's */
    mov %rax, %rdi

.globl leave_kernel
leave_kernel:                       /* RDI = the frame to go back to */
    mov %rdi, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp                   /* vector, error */
    iretq

.bss
user_rsp:
    .skip 8
.balign 16
    .skip 8192
.globl kernel_stack_top
kernel_stack_top:
