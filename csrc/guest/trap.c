/* Interrupts, exceptions and system calls, after entry.S has saved the registers. */
#include "trap.h"

#include "guest.h"
#include "io.h"
#include "syscall.h"
#include "task.h"

/* A gate of the interrupt descriptor table (SDM volume 3A, figure 6-8). */
struct gate {
    u16 offset0, selector;
    u8 stack; /* 0: the usual one */
    u8 type;  /* present, ring, kind */
    u16 offset16;
    u32 offset32, reserved;
};

/* The task state segment: in 64-bit mode it says which stack a trap out of ring 3 uses, and which ports ring 3 may use: by
 * a map of them that begins `ports` bytes into it. Behind its end there is none, and no port (SDM volume 1, 19.5.2). */
struct __attribute__((packed)) tss {
    u32 reserved;
    u64 rsp0;
    u8 rest[90];
    u16 ports;
};

struct __attribute__((packed)) table { /* what lidt and sgdt move */
    u16 limit;
    u64 base;
};

enum { PRESENT = 1 << 7, INTERRUPT_GATE = 0xe, TSS_AVAILABLE = 0x9 };
enum { MSR_EFER = 0xc0000080, MSR_STAR = 0xc0000081, MSR_LSTAR = 0xc0000082, MSR_SFMASK = 0xc0000084 };
enum { EFER_SYSCALL = 1 << 0, RFLAGS_TF = 1 << 8, RFLAGS_IF = 1 << 9, RFLAGS_DF = 1 << 10, RFLAGS_NT = 1 << 14 };

struct tss tss = {.ports = sizeof tss}; /* entry.S reads rsp0 */
u64 ticks;

static struct gate gates[VECTORS];

extern char stubs[], syscall_entry[]; /* entry.S */

static void load_gates(void)
{
    struct table table = {sizeof gates - 1, (u64)gates};

    for (int i = 0; i < VECTORS; i++) {
        u64 stub = (u64)stubs + 16 * i;

        gates[i] = (struct gate){.offset0 = stub, .selector = KERNEL_CODE, .type = PRESENT | INTERRUPT_GATE,
                                 .offset16 = stub >> 16, .offset32 = stub >> 32};
    }
    asm volatile("lidt %0" : : "m"(table));
}

/* Fill in the descriptor that minivm left empty in the GDT, 16 bytes long in 64-bit mode (SDM volume 3A, figure 8-4),
 * and load it. */
static void load_tss(void)
{
    struct table gdt;
    u64 base = (u64)&tss, limit = sizeof tss - 1;
    u64 *descriptor;

    asm volatile("sgdt %0" : "=m"(gdt));
    descriptor = (u64 *)(gdt.base + TSS_SELECTOR);
    descriptor[0] = limit | (base & 0xffffff) << 16 | (u64)(PRESENT | TSS_AVAILABLE) << 40 | (base >> 24 & 0xff) << 56;
    descriptor[1] = base >> 32;
    asm volatile("ltr %w0" : : "r"(TSS_SELECTOR));
}

/* Let ring 3 enter by `syscall`: where, with which selectors (SS is the one after CS), and with which flags
 * cleared, interrupts among them; iretq would fault on a task's NT flag. We go back by iretq, so the half of STAR for
 * sysret is not set. */
static void allow_syscall(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_SYSCALL);
    wrmsr(MSR_STAR, (u64)KERNEL_CODE << 32);
    wrmsr(MSR_LSTAR, (u64)syscall_entry);
    wrmsr(MSR_SFMASK, RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_NT);
}

void trap_init(void)
{
    load_gates();
    load_tss();
    allow_syscall();
}

void trap_stack(struct frame *frame)
{
    tss.rsp0 = (u64)(frame + 1);
}

static int from_user(struct frame *frame)
{
    return frame->cs & 3;
}

/* A task's mistake ends the task; our own ends the machine. CR2 is the address of a page fault (vector 14). */
static void exception(struct frame *frame)
{
    u64 address;

    asm volatile("mov %%cr2, %0" : "=r"(address));
    if (!from_user(frame))
        panic("exception %d, error %x, at %x, cr2 %x", frame->vector, frame->error, frame->rip, address);
    print("kernel: task %d: exception %d, error %x, at %x, cr2 %x\n", current->pid, frame->vector, frame->error,
          frame->rip, address);
    task_exit(128 + frame->vector);
}

/* Some hypervisors (kvm-pvm, which emulates ring 0) take ring 3's `syscall` to the address in LSTAR but leave the
 * processor in ring 3, so that its first fetch there faults. It is as good: the fault brings us to ring 0, and RCX
 * says where to go back to. Nothing is given away: a task that jumps there by itself has only made a system call. But what
 * it has in RCX must be an address at all, of the lower half: iretq would fault on another. */
static int half_a_syscall(struct frame *frame)
{
    if (frame->vector != VECTOR_PAGE_FAULT || !from_user(frame) || frame->rip != (u64)syscall_entry ||
        frame->rcx >> 47)
        return 0;
    frame->rip = frame->rcx;
    frame->rflags = USER_FLAGS;
    return 1;
}

static void interrupt(int irq)
{
    if (irq == IRQ_TIMER) {
        ticks++;
        task_tick();
    } else if (irq == IRQ_UART) {
        console_interrupt();
        task_wake(READING);
    }
    pic_end(irq);
}

/* Called by entry.S with interrupts off. Returns the frame to go back to. */
struct frame *trap(struct frame *frame)
{
    int timer = frame->vector == VECTOR_IRQ + IRQ_TIMER;

    if (frame->vector == VECTOR_SYSCALL || half_a_syscall(frame))
        syscall(frame);
    else if (frame->vector >= VECTOR_IRQ)
        interrupt(frame->vector - VECTOR_IRQ);
    else
        exception(frame);
    return from_user(frame) ? task_next(timer) : frame;
}
