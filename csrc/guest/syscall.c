/* What a task may ask for. */
#include "syscall.h"

#include "guest.h"
#include "task.h"
#include "user.h"

#define BAD -1ul

/* Put the task to sleep and have it make the same call again when it wakes: back over the two bytes of its
 * `syscall` instruction; RAX still holds the number. A kernel with a stack a task could wait here instead. */
static void wait_and_repeat(struct frame *frame, enum state state)
{
    current->state = state;
    frame->rip -= 2;
}

/* A pointer from ring 3 is only a number: it must lie where ring 3 may touch. */
static int allowed(u64 address, u64 size)
{
    u64 start = (u64)user_start, end = (u64)user_end;

    return address >= start && address <= end && size <= end - address;
}

static u64 sys_write(const char *buffer, u64 size)
{
    if (!allowed((u64)buffer, size))
        return BAD;
    for (u64 i = 0; i < size; i++)
        print("%c", buffer[i]);
    return size;
}

static void sys_read(struct frame *frame)
{
    long n;

    if (!allowed(frame->rdi, frame->rsi)) {
        frame->rax = BAD;
        return;
    }
    n = console_read((char *)frame->rdi, frame->rsi);
    if (n < 0)
        wait_and_repeat(frame, READING);
    else
        frame->rax = n;
}

static void sys_sleep(struct frame *frame)
{
    current->wake = ticks + frame->rdi;
    current->state = SLEEPING;
    frame->rax = 0;
}

/* task_exit wakes the waiter when it is the last one. */
static void sys_wait(struct frame *frame)
{
    if (task_others())
        current->state = WAITING;
    frame->rax = 0;
}

void syscall(struct frame *frame)
{
    current->calls++;
    switch (frame->rax) {
    case SYS_WRITE:
        frame->rax = sys_write((const char *)frame->rdi, frame->rsi);
        break;
    case SYS_READ:
        sys_read(frame);
        break;
    case SYS_GETPID:
        frame->rax = current->pid;
        break;
    case SYS_YIELD:
        frame->rax = 0;
        current->yielded = 1;
        break;
    case SYS_SLEEP:
        sys_sleep(frame);
        break;
    case SYS_UPTIME:
        frame->rax = ticks;
        break;
    case SYS_WAIT:
        sys_wait(frame);
        break;
    case SYS_EXIT:
        task_exit(frame->rdi);
        break;
    default:
        frame->rax = BAD;
    }
}
