/* Parts of a buffer: bytes taken from or put into them, or moved between them and a file without a copy. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "virtio.h"

/* Shorten the parts by so many bytes at their front. */
void cursor_skip(struct cursor *cursor, uint64_t length)
{
    while (cursor->count && length >= cursor->parts->iov_len) {
        length -= cursor->parts->iov_len;
        cursor->parts++;
        cursor->count--;
    }
    if (cursor->count) {
        cursor->parts->iov_base = (uint8_t *)cursor->parts->iov_base + length;
        cursor->parts->iov_len -= length;
    }
}

/* Copy up to `length` bytes; `data` to the parts or from them. Returns how many. */
static uint64_t copy(struct cursor *cursor, uint8_t *data, uint64_t length, int put)
{
    uint64_t done = 0;

    while (cursor->count && done < length) {
        uint64_t piece = length - done < cursor->parts->iov_len ? length - done : cursor->parts->iov_len;

        memcpy(put ? cursor->parts->iov_base : data + done, put ? data + done : cursor->parts->iov_base, piece);
        done += piece;
        cursor_skip(cursor, piece);
    }
    return done;
}

/* Take up to `length` bytes from the front of the parts. Returns how many there were. */
uint64_t cursor_take(struct cursor *cursor, void *data, uint64_t length)
{
    return copy(cursor, data, length, 0);
}

/* Put up to `length` bytes at the front of the parts. Returns how many had room. */
uint64_t cursor_put(struct cursor *cursor, const void *data, uint64_t length)
{
    return copy(cursor, (uint8_t *)data, length, 1);
}

/* Move exactly `length` bytes between a file at `offset` and the front of the parts, of which there are that many.
 * Returns 0, -EIO where the file ends before, or -errno. man 2 preadv. */
int cursor_transfer(struct cursor *cursor, int fd, int write, uint64_t offset, uint64_t length)
{
    while (length) {
        struct iovec window[QUEUE_LARGEST];
        uint32_t count = 0;
        uint64_t bytes = 0;
        ssize_t done;

        for (; count < cursor->count && count < QUEUE_LARGEST && bytes < length; count++) {
            window[count] = cursor->parts[count];
            if (window[count].iov_len > length - bytes)
                window[count].iov_len = length - bytes;
            bytes += window[count].iov_len;
        }
        done = write ? pwritev(fd, window, count, offset) : preadv(fd, window, count, offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? -errno : -EIO;
        cursor_skip(cursor, done);
        offset += done;
        length -= done;
    }
    return 0;
}
