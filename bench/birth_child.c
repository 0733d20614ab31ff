/* A container's birth written by hand: the calls that minirt's plan makes for the same container, in the same
 * order, as plain C. It is what an expert would write who wanted nothing but this one container, and so the
 * measure of what it costs to have the calls as data (tests/system/test_bench.py compares both under strace).
 *
 * Freestanding, as minirt's executor is: a C library's start-up would be calls of its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "birth_child.h"

static struct shared *shared;

static long call(long nr, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* A call that must not fail, except with EEXIST where that is said. */
static long must(long result, long tolerated)
{
    shared->results[__atomic_fetch_add(&shared->used, 1, __ATOMIC_RELAXED)] = result;
    if (result < 0 && result > -4096 && result != -tolerated)
        for (;;)
            call(SYS_exit_group, 125, 0, 0, 0, 0, 0);
    return result;
}

#define P(x) ((long)(x))
#define C6(nr, a, b, c, d, e, f, ...) call(nr, P(a), P(b), P(c), P(d), P(e), P(f))
#define DO(name, ...) must(C6(SYS_##name, __VA_ARGS__, 0, 0, 0, 0, 0, 0), 0)
#define MAKE(name, ...) must(C6(SYS_##name, __VA_ARGS__, 0, 0, 0, 0, 0, 0), EEXIST)

static void signals(void)
{
    static long none[4];

    DO(rt_sigaction, SIGPIPE, none, 0, 8);
    DO(rt_sigaction, SIGXFSZ, none, 0, 8);
    DO(rt_sigprocmask, SIG_SETMASK, none, 0, 8);
}

/* An ordinary directory of the image, made if it is missing: a link would put what is mounted on it elsewhere. */
static void directory(const char *path)
{
    struct stat answer;

    MAKE(mkdirat, AT_FDCWD, path, 0755);
    DO(newfstatat, AT_FDCWD, path, &answer, AT_SYMLINK_NOFOLLOW);
    if (!S_ISDIR(answer.st_mode))
        must(-ENOTDIR, 0);
}

static void mounts(void)
{
    long quiet = MS_NOSUID | MS_NODEV | MS_NOEXEC;

    directory("/proc");
    DO(mount, "proc", "/proc", "proc", quiet, 0);
    directory("/dev");
    DO(mount, "tmpfs", "/dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    MAKE(mkdirat, AT_FDCWD, "/dev/pts", 0755);
    DO(mount, "devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5");
    MAKE(mkdirat, AT_FDCWD, "/dev/shm", 0755);
    DO(mount, "shm", "/dev/shm", "tmpfs", quiet, "mode=1777,size=65536k");
    directory("/sys");
    DO(mount, "sysfs", "/sys", "sysfs", quiet | MS_RDONLY, 0);
}

static void device(const char *path, int major, int minor)
{
    MAKE(mknodat, AT_FDCWD, path, S_IFCHR | 0666, major << 8 | minor);
}

static void devices(void)
{
    device("/dev/null", 1, 3);
    device("/dev/zero", 1, 5);
    device("/dev/full", 1, 7);
    device("/dev/random", 1, 8);
    device("/dev/urandom", 1, 9);
    device("/dev/tty", 5, 0);
    MAKE(symlinkat, "/proc/self/fd", AT_FDCWD, "/dev/fd");
    MAKE(symlinkat, "/proc/self/fd/0", AT_FDCWD, "/dev/stdin");
    MAKE(symlinkat, "/proc/self/fd/1", AT_FDCWD, "/dev/stdout");
    MAKE(symlinkat, "/proc/self/fd/2", AT_FDCWD, "/dev/stderr");
    if (shared->kcore)
        MAKE(symlinkat, "/proc/kcore", AT_FDCWD, "/dev/core");
    MAKE(symlinkat, "pts/ptmx", AT_FDCWD, "/dev/ptmx");
}

static void loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    long fd = DO(socket, AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    DO(ioctl, fd, SIOCSIFFLAGS, &request);
    DO(close, fd);
}

static void container(void)
{
    char *argv[] = {"/bin/true", 0}, *envp[] = {"PATH=/bin", "HOME=/root", 0};
    char byte;

    DO(read, 3, &byte, 1);  /* where minirt's child waits for the rest of its plan; here all is there */
    DO(setsid, 0);
    call(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0, 0);
    DO(umask, 0);
    DO(mount, 0, "/", 0, MS_REC | MS_PRIVATE, 0);
    DO(mount, "overlay", shared->target, "overlay", 0, shared->options);
    DO(chdir, shared->target);
    DO(pivot_root, ".", ".");
    DO(umount2, ".", MNT_DETACH);
    DO(chdir, "/");
    mounts();
    devices();
    DO(sethostname, "box", 3);
    loopback();
    DO(chdir, "/");
    DO(setgroups, 0, 0);
    DO(umask, 022);
    DO(prctl, PR_SET_KEEPCAPS, 1, 0, 0, 0);
    DO(setresgid, 0, 0, 0);
    DO(setresuid, 0, 0, 0);
    DO(execve, "/bin/true", argv, envp);
}

/* argv[1] names the descriptor of the shared memory; the one before it is the control socket. */
__attribute__((used)) static void begin(long *stack)
{
    struct clone_args args = {.flags = CLONE_PARENT | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET};
    long fd = *(char *)stack[2] - '0';
    char byte;

    shared = (void *)call(SYS_mmap, SHARED_BASE, SHARED_SPAN, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
    C6(SYS_close, fd, 0, 0, 0, 0, 0);
    C6(SYS_fcntl, fd - 1, F_SETFD, FD_CLOEXEC, 0, 0, 0);
    if (C6(SYS_read, fd - 1, &byte, 1, 0, 0, 0) != 1)  /* until what the parent has made meanwhile is there: the memory, too */
        call(SYS_exit_group, 125, 0, 0, 0, 0, 0);
    signals();
    long pid = DO(clone3, &args, sizeof args);
    if (pid == 0)
        container();
    shared->pid = (int32_t)pid;
    call(SYS_exit_group, 0, 0, 0, 0, 0, 0);
}

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");
