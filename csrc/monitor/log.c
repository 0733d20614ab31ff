/* The log: one JSON object a line, as Docker's json-file driver writes it, so that what reads those reads these.
 *
 *     {"log":"what was written\n","stream":"stdout","time":"2026-11-25T23:18:15.123456789Z"}
 *
 * A line of more than LINE bytes comes in pieces, those before the last without "\n". Bytes that are no UTF-8 become
 * U+FFFD, as JSON has no others. Lines that come at once are written by one write(2), whole, so a reader finds none that is half
 * there; what cannot be written is kept back, with the container behind it, until it can be.
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

/* Open the newest file. What a killed monitor has left of a line there gets an end, so that it is one by itself. */
static int begin(struct log *l)
{
    struct stat status;
    char last = '\n';

    l->fd = openat(l->directory, "log", O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (l->fd < 0 || fstat(l->fd, &status) < 0)
        return -errno;
    l->size = (uint64_t)status.st_size;
    if (l->size && pread(l->fd, &last, 1, status.st_size - 1) == 1 && last != '\n' && write(l->fd, "\n", 1) == 1)
        l->size++;
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

/* Write the lines that wait, all of them or none. Returns 0 or -errno. */
static int flush(struct log *l)
{
    size_t done = 0;
    int error = l->fd < 0 ? begin(l) : 0;  /* where it could not be begun anew (rotate) */

    if (error) {
        l->waiting = 0;
        return error;
    }
    while (done < l->waiting) {
        ssize_t written = write(l->fd, l->out + done, l->waiting - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {  /* no half line stays */
            error = written < 0 ? errno : EIO;
            if (done && ftruncate(l->fd, (off_t)l->size) < 0)
                error = errno;
            l->waiting = 0;
            return -error;
        }
        done += (size_t)written;
    }
    l->size += done;
    l->waiting = 0;
    return 0;
}

/* Write the time of the next line: lines that came at once are a nanosecond apart, so that each has one of its own. */
static char *stamp(struct log *l, char *out)
{
    static time_t second;
    static char text[64];

    if (l->now.tv_nsec >= 1000000000) {
        l->now.tv_nsec -= 1000000000;
        l->now.tv_sec++;
    }
    if (l->now.tv_sec != second || !*text) {
        struct tm t;
        second = l->now.tv_sec;
        gmtime_r(&second, &t);
        strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S.", &t);
    }
    memcpy(out, text, 20);
    for (long i = 28, left = l->now.tv_nsec++; i >= 20; i--, left /= 10)
        out[i] = (char)('0' + left % 10);
    out[29] = 'Z';
    return out + 30;
}

/* Say whether what waits is to be written before more is put to it. */
static int is_full(const struct log *l)
{
    return (l->most && l->size + l->waiting >= l->most) || l->waiting + LOG_MOST > sizeof l->out;
}

/* Let one piece of a line wait to be written; there is room. */
static void put(struct log *l, int stream, const unsigned char *text, size_t n)
{
    static const char begin[] = "{\"log\":\"", out_end[] = "\",\"stream\":\"stdout\",\"time\":\"",
                      err_end[] = "\",\"stream\":\"stderr\",\"time\":\"";
    char *out = l->out + l->waiting, *from = out;

    out = mempcpy(out, begin, sizeof begin - 1);
    for (size_t i = 0; i < n;) {
        size_t plain = i;
        while (plain < n && text[plain] >= 0x20 && text[plain] < 0x7f && text[plain] != '"' && text[plain] != '\\')
            plain++;
        out = mempcpy(out, text + i, plain - i);
        if ((i = plain) == n)
            break;
        int length = utf8(text + i, n - i);
        if (length <= 0) {
            out = mempcpy(out, "\xef\xbf\xbd", 3);
            i++;
            continue;
        }
        out = quoted(out, text + i, length);
        i += (size_t)length;
    }
    out = mempcpy(out, stream == 2 ? err_end : out_end, sizeof out_end - 1);
    out = mempcpy(stamp(l, out), "\"}\n", 3);
    l->waiting += (size_t)(out - from);
}

/* What is known to be written: how much of what was offered, and the beginning of a line that was there then. */
struct mark { size_t taken; struct partial partial; };

static void set_mark(struct mark *mark, const struct partial *p, size_t taken)
{
    mark->taken = taken;
    mark->partial.used = p->used;
    memcpy(mark->partial.text, p->text, p->used);
}

int log_write(struct log *l, int stream, const char *data, size_t n)
{
    static struct mark mark;
    struct partial *p = &l->partial[stream == 2];
    const unsigned char *text = (const unsigned char *)data;
    size_t taken = 0;
    int error = 0;

    if (!l->opened)
        return (int)n;
    clock_gettime(CLOCK_REALTIME, &l->now);
    set_mark(&mark, p, 0);
    while (taken < n) {
        if (is_full(l)) {
            if ((error = flush(l)))
                break;
            set_mark(&mark, p, taken);
            if (l->most && l->size >= l->most)
                rotate(l);
        }
        size_t room = LOG_LINE - p->used, more = n - taken < room ? n - taken : room, keep = 0;
        const unsigned char *end = memchr(text + taken, '\n', more);
        size_t length = end ? (size_t)(end - (text + taken)) + 1 : more;

        if (end && !p->used) {  /* a whole line, as most are: from where it is */
            put(l, stream, text + taken, length);
            taken += length;
            continue;
        }
        memcpy(p->text + p->used, text + taken, length);
        p->used += length;
        taken += length;
        if (end || p->used == LOG_LINE) {
            size_t whole = p->used;
            while (!end && keep < 3 && keep + 1 < whole && utf8(p->text + whole - keep - 1, keep + 1) == 0)
                keep++;  /* a byte in the middle of a character, unless it is rubbish */
            keep = !end && utf8(p->text + whole - keep - 1, keep + 1) == -1 ? keep + 1 : 0;
            put(l, stream, p->text, whole - keep);
            memmove(p->text, p->text + whole - keep, keep);
            p->used = keep;
        }
    }
    if (!error && !(error = flush(l)))
        return (int)taken;
    memcpy(p->text, mark.partial.text, p->used = mark.partial.used);  /* as if what is not written had not been offered */
    return mark.taken ? (int)mark.taken : error;
}

void log_close(struct log *l)
{
    for (int stream = 1; l->opened && stream <= 2; stream++) {
        struct partial *p = &l->partial[stream == 2];
        clock_gettime(CLOCK_REALTIME, &l->now);
        if (p->used) {
            put(l, stream, p->text, p->used);
            flush(l);
        }
        p->used = 0;
    }
    if (l->opened)
        close(l->fd);
    l->opened = 0;
}
