/* From the initramfs to the root: modules, mounts, the disk. As systemd and docker have it, as far as programs expect. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "agent.h"

#define ROOT "/.minivm/root"
#define DISK "/dev/vda"
#define PATIENCE 1000  /* times 10 ms for the disk to appear */

static int attach(const char *what, const char *type, const char *where, unsigned long flags, const char *data)
{
    mkdir(where, 0755);
    if (mount(what, where, type, flags, data) == 0)
        return 0;
    say("cannot mount", where, errno);
    return -1;
}

/* Mount what the kernel offers, on the initramfs. Returns 0 or -1. */
int root_begin(void)
{
    if (attach("devtmpfs", "devtmpfs", "/dev", MS_NOSUID, "mode=755") < 0)
        return -1;
    return attach("proc", "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL)
        | attach("sysfs", "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

/* Load modules, in this order (man 2 finit_module); one that the kernel has already is no error. */
void root_modules(char **names)
{
    char path[256];

    for (; names && *names; names++) {
        int fd;

        snprintf(path, sizeof path, "/.minivm/%s.ko", *names);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
            say("cannot load module", *names, errno);
        close(fd);
    }
}

/* Make the console our standard streams: the last one that the kernel lists is /dev/console, and a virtio-console was
 * not there yet when it opened ours. Where nobody sits at it, bytes pass as they are. Returns 0 or -1. */
int root_console(const struct settings *settings)
{
    char list[256] = "", path[300];
    const char *name;
    struct termios mode;
    int fd = open("/sys/class/tty/console/active", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        ssize_t got = read(fd, list, sizeof list - 1);

        list[got > 0 ? got : 0] = 0;
        list[strcspn(list, "\n")] = 0;
        close(fd);
    }
    name = strrchr(list, ' ') ? strrchr(list, ' ') + 1 : list;
    snprintf(path, sizeof path, "/dev/%s", *name ? name : "console");
    fd = open(path, O_RDWR | O_NOCTTY);
    if (fd < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        dup2(fd, i);
    if (fd > 2)
        close(fd);
    if (!settings->terminal && tcgetattr(0, &mode) == 0) {
        mode.c_oflag &= (tcflag_t)~OPOST;
        mode.c_lflag &= (tcflag_t)~ECHO;
        mode.c_iflag &= (tcflag_t)~ICRNL;
        tcsetattr(0, TCSANOW, &mode);
    }
    return 0;
}

/* Mount the disk as soon as it is there. Returns 0 or -1. */
static int mount_disk(const struct settings *settings)
{
    struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

    mkdir(ROOT, 0755);
    for (int i = 0; i < PATIENCE && access(DISK, F_OK) < 0; i++)
        nanosleep(&pause, NULL);
    if (mount(DISK, ROOT, settings->type, settings->read_only ? MS_RDONLY : 0, NULL) == 0)
        return 0;
    say("cannot mount the root", DISK, errno);
    return -1;
}

/* Take the mounts along and become the new root's: the initramfs cannot be pivoted away (man 2 pivot_root), so the
 * disk is moved over it. */
static int move_in(void)
{
    static const char *const along[] = {"/dev", "/proc", "/sys"};
    char where[64];

    for (int i = 0; i < 3; i++) {
        snprintf(where, sizeof where, ROOT "%s", along[i]);
        mkdir(where, 0755);
        if (mount(along[i], where, NULL, MS_MOVE, NULL) < 0)
            return -1;
    }
    return chdir(ROOT) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0 ? -1 : 0;
}

/* Make a directory with those above it (man 2 mkdir); what is there already stays. */
void make_directory(const char *path)
{
    char part[256];

    for (size_t i = 1; path[i] && i < sizeof part; i++)
        if (path[i] == '/') {
            memcpy(part, path, i);
            part[i] = 0;
            mkdir(part, 0755);
        }
    mkdir(path, 0755);
}

/* Mount the host's directories. Returns 0, or -1 after a complaint: a program that was to have one is not run without. */
static int mount_shares(char **tags)
{
    for (; tags && *tags; tags++) {
        make_directory(*tags);
        if (attach(*tags, "virtiofs", *tags, 0, NULL) < 0)
            return -1;
    }
    return 0;
}

/* Bring up the loopback interface (man 7 netdevice). */
static void loopback_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    if (fd >= 0) {
        ioctl(fd, SIOCSIFFLAGS, &request);
        close(fd);
    }
}

/* Write a file that the image leaves out; docker's containers have it. */
static void write_new(const char *path, const char *format, const char *name)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    if (fd >= 0) {
        dprintf(fd, format, name);
        close(fd);
    }
}

/* Go to the root, with all that a program expects around it. Returns 0 or -1 after a complaint. */
int root_enter(const struct settings *settings)
{
    if (settings->type && (mount_disk(settings) < 0 || move_in() < 0)) {
        say("cannot enter the root", NULL, errno);
        return -1;
    }
    if (mount_shares(settings->shares) < 0)
        return -1;
    attach("devpts", "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,ptmxmode=666,gid=5");
    attach("tmpfs", "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777");
    if (access("/sys/fs/cgroup", F_OK) == 0)
        mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
    for (int i = 0; i < 4; i++) {
        static const char *const links[][2] = {
            {"/proc/self/fd", "/dev/fd"}, {"fd/0", "/dev/stdin"}, {"fd/1", "/dev/stdout"}, {"fd/2", "/dev/stderr"}};

        if (symlink(links[i][0], links[i][1]) < 0 && errno != EEXIST)
            say("cannot make", links[i][1], errno);
    }
    if (settings->hostname) {
        sethostname(settings->hostname, strlen(settings->hostname));
        mkdir("/etc", 0755);
        write_new("/etc/hostname", "%s\n", settings->hostname);
        write_new("/etc/hosts", "127.0.0.1\tlocalhost %s\n::1\tlocalhost\n", settings->hostname);
    }
    loopback_up();
    return 0;
}

/* Bring what was written to the disk, which is then as after a clean unmount. */
void root_leave(void)
{
    sync();
    mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL);
}
