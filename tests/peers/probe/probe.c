/* probe: what a process in a container sees, as JSON on its standard output.
 *
 *     probe QUESTION...     each a word KIND:ARGUMENT; the answer is one object, {"KIND:ARGUMENT": answer, ...}
 *
 *     self            ids, arguments, environment, limits, scheduling, terminal, descriptors: all without /proc
 *     read:PATH       a file's text
 *     link:PATH       where a symbolic link leads
 *     list:PATH       the names in a directory
 *     stat:PATH       type, mode, owner, device number (not following a link)
 *     write:PATH      whether it could be written: a file is opened, in a directory one is made and removed
 *     exec:PATH       whether it could be executed (the calling process ends)
 *     call:NR:A:B:..  the result of a system call made with these numbers, in a process of its own; "here" is an address
 *                     of 256 zeros
 *     call32:NR:..    the same by int 0x80, the 32-bit convention
 *     send:TEXT       nothing; the text comes back
 *     wait:           nothing, until a signal ends it
 *
 * What fails is {"errno": "ENOENT"}, what was killed {"signal": 31}. Freestanding of anything in the container: static.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void text(const char *s, size_t length)
{
    putchar('"');
    for (size_t i = 0; i < length; i++) {
        unsigned char c = s[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < ' ' || c >= 0x7f)
            printf("\\u%04x", c); /* bytes as Latin-1: the reader encodes them again */
        else
            putchar(c);
    }
    putchar('"');
}

static void word(const char *s) { text(s, strlen(s)); }

static void key(const char *s)
{
    word(s);
    putchar(':');
}

static void failed(int error)
{
    printf("{\"errno\":");
    const char *name = strerrorname_np(error);
    word(name ? name : "?");
    putchar('}');
}

/* -- questions about files ------------------------------------------------------------------------------------- */

static void read_file(const char *path)
{
    static char buffer[1 << 18];
    size_t used = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return failed(errno);
    ssize_t got = 0;
    while (used < sizeof buffer && (got = read(fd, buffer + used, sizeof buffer - used)) > 0)
        used += got;
    int error = errno;
    close(fd);
    if (got < 0)
        return failed(error);
    text(buffer, used);
}

static void read_link(const char *path)
{
    char buffer[4096];
    ssize_t length = readlink(path, buffer, sizeof buffer);
    if (length < 0)
        return failed(errno);
    text(buffer, length);
}

static int by_name(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }

static void list(const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, by_name);
    if (count < 0)
        return failed(errno);
    const char *comma = "";
    putchar('[');
    for (int i = 0; i < count; i++) {
        if (strcmp(entries[i]->d_name, ".") && strcmp(entries[i]->d_name, "..")) {
            printf("%s", comma);
            word(entries[i]->d_name);
            comma = ",";
        }
    }
    putchar(']');
}

static void status(const char *path)
{
    static const char types[] = "?pc?d?b?-?l?s???";
    struct stat s;
    if (lstat(path, &s) < 0)
        return failed(errno);
    printf("{\"type\":\"%c\",\"mode\":\"%04o\",\"uid\":%u,\"gid\":%u,\"device\":\"%u:%u\"}", types[s.st_mode >> 12 & 15],
           s.st_mode & 07777, s.st_uid, s.st_gid, major(s.st_rdev), minor(s.st_rdev));
}

static void try_write(const char *path)
{
    char name[4200];
    struct stat s;
    if (stat(path, &s) < 0)
        return failed(errno);
    int directory = S_ISDIR(s.st_mode);
    snprintf(name, sizeof name, "%s/.probe", path);
    int fd = directory ? open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)
                       : open(path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return failed(errno);
    close(fd);
    if (directory)
        unlink(name);
    printf("true");
}

/* -- questions about system calls ------------------------------------------------------------------------------ */

static char zeros[256];

static long make_call(const long *n, int convention)
{
    if (convention == 64)
        return syscall(n[0], n[1], n[2], n[3], n[4], n[5], n[6]) < 0 ? -errno : 0;
    int result;
    __asm__ volatile("push %%rbp\n mov %[six], %%ebp\n int $0x80\n pop %%rbp"
                     : "=a"(result)
                     : "a"((int)n[0]), "b"((int)n[1]), "c"((int)n[2]), "d"((int)n[3]), "S"((int)n[4]), "D"((int)n[5]),
                       [six] "r"((int)n[6])
                     : "memory", "r8", "r9", "r10", "r11");
    return result < 0 && result > -4096 ? result : 0;
}

/* In a process of its own, as it may be killed for it; its answer comes through a shared page. */
static void call(const char *words, int convention)
{
    long numbers[7] = {0};
    char copy[256], *rest = copy, *part;
    snprintf(copy, sizeof copy, "%s", words);
    for (int i = 0; i < 7 && (part = strsep(&rest, ":")); i++)
        numbers[i] = strcmp(part, "here") ? (long)strtoull(part, NULL, 0) : (long)zeros;
    long *answer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        return failed(errno);
    if (pid == 0) {
        *answer = make_call(numbers, convention);
        _exit(0);
    }
    int ended = 0;
    while (waitpid(pid, &ended, __WALL) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(ended))
        printf("{\"signal\":%d}", WTERMSIG(ended));
    else if (*answer < 0)
        failed(-*answer);
    else
        printf("true");
    munmap(answer, 4096);
}

static void wait_for_end(const char *nothing)
{
    (void)nothing;
    for (;;)
        pause();
}

static void try_exec(const char *path)
{
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDWR);
        dup2(null, 1);
        dup2(null, 2);
        execl(path, path, (char *)NULL);
        _exit(errno);
    }
    int ended = 0;
    waitpid(pid, &ended, __WALL);
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0)
        printf("true");
    else
        failed(WEXITSTATUS(ended));
}

/* -- the process itself ---------------------------------------------------------------------------------------- */

static void strings(const char *name, char **list)
{
    key(name);
    putchar('[');
    for (int i = 0; list[i]; i++) {
        printf(i ? "," : "");
        word(list[i]);
    }
    printf("],");
}

static void number(const char *name, long long value)
{
    key(name);
    printf("%lld,", value);
}

static void limits(void)
{
    static const struct { const char *name; int number; } all[] = {
        {"RLIMIT_AS", RLIMIT_AS}, {"RLIMIT_CORE", RLIMIT_CORE}, {"RLIMIT_CPU", RLIMIT_CPU}, {"RLIMIT_DATA", RLIMIT_DATA},
        {"RLIMIT_FSIZE", RLIMIT_FSIZE}, {"RLIMIT_LOCKS", RLIMIT_LOCKS}, {"RLIMIT_MEMLOCK", RLIMIT_MEMLOCK},
        {"RLIMIT_MSGQUEUE", RLIMIT_MSGQUEUE}, {"RLIMIT_NICE", RLIMIT_NICE}, {"RLIMIT_NOFILE", RLIMIT_NOFILE},
        {"RLIMIT_NPROC", RLIMIT_NPROC}, {"RLIMIT_RSS", RLIMIT_RSS}, {"RLIMIT_RTPRIO", RLIMIT_RTPRIO},
        {"RLIMIT_RTTIME", RLIMIT_RTTIME}, {"RLIMIT_SIGPENDING", RLIMIT_SIGPENDING}, {"RLIMIT_STACK", RLIMIT_STACK},
    };
    key("rlimits");
    putchar('{');
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct rlimit limit = {0, 0};
        getrlimit(all[i].number, &limit);
        printf("%s\"%s\":[%llu,%llu]", i ? "," : "", all[i].name, (unsigned long long)limit.rlim_cur,
               (unsigned long long)limit.rlim_max);
    }
    printf("},");
}

struct attributes { /* struct sched_attr, man 2 sched_setattr */
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t least, most;
};

static void scheduling(void)
{
    struct attributes a = {0};
    syscall(SYS_sched_getattr, 0, &a, sizeof a, 0);
    key("scheduler");
    printf("{\"policy\":%u,\"flags\":%llu,\"nice\":%d,\"priority\":%u,\"times\":[%llu,%llu,%llu]},", a.policy,
           (unsigned long long)a.flags, a.nice, a.priority, (unsigned long long)a.runtime, (unsigned long long)a.deadline,
           (unsigned long long)a.period);
    number("ioprio", syscall(SYS_ioprio_get, 1, 0));
    cpu_set_t set;
    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof set, &set);
    key("affinity");
    putchar('[');
    const char *comma = "";
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &set)) {
            printf("%s%d", comma, i);
            comma = ",";
        }
    printf("],");
    int mode = -1;
    unsigned long nodes[16] = {0};
    long result = syscall(SYS_get_mempolicy, &mode, nodes, sizeof nodes * 8, NULL, 0);
    key("mempolicy");
    printf("[%ld,%d,%lu],", result < 0 ? -(long)errno : 0, mode, nodes[0]);
}

static void terminal(void)
{
    struct winsize size;
    key("terminal");
    putchar('[');
    for (int fd = 0; fd < 3; fd++) {
        if (!isatty(fd))
            printf("%snull", fd ? "," : "");
        else if (ioctl(fd, TIOCGWINSZ, &size) == 0)
            printf("%s[%d,%d]", fd ? "," : "", size.ws_row, size.ws_col);
    }
    printf("],");
    int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
    number("controlling", fd >= 0);
    close(fd);
}

/* Which descriptors there are, and of what type; without /proc, so that none is made for the question. */
static void descriptors(void)
{
    static const char types[] = "?pc?d?b?-?l?s???";
    struct stat s;
    const char *comma = "";
    key("descriptors");
    putchar('{');
    for (int fd = 0; fd < 256; fd++)
        if (fstat(fd, &s) == 0) {
            printf("%s\"%d\":\"%c\"", comma, fd, types[s.st_mode >> 12 & 15]);
            comma = ",";
        }
    printf("},");
}

static void clocks(void)
{
    static const struct { const char *name; clockid_t id; } all[] = {
        {"realtime", CLOCK_REALTIME}, {"monotonic", CLOCK_MONOTONIC}, {"boottime", CLOCK_BOOTTIME},
    };
    key("clocks");
    putchar('{');
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct timespec now = {0, 0};
        clock_gettime(all[i].id, &now);
        printf("%s\"%s\":%lld", i ? "," : "", all[i].name, (long long)now.tv_sec);
    }
    printf("},");
}

static void identity(void)
{
    uid_t u[3];
    gid_t g[3], groups[1024];
    getresuid(u, u + 1, u + 2);
    getresgid(g, g + 1, g + 2);
    key("uid");
    printf("[%u,%u,%u],", u[0], u[1], u[2]);
    key("gid");
    printf("[%u,%u,%u],", g[0], g[1], g[2]);
    int count = getgroups(1024, groups);
    key("groups");
    putchar('[');
    for (int i = 0; i < count; i++)
        printf("%s%u", i ? "," : "", groups[i]);
    printf("],");
    mode_t mask = umask(0);
    umask(mask);
    key("umask");
    printf("\"%04o\",", mask);
    number("pid", getpid());
    number("session", getsid(0) == getpid());
    number("group", getpgid(0) == getpid());
    number("dumpable", prctl(PR_GET_DUMPABLE));
    number("keepcaps", prctl(PR_GET_KEEPCAPS));
    number("securebits", prctl(PR_GET_SECUREBITS));
    number("death signal", ({ int s = -1; prctl(PR_GET_PDEATHSIG, &s); s; }));
    number("session keyring", syscall(SYS_keyctl, 0 /* KEYCTL_GET_KEYRING_ID */, -3 /* KEY_SPEC_SESSION_KEYRING */, 0));
}

static void self(char **argv, char **environment)
{
    char path[4096];
    struct utsname name;
    putchar('{');
    descriptors();
    identity();
    strings("args", argv);
    strings("env", environment);
    key("cwd");
    word(getcwd(path, sizeof path) ? path : "?");
    putchar(',');
    limits();
    scheduling();
    terminal();
    clocks();
    number("personality", personality(0xffffffff));
    uname(&name);
    key("machine");
    word(name.machine);
    putchar(',');
    key("hostname");
    word(name.nodename);
    putchar(',');
    key("domainname");
    word(name.domainname);
    putchar('}');
}

int main(int argc, char **argv, char **environment)
{
    static const struct { const char *kind; void (*answer)(const char *); } kinds[] = {
        {"read:", read_file}, {"link:", read_link}, {"list:", list}, {"stat:", status}, {"write:", try_write},
        {"exec:", try_exec}, {"send:", word}, {"wait:", wait_for_end},
    };
    const char *comma = "{";
    if (argc < 2)
        return 0;
    for (int i = 1; i < argc; i++) {
        printf("%s", comma);
        comma = ",\n";
        key(argv[i]);
        if (!strcmp(argv[i], "self"))
            self(argv, environment);
        else if (!strncmp(argv[i], "call:", 5))
            call(argv[i] + 5, 64);
        else if (!strncmp(argv[i], "call32:", 7))
            call(argv[i] + 7, 32);
        else
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
                if (!strncmp(argv[i], kinds[k].kind, 5))
                    kinds[k].answer(argv[i] + 5);
    }
    printf("}\n");
    return fflush(stdout) ? 1 : 0;
}
