/* Who runs next: round robin. The kernel itself is never preempted, so there is no lock. */
#include "guest.h"
#include "task.h"
#include "user.h"

static struct task tasks[TASKS];
struct task *current = tasks;

/* Make a task that begins at `entry` in ring 3. */
void task_start(void (*entry)(void))
{
    static u64 pids;
    struct task *task = &tasks[pids];

    if (pids == TASKS)
        panic("no room for another task");
    task->pid = ++pids;
    task->state = READY;
    task->frame.rip = (u64)entry;
    task->frame.cs = USER_CODE;
    task->frame.ss = USER_DATA;
    task->frame.rflags = USER_FLAGS;
    /* As if called: the ABI wants RSP + 8 to be a multiple of 16 at a function's first instruction. */
    task->frame.rsp = (u64)user_stacks[task->pid - 1] + USER_STACK - 8;
}

void task_wake(enum state state)
{
    for (int i = 0; i < TASKS; i++)
        if (tasks[i].state == state)
            tasks[i].state = READY;
}

void task_tick(void)
{
    for (int i = 0; i < TASKS; i++)
        if (tasks[i].state == SLEEPING && tasks[i].wake <= ticks)
            tasks[i].state = READY;
}

int task_others(void)
{
    int others = 0;

    for (int i = 0; i < TASKS; i++)
        others += &tasks[i] != current && tasks[i].state != UNUSED && tasks[i].state != EXITED;
    return others;
}

void task_exit(u64 status)
{
    int left = task_others();

    print("kernel: task %d exited with status %d: %d system calls, preempted %d times\n", current->pid, status,
          current->calls, current->preempted);
    current->state = EXITED;
    if (!left) {
        print("kernel: no task is left after %d ticks, power off with status %d\n", ticks, status);
        power_off(status);
    }
    if (left == 1)
        task_wake(WAITING);
}

/* The first ready task after the running one, or else that one, or null. */
static struct task *find(void)
{
    for (int i = 1; i <= TASKS; i++) {
        struct task *task = &tasks[(current - tasks + i) % TASKS];

        if (task->state == READY)
            return task;
    }
    return 0;
}

/* Choose whom to return to. The running task goes on until the timer says that its turn is over, or it must
 * wait. With nobody ready, sleep until an interrupt makes somebody so: `sti` takes effect after the next
 * instruction, so no interrupt can slip in between it and `hlt` (SDM volume 2B, STI). */
struct frame *task_next(int turn_over)
{
    struct task *next = current;

    if (turn_over || current->yielded || current->state != READY) {
        while (!(next = find()))
            asm volatile("sti; hlt; cli" : : : "memory");
        if (turn_over && current->state == READY && next != current)
            current->preempted++;
        current->yielded = 0;
    }
    current = next;
    trap_stack(&next->frame);
    return &next->frame;
}
