/* The parent's side of the birth written by hand: what minirt/plan/birth.py and csrc/plan/spawn.c do, in plain C.
 *
 *     birth_parent CHILD-PROGRAM OVERLAY-OPTIONS TARGET
 *
 * For each byte read from standard input: one container from nothing to reaped, then a line with the nanoseconds
 * that it took (CLOCK_MONOTONIC).
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "birth_child.h"

static int program(const char *path)
{
    char buffer[65536];
    int from = open(path, O_RDONLY | O_CLOEXEC), to = memfd_create("child", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ssize_t n = read(from, buffer, sizeof buffer);

    if (n <= 0 || write(to, buffer, (size_t)n) != n || fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_WRITE) < 0)
        err(1, "%s", path);
    close(from);
    return to;
}

static long call(long nr, long a, long b, long c, long d, long e)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
    return result;
}

/* In the new process, which shares our memory but for its stack: descriptors 0, 1, 2, the socket, the memory, the program;
 * nothing else. */
static int become(void *argument)
{
    int *fds = argument;
    char *argv[] = {"child", "4", NULL}, *envp[] = {NULL};

    for (int i = 0; i < 6; i++)
        fds[i] = (int)call(SYS_fcntl, fds[i], F_DUPFD_CLOEXEC, 6, 0, 0);
    for (int i = 0; i < 5; i++)
        call(SYS_dup2, fds[i], i, 0, 0, 0);
    call(SYS_dup3, fds[5], 5, O_CLOEXEC, 0, 0);
    call(SYS_close_range, 6, ~0U, 0, 0, 0);
    call(SYS_execveat, 5, (long)"", (long)argv, (long)envp, AT_EMPTY_PATH);
    call(SYS_exit_group, 125, 0, 0, 0, 0);
    return 0;
}

static void birth(int exe, const struct shared *image)
{
    static struct shared result;
    static char stack[16384] __attribute__((aligned(16)));
    sigset_t all, old;
    int pair[2], status;
    char byte, name[64];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};

    int memory = memfd_create("shared", MFD_CLOEXEC);
    if (memory < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        err(1, "memory");
    static int fds[6];
    memcpy(fds, (int[6]){0, 1, 2, pair[1], memory, exe}, sizeof fds);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pid_t helper = clone(become, stack + sizeof stack, CLONE_VM | SIGCHLD, fds);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    close(pair[1]);
    if (helper < 0 || pwrite(memory, image, sizeof *image, 0) != sizeof *image || sendmsg(pair[0], &message, MSG_NOSIGNAL) != 1)
        err(1, "the helper");
    if (readlink("/proc/self/ns/user", name, sizeof name) < 0)  /* is it the initial one? There device nodes can be made */
        err(1, "the user namespace");
    /* minirt writes the rest of its plan here: the records again with the others, and where they are. */
    if (pwrite(memory, image, sizeof *image, sizeof *image) != sizeof *image || pwrite(memory, &image->kcore, 1, sizeof *image) != 1
        || sendmsg(pair[0], &message, MSG_NOSIGNAL) != 1)
        err(1, "the rest");
    while (recvmsg(pair[0], &message, MSG_CMSG_CLOEXEC) < 0 && errno == EINTR)  /* ends when the program starts */
        ;
    if (waitpid(helper, &status, 0) < 0 || status || pread(memory, &result.pid, 4, 0) != 4)
        errx(1, "the helper failed: %d", status);
    int pidfd = (int)syscall(SYS_pidfd_open, result.pid, 0);
    if (pread(memory, &result.used, 4, 4) != 4 || pread(memory, result.results, 1600, 1288) != 1600)
        err(1, "results");
    if (waitpid(result.pid, &status, 0) < 0 || status)
        errx(1, "the container failed: %d after %u calls", status, result.used);
    close(pair[0]);
    close(pidfd);
    close(memory);
}

/* What this process has had of processors, and with it what those have had that it made and waited for (man 2 getrusage). */
static long processors(void)
{
    struct rusage self, children;

    getrusage(RUSAGE_SELF, &self);
    getrusage(RUSAGE_CHILDREN, &children);
    return (self.ru_utime.tv_sec + self.ru_stime.tv_sec + children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000000000
        + (self.ru_utime.tv_usec + self.ru_stime.tv_usec + children.ru_utime.tv_usec + children.ru_stime.tv_usec) * 1000;
}

static long nanoseconds(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char **argv)
{
    static struct shared image;
    char byte, line[64];

    if (argc != 4 || strlen(argv[2]) >= sizeof image.options || strlen(argv[3]) >= sizeof image.target)
        errx(2, "usage: birth_parent CHILD-PROGRAM OVERLAY-OPTIONS TARGET");
    strcpy(image.options, argv[2]);
    strcpy(image.target, argv[3]);
    image.kcore = access("/proc/kcore", F_OK) == 0;
    int exe = program(argv[1]);
    while (read(0, &byte, 1) == 1) {
        long before = processors(), began = nanoseconds();
        birth(exe, &image);
        long took = nanoseconds() - began;
        int n = snprintf(line, sizeof line, "%ld %ld 0 0 0\n", took, processors() - before);
        if (write(1, line, (size_t)n) != n)
            return 1;
    }
    return 0;
}
