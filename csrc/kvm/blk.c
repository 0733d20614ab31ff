/* virtio-blk's requests (VIRTIO 1.2, 5.2.6): between a file and the guest's memory in one preadv or pwritev.
 *
 *   request   | type (4) | reserved (4) | sector (8) |  to read
 *             | data: to read for a write, to write for a read |
 *             | status (1) |  to write
 *
 * One path a queue, so that several queues are several threads. What is refused by the device's features is refused here
 * again: a driver need not keep to them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/virtio_blk.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "virtio.h"

#define SECTOR 512
#define RANGES 64                     /* of one discard; minivm/devices/virtio/blk.py says the same to the driver */
#define DISCARD_SECTORS (1u << 22)
#define ZERO_SECTORS (1u << 15)       /* less: a host that cannot make holes has to write them */
#define TELL_BYTES (256u << 10)       /* a driver that waits for a long batch hears of its begin meanwhile */
#define REFUSED 1                     /* result of a request that the device does not know */

struct blk {
    struct path path; /* first: the path is the blk */
    int fd;           /* borrowed */
    uint64_t sectors;
    int read_only, write_through;
    char serial[VIRTIO_BLK_ID_BYTES];
    struct overlay *overlay; /* borrowed; NULL where the file itself is written */
    struct bucket bandwidth, requests;
    struct chain chain;
};

static int blk_serve(struct path *path, uint32_t source);

/* Make the path of one queue of a disk. `fd` stays the caller's, as do registers and interrupt, and the overlay (NULL for
 * none). The caller owns the path and gives it back to path_destroy. Returns NULL without memory or descriptors. */
struct path *blk_create(uint8_t *registers, int interrupt, int fd, uint64_t size, int read_only, const char *serial,
                        struct overlay *overlay)
{
    struct blk *new = calloc(1, sizeof *new);

    if (!new)
        return NULL;
    new->path.serve = blk_serve;
    new->fd = fd;
    new->sectors = size / SECTOR;
    new->read_only = read_only;
    new->overlay = overlay;
    strncpy(new->serial, serial, sizeof new->serial);
    if (path_begin(&new->path, registers, interrupt) < 0) {
        path_destroy(&new->path);
        return NULL;
    }
    return &new->path;
}

/* Say whether each write is to be on the host's disk when it is answered, as the driver knows no flush. Before the path has
 * queues. VIRTIO 1.2, 5.2.6.2. */
void blk_agree(struct path *path, int write_through)
{
    ((struct blk *)path)->write_through = write_through;
}

/* Limit bytes and requests; a size of 0 is no limit. See bucket.c. Before the path runs. */
void blk_limit(struct path *path, uint64_t bytes, uint64_t bytes_refill, uint64_t requests, uint64_t requests_refill)
{
    struct blk *blk = (struct blk *)path;

    bucket_set(&blk->bandwidth, bytes, bytes_refill);
    bucket_set(&blk->requests, requests, requests_refill);
}

/* Say whether so many bytes from a sector on are whole sectors of the disk. */
static int inside(struct blk *blk, uint64_t sector, uint64_t length)
{
    return length % SECTOR == 0 && sector <= blk->sectors && length / SECTOR <= blk->sectors - sector;
}

static int transfer(struct blk *blk, struct cursor *cursor, int write, uint64_t sector, uint64_t length)
{
    if (!inside(blk, sector, length) || (write && blk->read_only))
        return -EINVAL;
    blk->path.bytes += length;
    if (!blk->overlay)
        return cursor_transfer(cursor, blk->fd, write, sector * SECTOR, length);
    return write ? overlay_write(blk->overlay, cursor, sector * SECTOR, length)
                 : overlay_read(blk->overlay, cursor, sector * SECTOR, length);
}

static int flush(struct blk *blk)
{
    if (blk->read_only)
        return 0;
    if (blk->overlay)
        return overlay_flush(blk->overlay);
    return fdatasync(blk->fd) < 0 ? -errno : 0;
}

/* Write zeroes where no hole can be made and none is wanted. */
static int write_zeroes(struct blk *blk, uint64_t offset, uint64_t length)
{
    static uint8_t zeroes[64 << 10];

    while (length) {
        uint64_t piece = length < sizeof zeroes ? length : sizeof zeroes;
        struct iovec part = {zeroes, piece};
        struct cursor all = {&part, 1};
        int result = cursor_transfer(&all, blk->fd, 1, offset, piece);

        if (result < 0)
            return result;
        offset += piece;
        length -= piece;
    }
    return 0;
}

/* Make a range read as zeroes: by a hole, or where the guest wants to keep the space by what the file system has for it. */
static int clear(struct blk *blk, uint64_t offset, uint64_t length, int zero, int unmap)
{
    int how = unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

    if (!length)
        return 0;
    if (blk->overlay)
        return overlay_clear(blk->overlay, offset, length, zero);
    if (fallocate(blk->fd, how | FALLOC_FL_KEEP_SIZE, offset, length) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENODEV)
        return -errno;
    return zero ? write_zeroes(blk, offset, length) : 0; /* a discard is a hint (5.2.6.2) */
}

/* A discard or write-zeroes: each range in the data. Returns 0, REFUSED or -errno. */
static int clear_ranges(struct blk *blk, struct cursor *cursor, uint64_t length, int zero)
{
    struct virtio_blk_discard_write_zeroes ranges[RANGES];
    uint64_t most = zero ? ZERO_SECTORS : DISCARD_SECTORS, count = length / sizeof ranges[0];

    if (blk->read_only || !length || length % sizeof ranges[0] || count > RANGES)
        return -EINVAL;
    cursor_take(cursor, ranges, length);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t flags = ranges[i].flags, sectors = ranges[i].num_sectors;
        int unmap = !zero || flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, result;

        if (flags & ~(zero ? VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP : 0u))
            return REFUSED;
        if (sectors > most || !inside(blk, ranges[i].sector, (uint64_t)sectors * SECTOR))
            return -EINVAL;
        result = clear(blk, ranges[i].sector * SECTOR, (uint64_t)sectors * SECTOR, zero, unmap);
        if (result < 0)
            return result;
    }
    return 0;
}

/* Finish what has written: where the driver knows no flush, here is one. Takes and returns 0, REFUSED or -errno. */
static int finish(struct blk *blk, int result)
{
    return result == 0 && blk->write_through ? flush(blk) : result;
}

/* Carry out what the header says. *written is how many bytes went to the guest. Returns 0, REFUSED or -errno. */
static int perform(struct blk *blk, const struct virtio_blk_outhdr *head, struct cursor *in, uint64_t in_bytes,
                   struct cursor *out, uint64_t out_bytes, uint32_t *written)
{
    int result;

    switch (head->type) {
    case VIRTIO_BLK_T_IN:
        result = transfer(blk, out, 0, head->sector, out_bytes);
        *written = result == 0 ? out_bytes : 0;
        return result;
    case VIRTIO_BLK_T_OUT:
        return finish(blk, transfer(blk, in, 1, head->sector, in_bytes));
    case VIRTIO_BLK_T_FLUSH:
        return flush(blk);
    case VIRTIO_BLK_T_GET_ID:
        *written = cursor_put(out, blk->serial, sizeof blk->serial);
        return 0;
    case VIRTIO_BLK_T_DISCARD:
        return clear_ranges(blk, in, in_bytes, 0);
    case VIRTIO_BLK_T_WRITE_ZEROES:
        return finish(blk, clear_ranges(blk, in, in_bytes, 1));
    default:
        return REFUSED;
    }
}

/* Carry out one request: its header comes first, its status is the last byte to write, however the driver divides them
 * (2.7.4.1). Returns 0 with *written set, or -EPROTO where one of them is missing. */
static int request(struct blk *blk, struct queue *queue, struct chain *chain, uint32_t *written)
{
    struct virtio_blk_outhdr head;
    struct cursor in = {chain->parts, chain->readable}, out = {chain->parts + chain->readable, chain->writable};
    struct iovec *last = &chain->parts[chain->readable + chain->writable - 1];
    uint8_t *status;
    int result;

    if (!chain->writable)
        return queue_broken(queue, "a request with no room for its status");
    if (cursor_take(&in, &head, sizeof head) < sizeof head)
        return queue_broken(queue, "a request with no header");
    status = (uint8_t *)last->iov_base + --last->iov_len;
    if (!last->iov_len)
        out.count--;
    *written = 0;
    result = perform(blk, &head, &in, chain->readable_bytes - sizeof head, &out, chain->writable_bytes - 1, written);
    *status = result == 0 ? VIRTIO_BLK_S_OK : result == REFUSED ? VIRTIO_BLK_S_UNSUPP : VIRTIO_BLK_S_IOERR;
    *written += 1;
    return 0;
}

/* Put the queue off where a limit is reached. Returns 1 if it is. */
static int limited(struct blk *blk, uint32_t source)
{
    uint64_t now, wait, other;

    if (!blk->bandwidth.size && !blk->requests.size)
        return 0;
    now = path_now();
    wait = bucket_wait(&blk->bandwidth, now);
    other = bucket_wait(&blk->requests, now);
    if (!wait && !other)
        return 0;
    path_later(&blk->path, source, wait > other ? wait : other);
    return 1;
}

/* Serve requests until there are none. */
static int blk_serve(struct path *path, uint32_t source)
{
    struct blk *blk = (struct blk *)path;
    struct chain *chain = &blk->chain;
    struct queue *queue;
    uint64_t untold = 0;
    int result = 0;

    while ((queue = path_next(path, source)) && !limited(blk, source) && (result = queue_pop(queue, chain)) > 0) {
        uint64_t bytes = chain->readable_bytes + chain->writable_bytes;
        uint32_t written;

        if ((result = request(blk, queue, chain, &written)) < 0)
            break;
        queue_push(queue, chain->head, chain->entries, written);
        path->chains++;
        bucket_spend(&blk->bandwidth, bytes);
        bucket_spend(&blk->requests, 1);
        if ((untold += bytes) >= TELL_BYTES) {
            path_tell(path, queue);
            untold = 0;
        }
    }
    if (queue)
        path_tell(path, queue);
    return result;
}
