/* The log: one JSON object a line, as Docker's json-file driver writes it, so that what reads those reads these.
 *
 *     {"log":"what was written\n","stream":"stdout","time":"2026-11-25T23:18:15.123456789Z"}
 *
 * A line of more than LINE bytes comes in pieces, those before the last without "\n". Bytes that are no UTF-8 become
 * U+FFFD, as JSON has no others. A line is written by one write(2), so a reader finds none that is half there, but at the
 * end of a full disk; what cannot be written is kept back, with the container behind it, until it can be.
 */
#define _GNU_SOURCE
#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Return how many bytes the UTF-8 character at s has, at most n; 0 where it is none; -1 where it may go on behind n
 * (Unicode, table 3-7: no overlong forms, no surrogates). */
static int utf8(const unsigned char *s, size_t n)
{
    unsigned char first = s[0], low = 0x80, high = 0xbf;
    int more = first < 0x80 ? 0 : first >= 0xc2 && first <= 0xdf ? 1 : (first & 0xf0) == 0xe0 ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : -1;

    if (more < 0)
        return 0;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
    for (int i = 1; i <= more; i++) {
        if ((size_t)i >= n)
            return -1;
        if (s[i] < low || s[i] > high)
            return 0;
        low = 0x80, high = 0xbf;
    }
    return more + 1;
}

/* Write one character into a JSON string, and return the end. */
static char *quoted(char *out, const unsigned char *s, int n)
{
    static const char hex[] = "0123456789abcdef", plain[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    const char *at = n == 1 && s[0] ? strchr(plain, s[0]) : NULL;

    if (at) {
        *out++ = '\\';
        *out++ = letter[at - plain];
    } else if (n == 1 && (s[0] < 0x20 || s[0] == 0x7f)) {
        out += sprintf(out, "\\u00%c%c", hex[s[0] >> 4], hex[s[0] & 15]);
    } else {
        memcpy(out, s, (size_t)n);
        out += n;
    }
    return out;
}

static int begin(struct log *l)
{
    struct stat status;

    l->fd = openat(l->directory, "log", O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (l->fd < 0 || fstat(l->fd, &status) < 0)
        return -errno;
    l->size = (uint64_t)status.st_size;
    return 0;
}

int log_open(struct log *l, int directory, uint64_t most, unsigned files)
{
    l->directory = directory;
    l->most = most;
    l->files = files;
    l->opened = 1;
    return begin(l);
}

/* log becomes log.1, that log.2 ...; the last is gone. */
static void rotate(struct log *l)
{
    char from[32], to[32];

    for (unsigned i = l->files - 1; i > 0; i--) {
        snprintf(from, sizeof from, i > 1 ? "log.%u" : "log", i - 1);
        snprintf(to, sizeof to, "log.%u", i);
        renameat(l->directory, from, l->directory, to);
    }
    if (l->files <= 1)
        unlinkat(l->directory, "log", 0);
    close(l->fd);
    begin(l);
}

/* Write one piece of a line. Returns 0, or -errno where nothing of it was written. */
static int put(struct log *l, int stream, const unsigned char *text, size_t n)
{
    static char line[6 * LOG_LINE + 128];
    char *out = line + sprintf(line, "{\"log\":\"");
    struct timespec now;
    struct tm t;

    if (l->most && l->size >= l->most)
        rotate(l);
    for (size_t i = 0; i < n;) {
        int length = utf8(text + i, n - i);
        if (length <= 0) {
            memcpy(out, "\xef\xbf\xbd", 3);
            out += 3;
            i++;
            continue;
        }
        out = quoted(out, text + i, length);
        i += (size_t)length;
    }
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &t);
    out += sprintf(out, "\",\"stream\":\"%s\",\"time\":\"%04d-%02d-%02dT%02d:%02d:%02d.%09ldZ\"}\n", stream == 2 ? "stderr" : "stdout",
                   t.tm_year + 1900, t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, now.tv_nsec);
    size_t size = (size_t)(out - line), done = 0;
    while (done < size) {
        ssize_t written = write(l->fd, line + done, size - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {  /* no half line stays */
            int error = written < 0 ? errno : EIO;
            if (done && ftruncate(l->fd, (off_t)l->size) < 0)
                return -errno;
            return -error;
        }
        done += (size_t)written;
    }
    l->size += size;
    return 0;
}

int log_write(struct log *l, int stream, const char *data, size_t n)
{
    struct partial *p = &l->partial[stream == 2];
    size_t taken = 0;

    if (!l->opened)
        return (int)n;
    while (taken < n) {
        size_t room = LOG_LINE - p->used, more = n - taken < room ? n - taken : room;
        const char *end = memchr(data + taken, '\n', more);
        size_t length = end ? (size_t)(end - (data + taken)) + 1 : more;

        memcpy(p->text + p->used, data + taken, length);
        p->used += length;
        if (end || p->used == LOG_LINE) {
            size_t whole = p->used, keep = 0;
            while (!end && keep < 3 && keep + 1 < whole && utf8(p->text + whole - keep - 1, keep + 1) == 0)
                keep++;  /* a byte in the middle of a character, unless it is rubbish */
            keep = !end && utf8(p->text + whole - keep - 1, keep + 1) == -1 ? keep + 1 : 0;
            int error = put(l, stream, p->text, whole - keep);
            if (error) {
                p->used -= length;  /* as if it had not been offered */
                return taken ? (int)taken : error;
            }
            memmove(p->text, p->text + whole - keep, keep);
            p->used = keep;
        }
        taken += length;
    }
    return (int)taken;
}

void log_close(struct log *l)
{
    for (int stream = 1; l->opened && stream <= 2; stream++) {
        struct partial *p = &l->partial[stream == 2];
        if (p->used)
            put(l, stream, p->text, p->used);
        p->used = 0;
    }
    if (l->opened)
        close(l->fd);
    l->opened = 0;
}
