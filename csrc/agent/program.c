/* The program: pid 1's child, in a session of its own with the console as its terminal.
 *
 * Pid 1 meanwhile waits for whatever dies (man 7 pid_namespaces says why somebody must), and for the power button: a
 * press asks the program to end, with the image's stop signal; a second one does not ask. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"

#define BUTTONS 4

/* Open the devices that may have a power button: ACPI's is the only one there. Returns how many. */
static int open_buttons(struct pollfd *fds)
{
    int count = 0;

    for (int number = 0; count < BUTTONS && number < 32; number++) {
        char path[40];
        int fd;

        snprintf(path, sizeof path, "/dev/input/event%d", number);
        fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
        if (fd >= 0)
            fds[count++] = (struct pollfd){.fd = fd, .events = POLLIN};
    }
    return count;
}

/* Say whether the button was pressed since we looked last. */
static int pressed(int fd)
{
    struct input_event event;
    int found = 0;

    while (read(fd, &event, sizeof event) == (ssize_t)sizeof event)
        found |= event.type == EV_KEY && event.code == KEY_POWER && event.value == 1;
    return found;
}

/* Set HOME where nobody has, as docker does. */
static void set_home(char **env, const char *home)
{
    for (; env && *env; env++)
        if (!strncmp(*env, "HOME=", 5))
            return;
    setenv("HOME", home, 0);
}

/* Become the program. Returns only where that fails: the exit status. */
static int become(const struct settings *settings, const struct user *user)
{
    clearenv();
    for (char **word = settings->env; word && *word; word++)
        putenv(*word);
    set_home(settings->env, user->home);
    make_directory(settings->cwd); /* as docker makes an image's WORKDIR that is not there */
    if (setgroups((size_t)user->count, user->groups) < 0 || setresgid(user->gid, user->gid, user->gid) < 0 ||
        setresuid(user->uid, user->uid, user->uid) < 0) {
        say("cannot become user", settings->user, errno);
        return EXIT_OURS;
    }
    if (chdir(settings->cwd) < 0) {
        say("cannot enter the working directory", settings->cwd, errno);
        return EXIT_CANNOT_RUN;
    }
    execvp(settings->args[0], settings->args);
    say("cannot run", settings->args[0], errno);
    return errno == ENOENT || errno == ENOTDIR ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}

static pid_t start(const struct settings *settings, const struct user *user)
{
    pid_t pid = fork();

    if (pid == 0) {
        sigset_t none;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        ioctl(0, TIOCSCTTY, 0);
        fchown(0, user->uid, (gid_t)-1); /* it may open its terminal anew */
        _exit(become(settings, user));
    }
    return pid;
}

/* Wait for all that has died. Returns 1 with *status where the program has. */
static int reap(pid_t program, int *status)
{
    int how;
    pid_t pid;

    while ((pid = waitpid(-1, &how, WNOHANG)) > 0)
        if (pid == program) {
            *status = WIFEXITED(how) ? WEXITSTATUS(how) : 128 + WTERMSIG(how);
            return 1;
        }
    return 0;
}

/* Run the program to its end. Returns its exit status, 128 + N for a signal. */
int program_run(const struct settings *settings)
{
    struct pollfd fds[1 + BUTTONS];
    struct user user;
    sigset_t child;
    int count, asked = 0, status = EXIT_OURS;
    pid_t pid;

    if (user_find(settings->user, &user) < 0)
        return EXIT_OURS;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, NULL);
    fds[0] = (struct pollfd){.fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN};
    count = 1 + open_buttons(fds + 1);
    pid = start(settings, &user);
    if (pid < 0) {
        say("cannot fork", NULL, errno);
        return EXIT_OURS;
    }
    while (!reap(pid, &status)) {
        struct signalfd_siginfo told;

        poll(fds, (nfds_t)count, -1);
        while (read(fds[0].fd, &told, sizeof told) > 0)
            ;
        for (int i = 1; i < count; i++)
            if (fds[i].revents && pressed(fds[i].fd))
                kill(pid, asked++ ? SIGKILL : settings->stop);
    }
    return status;
}
