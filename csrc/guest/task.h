/* A task: registers, a state, and what it has used. */
#ifndef TASK_H
#define TASK_H

#include "trap.h"

#define TASKS 3

enum state { UNUSED, READY, SLEEPING, READING, WAITING, EXITED };

struct task {
    struct frame frame; /* traps out of ring 3 push right into it: TSS.rsp0 is its end */
    enum state state;
    u64 pid;
    u64 wake;      /* SLEEPING: the tick to wake at */
    int yielded;   /* it gave up the rest of its turn */
    u64 calls;     /* system calls made */
    u64 preempted; /* how often the timer took the processor away while another was ready */
};

extern struct task *current;

void task_start(void (*entry)(void));
struct frame *task_next(int turn_over); /* whom to return to */
void task_exit(u64 status);
int task_others(void); /* how many have not exited, beside the running one */
void task_wake(enum state state);       /* all that are in this state */
void task_tick(void);

#endif
