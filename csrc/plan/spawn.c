/* The parent's side in C: start the executor, call any system call, read the clock that the ring uses. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

enum { ROOM_FDS = 4096 };  /* the most that a program is given */

/* What the process that becomes the executor stands on until then: it shares the parent's memory, and the parent goes on. So
 * it has a stack of its own, and its orders lie beside that. `taken` goes back to 0 by the kernel's hand when the process
 * has left the memory, by execve or by its end (man 2 clone, CLONE_CHILD_CLEARTID); then the next may have the room. */
struct room {
    struct room *next;
    int taken;
    int exe, n;
    int fds[ROOM_FDS + 1];
    char number[12];
    char stack[16384] __attribute__((aligned(16)));
};

static struct room *rooms;  /* never given back: as many as there ever were executors starting at once */

static struct room *take_room(void)
{
    for (struct room *r = __atomic_load_n(&rooms, __ATOMIC_ACQUIRE); r; r = r->next) {
        int free = 0;
        if (__atomic_compare_exchange_n(&r->taken, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
            return r;
    }
    struct room *r = mmap(NULL, sizeof *r, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (r == MAP_FAILED)
        return NULL;
    r->taken = 1;
    r->next = __atomic_load_n(&rooms, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&rooms, &r->next, r, 0, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        ;
    return r;
}

/* A system call without the C library: errno, and all else that a thread has of its own, is the parent's here. */
static long raw(long nr, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

/* In the new process: give descriptors their numbers 0..n-1, close all others, become the executor. Nothing is written but
 * this room. On failure the other end of the control socket, the last but one, is told -errno; else it is told nothing. */
static int become(void *argument)
{
    struct room *r = argument;
    int n = r->n, socket = r->fds[n - 2];
    char *argv[] = {"minirt-executor", r->number, NULL}, *envp[] = {NULL};
    long result = 0;

    /* First out of the way of the numbers to come, then into place: any source may be any target. */
    for (int i = 0; i <= n && result >= 0; i++)
        result = r->fds[i] = (int)raw(SYS_fcntl, i < n ? r->fds[i] : r->exe, F_DUPFD_CLOEXEC, n + 1, 0, 0);
    if (result >= 0)
        socket = r->fds[n - 2];
    for (int i = 0; i < n && result >= 0; i++)
        result = raw(SYS_dup2, r->fds[i], i, 0, 0, 0);
    if (result >= 0) {
        socket = n - 2;
        result = raw(SYS_dup3, r->fds[n], n, O_CLOEXEC, 0, 0);
    }
    if (result >= 0) {
        raw(SYS_close_range, n + 1, ~0U, 0, 0, 0);
        result = raw(SYS_execveat, n, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
    }
    int failure = (int)result;
    raw(SYS_write, socket, (long)&failure, sizeof failure, 0, 0);
    raw(SYS_exit_group, 125, 0, 0, 0, 0);
    return 0;
}

/* Start the executor (descriptor exe) with descriptors fds[i] as its numbers i, and the plan's number in argv[1]; the last
 * but one of them is its end of the control socket, at whose other end what fails here is read: 4 bytes, -errno.
 *
 * CLONE_VM, as vfork: the cost does not grow with the parent. But not CLONE_VFORK: the parent has a plan to make while the
 * kernel loads the executor. All signals are blocked in the new process from the start, so that no handler of the parent
 * runs in memory that both share; the executor's plan sets the mask it wants. The descriptors may be closed as soon as
 * this returns, as the new process has its own. Returns the pid, which the caller must wait for, or -errno. */
static int plan_spawn(int exe, const int *fds, int n, int plan)
{
    sigset_t all, old;
    struct room *r;

    if (n < 2 || n > ROOM_FDS)
        return -EMFILE;
    if (!(r = take_room()))
        return -ENOMEM;
    r->exe = exe;
    r->n = n;
    memcpy(r->fds, fds, (size_t)n * sizeof *fds);
    snprintf(r->number, sizeof r->number, "%d", plan);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int pid = clone(become, r->stack + sizeof r->stack, CLONE_VM | CLONE_CHILD_CLEARTID | SIGCHLD, r, NULL, NULL, &r->taken);
    int error = pid < 0 ? errno : 0;
    if (error)
        __atomic_store_n(&r->taken, 0, __ATOMIC_RELEASE);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
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
