/* The monitor: stays with one detached container until its end. It holds the container's standard streams or terminal,
 * writes its log, serves those who attach, has it checked now and then (HEALTHCHECK), reaps it, writes down how it ended, and
 * runs the command that tidies up.
 *
 *     minirt ──orders──▶ monitor ──clone, execveat──▶ executor ──clone3(CLONE_PARENT)──▶ the container, the monitor's child
 *                          │  ▲
 *                     log  ▼  └──▶ clients (frames, see monitor.h)
 *
 * It is a program of its own because it outlives the command that starts it, and there is one a container: it must cost
 * less than a megabyte, and an interpreter costs ten. It is told what to do by a socket (descriptor 3) and decides nothing.
 *
 * Back-pressure: the program's output is read only when the log has taken what came before and each client has room for more.
 * So no line is lost and no memory grows; a full disk, or a client that stops reading, stops the program at its next write.
 */
#define _GNU_SOURCE
#include "monitor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "log.h"
#include "../plan/spawn.c"

#define CONTROL 3
#define PATIENCE 100  /* ms between two tries to write to a full disk */
#define LONGEST 3600000  /* ms between two looks at the clock */
#define TRIES 100     /* of them once the program has ended; then what is left of the log is lost */
#define LATE 4000     /* ms in which a client takes nothing of what is left for it; then it is hung up on */

/* One of the program's outputs, and what was read of it and not yet logged. */
struct output { int fd, stream; size_t used, logged; char data[FRAME_MOST]; };

static struct monitor {
    int place, keep, signals, tty, other_end, input;
    int once, ending;       /* close the input after the first client's end; that has come */
    pid_t pid;
    int ended, status;
    struct output outputs[2];
    struct log log;
    struct queue typed;
    size_t command;
    char words[sizeof(((struct order_message *)0)->text)];
    struct health {
        int64_t interval, at_start, started_by, next;  /* ms of CLOCK_MONOTONIC; next is 0 while none is due */
        pid_t pid;          /* of the check that is being done */
        char words[sizeof(((struct order_message *)0)->text)];
    } health;
} m = {.place = -1, .keep = -1, .signals = -1, .tty = -1, .input = -1,
       .outputs = {{.fd = -1, .stream = 1}, {.fd = -1, .stream = 2}}};

static void drop(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

/* -- commands that it runs --------------------------------------------------------------------------------------------- */

/* Begin a command, words that each end with a NUL. Args: keep, what it gets as descriptor 3, or -1. Returns its pid, or -1. */
static pid_t begin(char *word, int keep)
{
    char *argv[64];
    sigset_t none;
    int n = 0;

    for (; *word && n < 63; word += strlen(word) + 1)
        argv[n++] = word;
    argv[n] = NULL;
    pid_t pid = fork();
    if (pid == 0) {
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        if (keep >= 0)
            dup2(keep, 3);
        close_range(keep >= 0 ? 4 : 3, ~0U, 0);
        execv(argv[0], argv);
        _exit(127);
    }
    return pid;
}

/* -- orders ------------------------------------------------------------------------------------------------------------ */

/* Receive one order with its descriptors, which are the caller's. Returns how many came, or -1 at the end. */
static int receive(struct order_message *order, int *fds)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(FDS_MAX * sizeof(int))]; } control;
    struct iovec part = {order, sizeof *order};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t got;

    memset(order, 0, sizeof *order);
    do
        got = recvmsg(CONTROL, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < (ssize_t)offsetof(struct order_message, text))
        return -1;
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (!head || head->cmsg_type != SCM_RIGHTS)
        return 0;
    int count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(head), (size_t)count * sizeof(int));
    return count;
}

static int reap(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Say when the next check is due: while it may still be starting, maybe sooner than later on. */
static void plan_check(void)
{
    struct health *h = &m.health;
    int64_t starting = now() < h->started_by && h->at_start;

    h->next = h->interval ? now() + (starting ? h->at_start : h->interval) : 0;
}

/* Do one order; the descriptors that it does not keep are closed by the caller. Returns the answer, and in *kept how many
 * of the first descriptors stay open. */
static int obey(const struct order_message *order, const int *fds, int count, int *kept)
{
    int nonblocking[] = {[ORDER_INPUT] = 1, [ORDER_OUTPUT] = 1, [ORDER_TTY] = 1, [ORDER_ATTACH] = 1, [ORDER_GO] = 0};

    if (order->order < sizeof nonblocking / sizeof *nonblocking && nonblocking[order->order] && count == 1)
        fcntl(fds[0], F_SETFL, fcntl(fds[0], F_GETFL) | O_NONBLOCK);
    *kept = count == 1;
    switch (order->order) {
    case ORDER_SPAWN:
        *kept = 0;
        return count > 2 ? plan_spawn(fds[0], fds + 1, count - 1, (int)order->a) : -EINVAL;
    case ORDER_REAP:
        return reap((pid_t)order->a);
    case ORDER_INPUT:
        m.input = fds[0];
        m.once = (int)order->a;
        return 0;
    case ORDER_OUTPUT:
        m.outputs[order->a == 2].fd = fds[0];
        return 0;
    case ORDER_TTY:
        m.tty = m.outputs[0].fd = fds[0];
        /* One that no process had open would hang up, and wake us for ever (man 7 pty): so we have it open ourselves. */
        m.other_end = ioctl(m.tty, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        return m.other_end < 0 ? -errno : 0;
    case ORDER_PLACE:
        m.place = fds[0];
        return 0;
    case ORDER_LOG:
        return log_open(&m.log, m.place, (uint64_t)order->a, order->b);
    case ORDER_ATTACH:
        clients_listen(fds[0]);
        return 0;
    case ORDER_KEEP:
        m.keep = fds[0];
        return 0;
    case ORDER_EXIT:
        memcpy(m.words, order->text, sizeof m.words - 1);
        m.command = 1;
        return 0;
    case ORDER_CHILD:
        m.pid = (pid_t)order->a;
        return 0;
    case ORDER_GO:
        m.health.started_by += now();
        plan_check();
        return 0;
    case ORDER_HEALTH:
        m.health.interval = order->a;
        m.health.at_start = order->b;
        m.health.started_by = strtoll(order->text, NULL, 10);
        memcpy(m.health.words, order->text, sizeof m.health.words - 1);
        return 0;
    }
    *kept = 0;
    return -ENOSYS;
}

/* Obey until ORDER_GO. Returns whether that came. */
static int obey_all(void)
{
    static struct order_message order;
    int fds[FDS_MAX], count;

    while ((count = receive(&order, fds)) >= 0) {
        int kept, answer = obey(&order, fds, count, &kept);
        for (int i = kept; i < count; i++)
            close(fds[i]);
        if (send(CONTROL, &answer, sizeof answer, MSG_NOSIGNAL) < 0)
            break;
        if (order.order == ORDER_GO)
            return 1;
    }
    return 0;
}

/* -- what clients say -------------------------------------------------------------------------------------------------- */

static void resize(const char *data)
{
    uint16_t numbers[2];

    memcpy(numbers, data, sizeof numbers);
    struct winsize size = {.ws_row = ntohs(numbers[0]), .ws_col = ntohs(numbers[1])};
    if (m.tty >= 0)
        ioctl(m.tty, TIOCSWINSZ, &size);
}

static int room_to_type(void)
{
    return m.typed.used + FRAME_MOST <= ROOM;
}

/* A whole frame has come from a client; there is room for what is typed. Returns whether there is room for another. */
static int heard(int type, const char *data, size_t size)
{
    int taken = type == FRAME_INPUT && (m.input >= 0 || m.tty >= 0);

    if (type == FRAME_SIZE && size == 4)
        resize(data);
    if (taken && !size)
        m.ending = m.once;
    else if (taken && !m.ending) {
        memcpy(m.typed.data + m.typed.used, data, size);
        m.typed.used += size;
    }
    return room_to_type();
}

/* -- the program ------------------------------------------------------------------------------------------------------- */

/* Read from an output, and give it to clients and log. */
static void take(struct output *o)
{
    ssize_t n = read(o->fd, o->data, sizeof o->data);

    if (n > 0) {
        o->used = (size_t)n;
        o->logged = 0;
        clients_tell(m.tty >= 0 ? FRAME_OUTPUT : o->stream, o->data, o->used);
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
        if (o->fd == m.tty)
            m.tty = -1;
        drop(&o->fd);
    }
}

/* Log what was read. Returns whether all of it is. */
static int logged(struct output *o)
{
    int n = o->logged < o->used ? log_write(&m.log, o->stream, o->data + o->logged, o->used - o->logged) : 0;

    o->logged += n > 0 ? (size_t)n : 0;
    return o->logged == o->used;
}

static void type(void)
{
    int *fd = m.tty >= 0 ? &m.tty : &m.input;

    if (m.typed.used && queue_flush(&m.typed, *fd) < 0) {
        m.typed.used = 0;
        if (fd == &m.input)
            drop(&m.input);
    }
    if (m.ending && !m.typed.used)
        drop(&m.input);
}

/* -- health ------------------------------------------------------------------------------------------------------------- */

/* Begin a check that is due. Returns ms until the next one is, -1 while none will be. */
static int check(void)
{
    struct health *h = &m.health;

    if (h->next && now() >= h->next) {
        h->next = 0;
        h->pid = begin(h->words + strlen(h->words) + 1, -1);
        if (h->pid < 0)
            plan_check();  /* no process to be had: another time */
    }
    int64_t left = h->next - now();
    return !h->next ? -1 : left < 1 ? 1 : left > LONGEST ? LONGEST : (int)left;
}

/* A check has ended: with 0 the program is no longer starting. */
static void checked(int status)
{
    m.health.pid = 0;
    if (status == 0)
        m.health.started_by = 0;
    plan_check();
}

static void see_ends(void)
{
    struct signalfd_siginfo info;
    pid_t pid;
    int status;

    while (read(m.signals, &info, sizeof info) > 0)
        ;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == m.pid) {
            m.ended = 1;
            m.status = status;
        } else if (pid == m.health.pid)
            checked(status);
}

/* One turn: wait until something can be done, and do it. Returns whether anything was. */
static int turn(int milliseconds)
{
    struct pollfd fds[4 + CLIENTS_FDS];
    int n = 0, full = 0, room = clients_have_room();

    fds[n++] = (struct pollfd){m.signals, POLLIN, 0};
    fds[n++] = (struct pollfd){m.tty < 0 && (m.typed.used || m.ending) ? m.input : -1, POLLOUT, 0};
    for (int i = 0; i < 2; i++) {
        struct output *o = &m.outputs[i];
        int done = logged(o), events = (done && room ? POLLIN : 0) | (o->fd == m.tty && m.tty >= 0 && m.typed.used ? POLLOUT : 0);
        full |= !done;
        fds[n++] = (struct pollfd){events ? o->fd : -1, (short)events, 0};
    }
    int first = n;
    n += clients_poll(fds + n, room_to_type());
    int ready = poll(fds, (nfds_t)n, full && (milliseconds < 0 || milliseconds > PATIENCE) ? PATIENCE : milliseconds);
    if (ready <= 0)
        return 0;
    if (fds[0].revents)
        see_ends();
    clients_welcome(fds + first);
    for (int i = 0; i < 2; i++)
        if (fds[2 + i].revents & ~POLLOUT)
            take(&m.outputs[i]);
    clients_serve(fds + first, n - first, heard);
    type();
    return 1;
}

/* -- the end ----------------------------------------------------------------------------------------------------------- */

/* Say whether clients have taken nothing for a while, though there is something for them. */
static int clients_are_late(void)
{
    static size_t before;
    static int64_t until;
    size_t left = clients_left();

    if (left != before) {
        before = left;
        until = now() + LATE;
    }
    return left && now() > until;
}

/* Read what the program has left in its pipes. Whoever holds their other end may still live (--pid host): not waited for. */
static void drain(void)
{
    int tries = TRIES;

    m.typed.used = 0;
    while (m.outputs[0].fd >= 0 || m.outputs[1].fd >= 0 || !logged(&m.outputs[0]) || !logged(&m.outputs[1])) {
        int full = !logged(&m.outputs[0]) || !logged(&m.outputs[1]), crowded = !clients_have_room();
        int done = turn(full || crowded ? PATIENCE : 0);
        if (crowded && clients_are_late())
            clients_leave(1);  /* the log has all of it, whoever looks on */
        else if (!done && !crowded && (!full || !tries--))
            break;
    }
}

/* Write down how it ended: the status as wait(2) gives it, and when. Whole under its name, or not at all. */
static void write_down(void)
{
    char text[64];
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    int n = snprintf(text, sizeof text, "%d %lld.%09ld\n", m.status, (long long)now.tv_sec, now.tv_nsec);
    int fd = openat(m.place, "exit.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd >= 0 && write(fd, text, (size_t)n) == n)
        renameat(m.place, "exit.new", m.place, "exit");
    drop(&fd);
}

/* Tell the clients, and let them have it, if they take it. */
static void say_goodbye(void)
{
    uint32_t status = htonl((uint32_t)m.status);

    clients_tell(FRAME_STATUS, (char *)&status, sizeof status);
    clients_listen(-1);
    while (clients_left() && !clients_are_late())
        turn(PATIENCE);
    clients_leave(0);
}

int main(void)
{
    sigset_t all;

    /* A child of its own, so that who started it need not wait for it, in a session of its own. */
    if (fork())
        _exit(0);
    setsid();
    prctl(PR_SET_NAME, "minirt-monitor");
    sigfillset(&all);  /* none ends it but SIGKILL: who wants it to end ends the container */
    sigprocmask(SIG_SETMASK, &all, NULL);
    m.signals = signalfd(-1, &all, SFD_NONBLOCK | SFD_CLOEXEC);
    fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
    if (!obey_all()) {
        if (m.pid > 0)
            kill(m.pid, SIGKILL);
        while (wait(NULL) > 0 || errno == EINTR)
            ;
        return 1;
    }
    close(CONTROL);
    if (chdir("/"))
        return 1;
    see_ends();  /* it may have ended already */
    while (!m.ended)
        turn(check());
    drain();
    log_close(&m.log);
    write_down();
    say_goodbye();
    if (m.command) {  /* with the lock, so that the container is somebody's all the while */
        pid_t pid = begin(m.words, m.keep);
        if (pid > 0)
            reap(pid);
    }
    return 0;
}
