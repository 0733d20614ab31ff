/* Those who are attached: what they type comes in as frames, what the program writes goes out to each (monitor.h).
 *
 * A client that stops reading has half a queue left when clients_have_room says no, which is room for what was read by then: so
 * nothing is lost, and no memory grows. One costs memory only while it is there.
 */
#define _GNU_SOURCE
#include "clients.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct client {
    int fd, quiet;
    size_t got;             /* bytes of the frame that is coming in */
    union { struct frame head; char in[sizeof(struct frame) + FRAME_MOST]; };
    struct queue out;
};

static int listener = -1;
static struct client *clients[CLIENTS];
static struct client **polled[CLIENTS];  /* whose descriptors clients_poll has filled in, in their order */

int queue_flush(struct queue *q, int fd)
{
    ssize_t n = write(fd, q->data, q->used);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    memmove(q->data, q->data + n, q->used - (size_t)n);
    q->used -= (size_t)n;
    return 0;
}

void clients_listen(int fd)
{
    if (listener >= 0)
        close(listener);
    listener = fd;
}

static void leave(struct client **c)
{
    close((*c)->fd);
    free(*c);
    *c = NULL;
}

void clients_leave(int full)
{
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i] && (!full || clients[i]->out.used > ROOM / 2))
            leave(&clients[i]);
}

void clients_welcome(const struct pollfd *fds)
{
    int fd;

    while (fds[0].revents && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int i = 0;
        while (i < CLIENTS && clients[i])
            i++;
        if (i < CLIENTS && (clients[i] = calloc(1, sizeof *clients[i])))
            clients[i]->fd = fd;
        else
            close(fd);
    }
}

void clients_tell(int type, const char *data, size_t size)
{
    struct frame head = {.type = (uint8_t)type, .size = htonl((uint32_t)size)};

    for (int i = 0; i < CLIENTS; i++) {
        struct queue *q = clients[i] && !(clients[i]->quiet && type != FRAME_STATUS) ? &clients[i]->out : NULL;
        if (q && q->used + sizeof head + size <= sizeof q->data) {
            memcpy(q->data + q->used, &head, sizeof head);
            memcpy(q->data + q->used + sizeof head, data, size);
            q->used += sizeof head + size;
        }
    }
}

int clients_have_room(void)
{
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i] && clients[i]->out.used > ROOM / 2)
            return 0;
    return 1;
}

size_t clients_left(void)
{
    size_t bytes = 0;

    for (int i = 0; i < CLIENTS; i++)
        bytes += clients[i] ? clients[i]->out.used : 0;
    return bytes;
}

/* Read from a client; there is room for a frame's content. Returns -1 where it has gone, or does not keep to the form, else whether
 * there is room for another. */
static int listen_to(struct client *c, int (*heard)(int type, const char *data, size_t size))
{
    size_t want = sizeof c->head + (c->got < sizeof c->head ? 0 : ntohl(c->head.size));
    ssize_t n = read(c->fd, c->in + c->got, want - c->got);

    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 1 : -1;
    c->got += (size_t)n;
    if (c->got < sizeof c->head)
        return 1;
    size_t size = ntohl(c->head.size);
    if (size > FRAME_MOST)
        return -1;
    if (c->got < sizeof c->head + size)
        return 1;
    if (c->head.type == FRAME_QUIET)
        c->quiet = 1;
    c->got = 0;
    return heard(c->head.type, c->in + sizeof c->head, size);
}

int clients_poll(struct pollfd *fds, int room)
{
    int n = 0;

    fds[n++] = (struct pollfd){listener, POLLIN, 0};
    for (int i = 0; i < CLIENTS; i++)
        if (clients[i]) {
            int events = (clients[i]->out.used ? POLLOUT : 0) | (room ? POLLIN : 0);
            polled[n - 1] = &clients[i];
            fds[n++] = (struct pollfd){events ? clients[i]->fd : -1, (short)events, 0};  /* else one who hung up woke us for ever */
        }
    return n;
}

void clients_serve(const struct pollfd *fds, int n, int (*heard)(int type, const char *data, size_t size))
{
    int room = 1;  /* for the first, where frames were waited for */

    for (int i = 1; i < n; i++) {
        struct client **c = polled[i - 1];
        int gone = 0, said = 1;
        if (fds[i].revents & POLLOUT)
            gone |= queue_flush(&(*c)->out, fds[i].fd) < 0;
        if ((fds[i].revents & ~POLLOUT) && (fds[i].events & POLLIN) && room)  /* POLLHUP comes unasked */
            gone |= (said = listen_to(*c, heard)) < 0;
        room &= said != 0;
        if (gone)
            leave(c);
    }
}
