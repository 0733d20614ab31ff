/* A copy-on-write overlay: what the guest writes goes to a second file, and the base stays as it is.
 *
 *   overlay file      | header: Python's (minivm/machine/overlay.py) | bitmap, a bit a cluster | the disk's data, with holes |
 *
 * A cluster is 4 KiB, the block of most file systems: nearly every write covers whole clusters, and nothing has to be
 * copied up first. The bitmap in the file says no more than what a flush has made durable: first the data, then the bits
 * that point to it. After a crash the overlay is the disk as of its last flush or later, never a bit without its data. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtio.h"

#define CLUSTER 4096ULL

struct overlay {
    int fd, base;              /* borrowed; fd < 0 is not possible */
    uint64_t size;             /* of the disk, bytes */
    uint64_t bitmap, data;     /* where they begin in the file */
    uint8_t *bits;             /* owned: what is in the overlay */
    uint64_t bytes;            /* of the bitmap */
    int dirty;                 /* bits have been set since the last flush */
    pthread_mutex_t lock;      /* of bits and of copying up, for the threads of several queues */
};

/* Read the bitmap. The caller owns *overlay and gives it back to overlay_destroy. Returns 0 or -errno. */
int overlay_create(int fd, int base, uint64_t size, uint64_t bitmap, uint64_t data, struct overlay **overlay)
{
    struct overlay *new = calloc(1, sizeof *new);
    uint64_t bytes = (size + 8 * CLUSTER - 1) / (8 * CLUSTER);
    struct iovec part;
    struct cursor all = {&part, 1};
    int result;

    if (!new || !(new->bits = calloc(bytes ? bytes : 1, 1))) {
        free(new);
        return -ENOMEM;
    }
    part = (struct iovec){new->bits, bytes};
    if ((result = cursor_transfer(&all, fd, 0, bitmap, bytes)) < 0) {
        free(new->bits);
        free(new);
        return result;
    }
    new->fd = fd;
    new->base = base;
    new->size = size;
    new->bitmap = bitmap;
    new->data = data;
    new->bytes = bytes;
    pthread_mutex_init(&new->lock, NULL);
    *overlay = new;
    return 0;
}

/* Save the bitmap and free. Returns 0 or -errno of the saving. */
int overlay_destroy(struct overlay *overlay)
{
    int result = overlay_flush(overlay);

    pthread_mutex_destroy(&overlay->lock);
    free(overlay->bits);
    free(overlay);
    return result;
}

static int is_ours(struct overlay *overlay, uint64_t cluster)
{
    return overlay->bits[cluster / 8] >> cluster % 8 & 1;
}

/* Return how many bytes from `offset` on, at most `length`, lie all in the overlay or all in the base. */
static uint64_t run(struct overlay *overlay, uint64_t offset, uint64_t length, int *ours)
{
    uint64_t end = offset;

    *ours = is_ours(overlay, offset / CLUSTER);
    while (end < offset + length && is_ours(overlay, end / CLUSTER) == *ours)
        end = (end / CLUSTER + 1) * CLUSTER;
    return end - offset < length ? end - offset : length;
}

/* Read from wherever each cluster is. Returns 0 or -errno. */
int overlay_read(struct overlay *overlay, struct cursor *cursor, uint64_t offset, uint64_t length)
{
    while (length) {
        int ours, result;
        uint64_t piece;

        pthread_mutex_lock(&overlay->lock);
        piece = run(overlay, offset, length, &ours);
        pthread_mutex_unlock(&overlay->lock);
        result = cursor_transfer(cursor, ours ? overlay->fd : overlay->base, 0, offset + (ours ? overlay->data : 0), piece);
        if (result < 0)
            return result;
        offset += piece;
        length -= piece;
    }
    return 0;
}

/* Copy a cluster from the base, if it is not here yet. Returns 0 or -errno. */
static int copy_up(struct overlay *overlay, uint64_t cluster)
{
    uint8_t bytes[CLUSTER];
    uint64_t offset = cluster * CLUSTER, length = overlay->size - offset < CLUSTER ? overlay->size - offset : CLUSTER;
    struct iovec from = {bytes, length}, to = {bytes, length};
    struct cursor in = {&from, 1}, out = {&to, 1};
    int result;

    if (is_ours(overlay, cluster))
        return 0;
    if ((result = cursor_transfer(&in, overlay->base, 0, offset, length)) < 0)
        return result;
    return cursor_transfer(&out, overlay->fd, 1, overlay->data + offset, length);
}

/* Note that the clusters of a range are here. */
static void mark(struct overlay *overlay, uint64_t offset, uint64_t length)
{
    for (uint64_t cluster = offset / CLUSTER; cluster * CLUSTER < offset + length; cluster++)
        overlay->bits[cluster / 8] |= 1 << cluster % 8;
    overlay->dirty = 1;
}

/* Copy up the clusters at both ends of a range, where it does not cover them. Returns 0 or -errno. */
static int prepare(struct overlay *overlay, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    int result = offset % CLUSTER ? copy_up(overlay, offset / CLUSTER) : 0;

    if (result == 0 && end % CLUSTER && end < overlay->size)
        result = copy_up(overlay, end / CLUSTER);
    return result;
}

/* Write to the overlay. Returns 0 or -errno. */
int overlay_write(struct overlay *overlay, struct cursor *cursor, uint64_t offset, uint64_t length)
{
    int result;

    if (!length)
        return 0;
    pthread_mutex_lock(&overlay->lock);
    result = prepare(overlay, offset, length);
    if (result == 0)
        result = cursor_transfer(cursor, overlay->fd, 1, overlay->data + offset, length);
    if (result == 0)
        mark(overlay, offset, length);
    pthread_mutex_unlock(&overlay->lock);
    return result;
}

/* Make a range read as zeroes, by a hole. Where that need not be exact (a discard), only the clusters that it covers
 * whole. Returns 0 or -errno. man 2 fallocate. */
int overlay_clear(struct overlay *overlay, uint64_t offset, uint64_t length, int exactly)
{
    uint64_t first = (offset + CLUSTER - 1) / CLUSTER * CLUSTER, end = (offset + length) / CLUSTER * CLUSTER;
    int result = 0;

    if (exactly) {
        first = offset;
        end = offset + length;
    }
    if (first >= end)
        return 0;
    pthread_mutex_lock(&overlay->lock);
    if (exactly)
        result = prepare(overlay, first, end - first);
    if (result == 0)
        result = fallocate(overlay->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, overlay->data + first, end - first);
    if (result == 0)
        mark(overlay, first, end - first);
    else if (result == -1)
        result = -errno;
    pthread_mutex_unlock(&overlay->lock);
    return result;
}

/* Make durable what was written: the data, then the bitmap. Returns 0 or -errno. */
int overlay_flush(struct overlay *overlay)
{
    struct iovec part = {overlay->bits, overlay->bytes};
    struct cursor all = {&part, 1};
    int result = 0;

    pthread_mutex_lock(&overlay->lock);
    if (overlay->dirty) {
        if (fdatasync(overlay->fd) < 0)
            result = -errno;
        if (result == 0)
            result = cursor_transfer(&all, overlay->fd, 1, overlay->bitmap, overlay->bytes);
        if (result == 0)
            overlay->dirty = 0;
    }
    if (result == 0 && fdatasync(overlay->fd) < 0)
        result = -errno;
    pthread_mutex_unlock(&overlay->lock);
    return result;
}
