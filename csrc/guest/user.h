/* The tasks' side: what the kernel needs to know of it, and what usys.S gives it. */
#ifndef USER_H
#define USER_H

#include "bootinfo.h"

#define USER_STACK 8192

extern char user_stacks[][USER_STACK]; /* user.c; one a task, in pages that ring 3 may touch */
extern char user_start[], user_end[];  /* guest.ld */

void user_count(void);
void user_echo(void);

/* usys.S */
long write(const char *buffer, u64 size);
long read(char *buffer, u64 size);
long getpid(void);
long yield(void);
long sleep(u64 ticks);
long uptime(void);
long wait(void);
void exit(long status) __attribute__((noreturn));

#endif
