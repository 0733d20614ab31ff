/* The parent's side in C: start the executor, call any system call, read the clock that the ring uses. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Call system call nr and return its result, or -errno. Owns nothing (man 2 syscall). */
static long plan_syscall(long nr, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)
{
    long result = syscall(nr, a, b, c, d, e, f);

    return result == -1 ? -errno : result;
}

/* Read CLOCK_MONOTONIC in nanoseconds, and the time stamp counter at the same moment. */
static void plan_clock(uint64_t *nanoseconds, uint64_t *ticks)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    *ticks = __builtin_ia32_rdtsc();
    *nanoseconds = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* In the vfork child: give descriptors their numbers 0..n-1, close all others, become the executor.
 * The memory is the parent's until execveat, so nothing is written but this frame. Returns only on failure. */
static int become(int exe, const int *fds, int n, int plan)
{
    int moved[n + 1];
    char number[12];
    char *argv[] = {"minirt-executor", number, NULL}, *envp[] = {NULL};

    /* First out of the way of the numbers to come, then into place: any source may be any target. */
    for (int i = 0; i <= n; i++) {
        moved[i] = fcntl(i < n ? fds[i] : exe, F_DUPFD_CLOEXEC, n + 1);
        if (moved[i] < 0)
            return errno;
    }
    for (int i = 0; i < n; i++)
        if (dup2(moved[i], i) < 0)
            return errno;
    if (dup3(moved[n], n, O_CLOEXEC) < 0)
        return errno;
    syscall(SYS_close_range, n + 1, ~0U, 0);
    snprintf(number, sizeof number, "%d", plan);
    syscall(SYS_execveat, n, "", argv, envp, AT_EMPTY_PATH);
    return errno;
}

/* Start the executor (descriptor exe) with descriptors fds[i] as its numbers i, and the plan's number in argv[1].
 * vfork: the cost does not grow with the parent, and the parent's other threads go on. All signals are blocked
 * meanwhile, so that no handler of the parent runs in memory that both share (man 2 vfork); the executor's plan
 * sets the mask it wants. Returns the pid, which the caller must wait for, or -errno. */
static int plan_spawn(int exe, const int *fds, int n, int plan)
{
    sigset_t all, old;
    volatile int failure = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t pid = vfork();
    if (pid == 0) {
        failure = become(exe, fds, n, plan);
        _exit(125);
    }
    int error = pid < 0 ? errno : failure;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid > 0 && error)
        syscall(SYS_wait4, pid, NULL, 0, NULL);
    return error ? -error : pid;
}

enum { FDS_MAX = 253 };  /* SCM_MAX_FD: the most that one message carries (man 7 unix) */

/* Receive one message of at most size bytes; *fd becomes the descriptor that came with it, or -1. The caller owns
 * it. Returns the message's length, 0 at the end, or -errno (man 2 recvmsg). */
static int plan_receive(int socket, void *buffer, int size, int *fd)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
    struct iovec part = {buffer, (size_t)size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);

    *fd = -1;
    if (got < 0)
        return -errno;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (head && head->cmsg_type == SCM_RIGHTS)
        memcpy(fd, CMSG_DATA(head), sizeof *fd);
    return (int)got;
}

/* Send one byte with n descriptors, which stay the caller's. Returns 0 or -errno (man 2 sendmsg). */
static int plan_send_fds(int socket, const int *fds, int n)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(FDS_MAX * sizeof(int))]; } control = {0};
    char byte = 1;
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    if (n > FDS_MAX)
        return -EINVAL;
    if (n) {
        message.msg_control = &control;
        message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
        control.head = (struct cmsghdr){CMSG_LEN((size_t)n * sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), fds, (size_t)n * sizeof(int));
    }
    return sendmsg(socket, &message, MSG_NOSIGNAL) < 0 ? -errno : 0;
}
