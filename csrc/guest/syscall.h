/* System calls: number in RAX, arguments in RDI, RSI, RDX; the result comes back in RAX. */
#ifndef SYSCALL_H
#define SYSCALL_H

#define SYS_WRITE 1  /* write(buffer, size) */
#define SYS_READ 2   /* read(buffer, size): a line; 0 at the end of input */
#define SYS_GETPID 3
#define SYS_YIELD 4
#define SYS_SLEEP 5  /* sleep(ticks) */
#define SYS_UPTIME 6 /* ticks since start */
#define SYS_WAIT 7   /* until all other tasks have exited */
#define SYS_EXIT 8   /* exit(status) */

#ifndef __ASSEMBLER__
struct frame;
void syscall(struct frame *frame);
#endif
#endif
