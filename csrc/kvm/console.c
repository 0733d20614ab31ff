/* virtio-console's bytes (VIRTIO 1.2, 5.3): between the guest's buffers and descriptors of the host, port by port.
 *
 *   queue     port 0: 0 in, 1 out; 2 and 3 are for control messages, which are Python's; port n: 2n + 2 in, 2n + 3 out
 *   source    SOURCE_FD + n: the port's input (and its output, where both are one socket); + 8: its output; + 16: its listener
 *
 * What the guest prints goes to the descriptor by one writev, and what the host says into the guest's buffers by one readv.
 * A descriptor that is full holds the guest back: its buffer is given back when all of it is written. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio.h"

#define OUT 8
#define LISTENER 16
#define BATCH 64 /* buffers of one port, before others have their turn */
#define CONTROL_IN 2
#define CONTROL_OUT 3

struct port {
    int in, out;          /* borrowed; -1: nobody is there */
    int socket;           /* out is one */
    uint32_t open;        /* a program of the guest has the port open: what is sent before would be lost */
    uint32_t room;        /* Python wants to hear when something of `in` was read */
    int writing, reading; /* a buffer is taken: what is left of it is in to, or all of it in from */
    struct cursor left;
    struct chain to, from;
};

struct console {
    struct path path;     /* first: the path is the console */
    uint32_t count;
    struct port ports[CONSOLE_PORTS];
};

static int console_serve(struct path *path, uint32_t source);

/* A queue goes: what was taken from it is the driver's again. */
static void console_forget(struct path *path, uint32_t number)
{
    struct console *console = (struct console *)path;
    uint32_t port = number < 2 ? 0 : number / 2 - 1;

    if (port < console->count && number != CONTROL_IN && number != CONTROL_OUT)
        *(number % 2 ? &console->ports[port].writing : &console->ports[port].reading) = 0;
}

/* Make the path of a console with so many ports, nobody at any. registers and interrupt stay the caller's. The caller owns
 * the path and gives it back to path_destroy. Returns NULL without memory or descriptors. */
struct path *console_create(uint8_t *registers, int interrupt, uint32_t count)
{
    struct console *new = count <= CONSOLE_PORTS ? calloc(1, sizeof *new) : NULL;

    if (!new)
        return NULL;
    new->path.serve = console_serve;
    new->path.forget = console_forget;
    new->count = count;
    for (uint32_t i = 0; i < CONSOLE_PORTS; i++)
        new->ports[i].in = new->ports[i].out = -1;
    if (path_begin(&new->path, registers, interrupt) < 0) {
        path_destroy(&new->path);
        return NULL;
    }
    return &new->path;
}

/* Join descriptors to a port, neither blocking but files; -1 for none. Both may be one socket. Returns 0 or -errno. */
int console_join(struct path *path, uint32_t number, int in, int out, int socket)
{
    struct console *console = (struct console *)path;
    struct port *port = &console->ports[number];
    int result = 0;

    pthread_mutex_lock(&path->lock);
    port->in = in;
    port->out = out;
    port->socket = socket;
    if (in >= 0)
        result = path_watch(path, SOURCE_FD + number, in, EPOLLIN | (in == out ? EPOLLOUT : 0));
    if (result == 0 && out >= 0 && out != in)
        result = path_watch(path, SOURCE_FD + OUT + number, out, EPOLLOUT);
    pthread_mutex_unlock(&path->lock);
    path_poke(path, SOURCE_FD + number);
    return result == -EPERM ? 0 : result; /* a file: always ready */
}

/* Part a port from its descriptors: when this returns, they may be closed. What the guest was printing is lost. */
void console_part(struct path *path, uint32_t number)
{
    struct console *console = (struct console *)path;
    struct port *port = &console->ports[number];

    pthread_mutex_lock(&path->lock);
    if (port->in >= 0)
        epoll_ctl(path->epoll, EPOLL_CTL_DEL, port->in, NULL);
    if (port->out >= 0 && port->out != port->in)
        epoll_ctl(path->epoll, EPOLL_CTL_DEL, port->out, NULL);
    port->in = port->out = -1;
    pthread_mutex_unlock(&path->lock);
    path_poke(path, number ? 2 * number + 3 : 1);
}

/* Tell Python of a listening socket of a port when somebody comes. Returns 0 or -errno. */
int console_listen(struct path *path, uint32_t number, int fd)
{
    return path_watch(path, SOURCE_FD + LISTENER + number, fd, EPOLLIN);
}

/* Say whether a program of the guest has the port open. */
void console_open(struct path *path, uint32_t number, int open)
{
    struct console *console = (struct console *)path;

    __atomic_store_n(&console->ports[number].open, open, __ATOMIC_SEQ_CST);
    path_poke(path, SOURCE_FD + number);
}

/* Ask to be told, once, when something of the port's input was read. */
void console_want_room(struct path *path, uint32_t number)
{
    struct console *console = (struct console *)path;

    __atomic_store_n(&console->ports[number].room, 1, __ATOMIC_SEQ_CST);
}

/* Write what is left of the buffer that is taken. Returns 1 when all of it is written or nobody is there, 0 when the
 * descriptor is full. */
static int write_left(struct console *console, struct port *port)
{
    while (port->left.count && port->out >= 0) {
        struct msghdr message = {.msg_iov = port->left.parts, .msg_iovlen = port->left.count};
        ssize_t done = port->socket ? sendmsg(port->out, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
                                    : writev(port->out, port->left.parts, port->left.count);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0 && errno == EAGAIN)
            return 0;
        if (done < 0) {
            port->out = -1;
            console->path.look |= 1ULL << (SOURCE_FD + (port - console->ports));
            break;
        }
        cursor_skip(&port->left, done);
        console->path.bytes += done;
    }
    return 1;
}

/* From the guest to the host. Returns 0 or -EPROTO. */
static int print(struct console *console, uint32_t number, uint32_t source)
{
    struct port *port = &console->ports[number];
    struct queue *queue;
    int result = 0;

    for (int i = 0; (queue = path_next(&console->path, source)); i++) {
        if (i == BATCH)
            path_again(&console->path, source);
        if (i == BATCH)
            break;
        if (!port->writing) {
            if ((result = queue_pop(queue, &port->to)) <= 0)
                break;
            port->left = (struct cursor){port->to.parts, port->to.readable};
            port->writing = 1;
        }
        if (!write_left(console, port))
            break;
        port->writing = 0;
        queue_push(queue, port->to.head, port->to.entries, 0);
        console->path.chains++;
    }
    if (queue)
        path_tell(&console->path, queue);
    return result;
}

/* Read into the buffer that is taken. Returns the bytes, or 0 when there are none now or never more. */
static uint32_t read_into(struct console *console, struct port *port)
{
    ssize_t done = readv(port->in, port->from.parts, port->from.writable);

    if (done < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (done <= 0) {
        epoll_ctl(console->path.epoll, EPOLL_CTL_DEL, port->in, NULL);
        port->in = -1;
    }
    if (done <= 0 || __atomic_exchange_n(&port->room, 0, __ATOMIC_SEQ_CST))
        console->path.look |= 1ULL << (SOURCE_FD + (port - console->ports));
    return done > 0 ? done : 0;
}

/* From the host to the guest. Returns 0 or -EPROTO. */
static int type(struct console *console, uint32_t number, uint32_t source)
{
    struct port *port = &console->ports[number];
    struct queue *queue;
    int result = 0;

    for (int i = 0; (queue = path_next(&console->path, source)) && port->in >= 0; i++) {
        uint32_t bytes;

        if (i == BATCH)
            path_again(&console->path, source);
        if (i == BATCH || !__atomic_load_n(&port->open, __ATOMIC_SEQ_CST))
            break;
        if (!port->reading && (result = queue_pop(queue, &port->from)) <= 0)
            break;
        port->reading = 1;
        if (port->from.readable || !port->from.writable) {
            result = queue_broken(queue, "a buffer for input that cannot all be written to");
            break;
        }
        if (!(bytes = read_into(console, port)))
            break;
        port->reading = 0;
        queue_push(queue, port->from.head, port->from.entries, bytes);
        console->path.chains++;
        console->path.bytes += bytes;
    }
    if (queue)
        path_tell(&console->path, queue);
    return result < 0 ? result : 0;
}

/* Say what has gone from a port by itself: 1 its input has ended, 2 its output takes no more. */
int console_gone(struct path *path, uint32_t number)
{
    struct port *port = &((struct console *)path)->ports[number];
    int gone;

    pthread_mutex_lock(&path->lock);
    gone = (port->in < 0) | (port->out < 0) << 1;
    pthread_mutex_unlock(&path->lock);
    return gone;
}

/* Say whether the guest has printed what is not written yet. */
int console_pending(struct path *path)
{
    struct console *console = (struct console *)path;
    int pending = 0;

    pthread_mutex_lock(&path->lock);
    for (uint32_t i = 0; i < console->count; i++) {
        struct queue *queue = path->queues[i ? 2 * i + 3 : 1];

        if (queue && console->ports[i].out >= 0)
            pending |= console->ports[i].writing || queue_waiting(queue);
    }
    pthread_mutex_unlock(&path->lock);
    return pending;
}

static int console_serve(struct path *path, uint32_t source)
{
    struct console *console = (struct console *)path;
    uint32_t number = source < SOURCE_FD ? (source < 2 ? 0 : source / 2 - 1) : (source - SOURCE_FD) % 8;
    uint32_t in = number ? 2 * number + 2 : 0;
    int result = 0;

    if (source == CONTROL_IN || source == CONTROL_OUT || source >= SOURCE_FD + LISTENER) {
        path->look |= 1ULL << source;
        return 0;
    }
    if (number >= console->count)
        return 0;
    if (source >= SOURCE_FD ? source < SOURCE_FD + OUT : !(source % 2))
        result = type(console, number, in);
    if (result == 0 && (source >= SOURCE_FD ? console->ports[number].writing : (int)source % 2))
        result = print(console, number, in + 1);
    return result;
}
