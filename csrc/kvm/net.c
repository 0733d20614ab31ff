/* virtio-net's packets (VIRTIO 1.2, 5.1.6): between the guest's buffers and a tap, or a socket of passt.
 *
 *   packet    | flags (1) | gso_type (1) | hdr_len (2) | gso_size (2) | csum_start (2) | csum_offset (2) | num_buffers (2) |
 *             | Ethernet frame |
 *
 * num_buffers is not there in the interface of before the specification, unless VIRTIO_NET_F_MRG_RXBUF is agreed on (5.1.6.1).
 * A tap that was told IFF_VNET_HDR and the size of this header takes and gives the same, so that what the guest left to
 * "hardware" (checksums, cutting 64 KiB into segments) is left to the host's kernel: often nobody ever does it. A packet
 * goes from the guest's parts to the tap by one writev, and back by one readv. With VIRTIO_NET_F_MRG_RXBUF a packet may
 * take several buffers, whose number goes into the first; all of them appear at once.
 *
 * passt's socket is a stream: each frame has its length before it, in 4 bytes, most significant first, and no header. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio.h"

#define RECEIVE 0 /* queues */
#define SEND 1
#define HEADER 12 /* at most */
#define NUM_BUFFERS 10 /* its offset in the header */
#define FRAME (65536 + 18) /* IP packet, Ethernet and a VLAN */
#define LARGEST (HEADER + FRAME)
#define STREAM (4 * LARGEST)
#define BATCH 256 /* packets, before others have their turn */

/* A buffer of the receive queue that is taken and not used yet. */
struct held {
    uint16_t head, entries;
    uint32_t parts;
    uint64_t bytes;
};

struct net {
    struct path path;      /* first: the path is the net */
    int fd, stream;        /* fd borrowed; stream: passt's socket, else a tap */
    int mergeable;         /* agreed: a packet may take several buffers */
    uint32_t header;       /* bytes of it: 12, or 10 without num_buffers */
    uint32_t largest;      /* bytes of the largest packet that may come, with its header */
    struct bucket in, out; /* limits, in bytes */
    struct chain chain;
    struct held held[QUEUE_LARGEST];
    struct iovec parts[2 * QUEUE_LARGEST]; /* of all of them, in order */
    uint32_t held_count, held_parts;
    uint64_t held_bytes;
    uint32_t waiting;      /* bytes of a packet in `packet` that waits for buffers; 0: there is none */
    uint8_t packet[LARGEST];
    uint32_t begin, end;   /* what is read of the stream and not delivered: arrived[begin] to arrived[end] */
    uint8_t arrived[STREAM];
    uint32_t rest, rest_done; /* of a frame that the socket took a part of only */
    uint8_t leaving[4 + LARGEST];
};

static int net_serve(struct path *path, uint32_t source);
static void net_forget(struct path *path, uint32_t number);

/* Make the path of a network card. `fd` (a tap, or with `stream` a socket; not blocking), registers and interrupt stay the
 * caller's. The caller owns the path and gives it back to path_destroy. Returns NULL without memory or descriptors. */
struct path *net_create(uint8_t *registers, int interrupt, int fd, int stream)
{
    struct net *new = calloc(1, sizeof *new);

    if (!new)
        return NULL;
    new->path.serve = net_serve;
    new->path.forget = net_forget;
    new->fd = fd;
    new->stream = stream;
    new->header = HEADER;
    new->largest = LARGEST;
    if (path_begin(&new->path, registers, interrupt) < 0 ||
        path_watch(&new->path, SOURCE_FD, fd, EPOLLIN | (stream ? EPOLLOUT : 0)) < 0) {
        path_destroy(&new->path);
        return NULL;
    }
    return &new->path;
}

/* Say what was agreed on with the driver; before it has queues. `header` is 12, or 10 without num_buffers; `largest` has it
 * in it. */
void net_agree(struct path *path, int mergeable, uint32_t header, uint32_t largest)
{
    struct net *net = (struct net *)path;

    net->mergeable = mergeable;
    net->header = header == NUM_BUFFERS ? NUM_BUFFERS : HEADER;
    net->largest = largest < LARGEST ? largest : LARGEST;
}

/* Limit the bytes that come in and go out; a size of 0 is no limit. See bucket.c. Before the path runs. */
void net_limit(struct path *path, uint64_t in, uint64_t in_refill, uint64_t out, uint64_t out_refill)
{
    struct net *net = (struct net *)path;

    bucket_set(&net->in, in, in_refill);
    bucket_set(&net->out, out, out_refill);
}

/* --- out of the guest --- */

/* Write what is left of a frame. Returns 1 when nothing is left, 0 when the socket is full or gone. */
static int send_rest(struct net *net)
{
    while (net->rest_done < net->rest) {
        ssize_t done = send(net->fd, net->leaving + net->rest_done, net->rest - net->rest_done, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return 0;
        net->rest_done += done;
    }
    net->rest = net->rest_done = 0;
    return 1;
}

/* Write a frame to the stream; what the socket does not take is copied, and waits. */
static void send_stream(struct net *net, struct cursor *frame, uint32_t length)
{
    uint32_t size = htonl(length);

    memcpy(net->leaving, &size, 4);
    cursor_take(frame, net->leaving + 4, length);
    net->rest = 4 + length;
    send_rest(net);
}

/* Send one packet. What is too short or too long to be one is dropped, as a network would. */
static void send_packet(struct net *net, struct chain *chain)
{
    struct cursor frame = {chain->parts, chain->readable};
    uint8_t header[HEADER];

    if (chain->readable_bytes <= net->header + 14 || chain->readable_bytes > net->header + FRAME)
        return;
    net->path.bytes += chain->readable_bytes;
    bucket_spend(&net->out, chain->readable_bytes);
    if (net->stream) {
        cursor_take(&frame, header, net->header);
        send_stream(net, &frame, chain->readable_bytes - net->header);
    } else if (writev(net->fd, chain->parts, chain->readable) < 0) {
        return; /* not up, full, or a header that makes no sense: dropped too */
    }
}

/* Say whether a direction's limit is reached; then its source is served later. */
static int limited(struct net *net, struct bucket *bucket, uint32_t source)
{
    uint64_t wait = bucket->size ? bucket_wait(bucket, path_now()) : 0;

    if (wait)
        path_later(&net->path, source, wait);
    return wait != 0;
}

static int send_all(struct net *net)
{
    struct queue *queue;
    int result = 0;

    for (int i = 0; (queue = path_next(&net->path, SEND)); i++) {
        if (i == BATCH)
            path_again(&net->path, SEND);
        if (i == BATCH || (net->rest && !send_rest(net)) || limited(net, &net->out, SEND))
            break;
        if ((result = queue_pop(queue, &net->chain)) <= 0)
            break;
        send_packet(net, &net->chain);
        queue_push(queue, net->chain.head, net->chain.entries, 0);
        net->path.chains++;
    }
    if (queue)
        path_tell(&net->path, queue);
    return result;
}

/* --- into the guest --- */

/* Take buffers until the largest packet has room. Returns 1 if it has, 0 if the driver has no more, or -EPROTO. */
static int hold(struct net *net, struct queue *queue)
{
    struct chain *chain = &net->chain;

    while (net->mergeable ? net->held_bytes < net->largest : !net->held_count) {
        int result;

        if (net->held_count == QUEUE_LARGEST || net->held_parts > QUEUE_LARGEST)
            return 1; /* smaller parts than this are not useful to anybody */
        if ((result = queue_pop(queue, chain)) <= 0)
            return result;
        if (chain->readable || chain->writable_bytes < net->header)
            return queue_broken(queue, "a buffer for packets that has no room for a header");
        net->held[net->held_count++] = (struct held){chain->head, chain->entries, chain->writable, chain->writable_bytes};
        memcpy(net->parts + net->held_parts, chain->parts, chain->writable * sizeof chain->parts[0]);
        net->held_parts += chain->writable;
        net->held_bytes += chain->writable_bytes;
    }
    return 1;
}

/* Write the number of buffers into the header at the front of the parts, if it has a place for it. */
static void put_number(struct net *net, uint16_t number)
{
    uint32_t at = 0;

    for (uint32_t i = 0; i < net->held_parts && at < net->header; i++) {
        for (uint32_t j = 0; j < net->parts[i].iov_len && at < net->header; j++, at++)
            if (at >= NUM_BUFFERS)
                ((uint8_t *)net->parts[i].iov_base)[j] = number >> 8 * (at - NUM_BUFFERS);
    }
}

/* Give back the buffers that the first `length` bytes of all parts are in: there is a packet. */
static void use(struct net *net, struct queue *queue, uint64_t length)
{
    uint32_t count = 0, parts = 0;
    uint64_t left = length;

    for (uint64_t room = 0; room < length; room += net->held[count++].bytes)
        parts += net->held[count].parts;
    put_number(net, count);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t written = left < net->held[i].bytes ? left : net->held[i].bytes;

        queue_stage(queue, net->held[i].head, net->held[i].entries, written);
        net->held_bytes -= net->held[i].bytes;
        left -= written;
    }
    queue_publish(queue);
    net->held_count -= count;
    net->held_parts -= parts;
    memmove(net->held, net->held + count, net->held_count * sizeof net->held[0]);
    memmove(net->parts, net->parts + parts, net->held_parts * sizeof net->parts[0]);
    net->path.chains += count;
    net->path.bytes += length;
    bucket_spend(&net->in, length);
}

/* Copy a packet of one or two pieces into the held buffers and give it to the driver. Returns 1, or 0 without room. */
static int deliver(struct net *net, struct queue *queue, const uint8_t *header, const uint8_t *frame, uint32_t length)
{
    uint64_t room = net->mergeable ? net->held_bytes : net->held_count ? net->held[0].bytes : 0;
    struct iovec parts[2 * QUEUE_LARGEST];
    struct cursor cursor = {parts, net->held_parts};

    if (room < net->header + length)
        return 0;
    memcpy(parts, net->parts, net->held_parts * sizeof parts[0]);
    cursor_put(&cursor, header, net->header);
    cursor_put(&cursor, frame, length);
    use(net, queue, net->header + length);
    return 1;
}

/* Deliver a packet that waits, or drop it where the driver has no buffers that could ever hold it: a ring that is all
 * taken, or buffers that are smaller than a packet and may not be put together. Returns 1 when nothing waits. */
static int deliver_waiting(struct net *net, struct queue *queue, const uint8_t *header, const uint8_t *frame, uint32_t length)
{
    if (deliver(net, queue, header, frame, length))
        return 1;
    return net->mergeable ? net->held_count == queue->size || net->held_count == QUEUE_LARGEST : net->held_count != 0;
}

/* Receive one packet from the tap. Returns 1, or 0 when there is none or it has to wait. */
static int receive_tap(struct net *net, struct queue *queue, int room)
{
    ssize_t length;

    if (net->waiting) {
        if (!deliver_waiting(net, queue, net->packet, net->packet + net->header, net->waiting - net->header))
            return 0;
        net->waiting = 0;
        return 1;
    }
    if (room && net->mergeable) {
        length = readv(net->fd, net->parts, net->held_parts < QUEUE_LARGEST ? net->held_parts : QUEUE_LARGEST);
        if (length > net->header)
            use(net, queue, length);
        return length >= 0;
    }
    if (room && net->held[0].bytes >= net->largest) {
        length = readv(net->fd, net->parts, net->held[0].parts);
        if (length > net->header)
            use(net, queue, length);
        return length >= 0;
    }
    length = read(net->fd, net->packet, sizeof net->packet);
    net->waiting = length > net->header ? length : 0;
    return length >= 0;
}

/* Read more of the stream. Returns 1, 0 when there is nothing now, or -EPIPE when there will never be. */
static int read_stream(struct net *net)
{
    ssize_t done;

    memmove(net->arrived, net->arrived + net->begin, net->end - net->begin);
    net->end -= net->begin;
    net->begin = 0;
    done = recv(net->fd, net->arrived + net->end, STREAM - net->end, MSG_DONTWAIT);
    if (done < 0)
        return errno == EAGAIN || errno == EINTR ? 0 : -EPIPE;
    net->end += done;
    return done ? 1 : -EPIPE;
}

/* Receive one frame from the stream. Returns as receive_tap; and when passt is gone or talks nonsense, Python is told. */
static int receive_stream(struct net *net, struct queue *queue)
{
    static const uint8_t header[HEADER];
    uint32_t have = net->end - net->begin, length = 0;
    int result;

    if (have >= 4) {
        memcpy(&length, net->arrived + net->begin, 4);
        length = ntohl(length);
    }
    if (length > FRAME) {
        net->path.look |= 1ULL << SOURCE_FD;
        return 0;
    }
    if (have >= 4 && have - 4 >= length) {
        if (!deliver_waiting(net, queue, header, net->arrived + net->begin + 4, length))
            return 0;
        net->begin += 4 + length;
        return 1;
    }
    if ((result = read_stream(net)) < 0)
        net->path.look |= 1ULL << SOURCE_FD;
    return result > 0;
}

static int receive_all(struct net *net)
{
    struct queue *queue;
    int result = 0;

    for (int i = 0; (queue = path_next(&net->path, RECEIVE)); i++) {
        if (i == BATCH)
            path_again(&net->path, RECEIVE);
        if (i == BATCH || limited(net, &net->in, RECEIVE) || (result = hold(net, queue)) < 0)
            break;
        if (!(net->stream ? receive_stream(net, queue) : receive_tap(net, queue, result)))
            break;
    }
    if (queue)
        path_tell(&net->path, queue);
    return result < 0 ? result : 0;
}

/* A queue goes: the buffers that were taken from it are the driver's again. */
static void net_forget(struct path *path, uint32_t number)
{
    struct net *net = (struct net *)path;

    if (number == RECEIVE)
        net->held_count = net->held_parts = net->held_bytes = net->waiting = 0;
}

static int net_serve(struct path *path, uint32_t source)
{
    struct net *net = (struct net *)path;
    int result = source == SEND ? 0 : receive_all(net);

    if (result == 0 && (source == SEND || (source == SOURCE_FD && net->rest)))
        result = send_all(net);
    return result;
}
