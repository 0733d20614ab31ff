/* The tasks' way into the kernel: C's calling convention puts the arguments where the kernel looks. */
#include "syscall.h"

.macro call name, number
.globl \name
\name:
    mov $\number, %eax
    syscall
    ret
.endm

.text
call write, SYS_WRITE
call read, SYS_READ
call getpid, SYS_GETPID
call yield, SYS_YIELD
call sleep, SYS_SLEEP
call uptime, SYS_UPTIME
call wait, SYS_WAIT
call exit, SYS_EXIT
