/* An init for containers: `init [--] PROGRAM [ARGUMENT ...]`, what `minirt run --init` puts before the command.
 *
 * Pid 1 of a pid namespace has two duties that few programs know of (man 7 pid_namespaces):
 *
 *   - orphans become its children, and stay zombies until it waits for them;
 *   - a signal that it has no handler for does nothing to it, so `sleep` as pid 1 cannot be interrupted.
 *
 * So this is pid 1 and the program is its child, with the ordinary rules. Every signal that comes is passed on to the
 * program; everything that dies is waited for; when the program dies, so does this, with the program's exit status,
 * and the kernel kills what is left in the namespace. PROGRAM is a path: the caller has searched PATH.
 *
 * Freestanding, because it is bind mounted into images that have no C library, or another. It owns nothing.
 */
#include <asm/signal.h>
#include <errno.h>
#include <stdint.h>
#include <sys/syscall.h>

#ifndef __x86_64__
#error "the init's system calls are written for x86-64"
#endif

#define EXIT_USAGE 125       /* docker's numbers: our own failure, */
#define EXIT_CANNOT_RUN 126  /* the program is there and cannot be run, */
#define EXIT_NOT_FOUND 127   /* there is no such program */

/* Values that the kernel's ABI fixes, whose headers need a C library. */
#define WNOHANG 1
#define TIOCSPGRP 0x5410
#define PR_SET_CHILD_SUBREAPER 36

typedef uint64_t sigset;  /* the kernel's: bit n-1 for signal n, 8 bytes */
#define BIT(signal) (1UL << ((signal) - 1))

/* What the kernel raises for a fault of our own: that kills even when blocked (man 2 sigprocmask), and should. */
#define FAULTS (BIT(SIGSEGV) | BIT(SIGBUS) | BIT(SIGFPE) | BIT(SIGILL) | BIT(SIGTRAP) | BIT(SIGSYS) | BIT(SIGABRT))

static long call(long nr, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
    register uint64_t r10 __asm__("r10") = d;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static void leave(int status)
{
    for (;;)
        call(SYS_exit_group, (uint64_t)status, 0, 0, 0);
}

static void say(const char *text)
{
    uint64_t size = 0;

    while (text[size])
        size++;
    call(SYS_write, 2, (uint64_t)text, size, 0);
}

static const char *meaning(long error)
{
    switch (-error) {
    case ENOENT:
        return "no such file, or its interpreter is missing";
    case EACCES:
        return "permission denied, or not a regular file";
    case ENOEXEC:
        return "not a program for this machine, or a script without #!";
    case ENOTDIR:
        return "a part of the path is not a directory";
    case E2BIG:
        return "the arguments and the environment are too long";
    default:
        return "the kernel refused to run it";
    }
}

/* In the child: lead a process group of one's own, take the terminal, unblock signals, become the program. */
static void become(char **argv, char **envp, sigset before)
{
    int group = (int)call(SYS_getpid, 0, 0, 0, 0);

    /* What is typed as ^C goes to the terminal's foreground group: to the program and its children, not to pid 1,
     * which would pass it on a second time. Taking the foreground from outside of it means SIGTTOU, which stops us,
     * unless blocked, as it is here (man 3 tcsetpgrp). Without a terminal the call fails, and that is as well. */
    call(SYS_setpgid, 0, 0, 0, 0);
    call(SYS_ioctl, 0, TIOCSPGRP, (uint64_t)&group, 0);
    call(SYS_rt_sigprocmask, SIG_SETMASK, (uint64_t)&before, 0, sizeof before);
    long error = call(SYS_execve, (uint64_t)argv[0], (uint64_t)argv, (uint64_t)envp, 0);
    say("init: cannot run ");
    say(argv[0]);
    say(": ");
    say(meaning(error));
    say("\n");
    leave(error == -ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN);
}

/* Wait for whatever has died; leave when the program is among it. SIGCHLD is not queued: one may stand for many. */
static void reap(long program)
{
    int status;
    long pid;

    while ((pid = call(SYS_wait4, (uint64_t)-1, (uint64_t)&status, WNOHANG, 0)) > 0)
        if (pid == program)
            leave(status & 0x7f ? 128 + (status & 0x7f) : status >> 8 & 0xff);
}

/* The kernel hands over argc, argv, NULL, envp, NULL on the stack (System V ABI, "Process Initialization"). */
__attribute__((used)) static void begin(long *stack)
{
    char **argv = (char **)(stack + 1), **envp = argv + stack[0] + 1;
    const uint64_t by_default[4] = {(uint64_t)SIG_DFL};  /* struct sigaction: handler flags restorer mask */
    const sigset all = ~FAULTS;
    sigset before = 0;

    if (*argv)
        argv++;
    if (*argv && argv[0][0] == '-' && argv[0][1] == '-' && !argv[0][2])
        argv++;
    if (!*argv) {
        say("usage: init [--] PROGRAM [ARGUMENT ...]\n");
        leave(EXIT_USAGE);
    }
    /* A blocked signal waits to be taken, even one that pid 1 would otherwise never get (kernel/signal.c,
     * sig_ignored). Blocked before the fork, so none is lost. Ignoring SIGCHLD is inherited over execve and means
     * that children leave no exit status (man 2 wait). */
    call(SYS_rt_sigaction, SIGCHLD, (uint64_t)by_default, 0, sizeof all);
    call(SYS_rt_sigprocmask, SIG_SETMASK, (uint64_t)&all, (uint64_t)&before, sizeof all);
    /* With the host's pid namespace (--pid host) this is not pid 1: orphans come to it because it asks. */
    call(SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0);
    long program = call(SYS_fork, 0, 0, 0, 0);
    if (program == 0)
        become(argv, envp, before);
    if (program < 0) {
        say("init: fork: the kernel refused (a limit on processes?)\n");
        leave(EXIT_USAGE);
    }
    for (;;) {
        long signal = call(SYS_rt_sigtimedwait, (uint64_t)&all, 0, 0, sizeof all);
        if (signal == SIGCHLD)
            reap(program);
        else if (signal > 0)  /* -EINTR: stopped and continued */
            call(SYS_kill, (uint64_t)program, (uint64_t)signal, 0, 0);
    }
}

/* The kernel enters here with argc at the top of the stack. */
__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");
