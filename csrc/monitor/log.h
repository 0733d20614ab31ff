/* A container's log: see log.c. */
#ifndef MINIRT_LOG_H
#define MINIRT_LOG_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define LOG_LINE 16384  /* bytes of a line in one object, as Docker's */
#define LOG_MOST (6 * LOG_LINE + 128)  /* bytes of an object: each byte of its line may become six (\u0000) */

struct log {
    int opened;             /* else nothing is logged */
    int directory, fd;
    uint64_t size, most;    /* bytes in this file, and in any (0: any number) */
    unsigned files;
    struct timespec now;    /* of the next line */
    size_t waiting;         /* bytes of whole objects that are still to be written */
    char out[LOG_MOST + 65536];
    struct partial { size_t used; unsigned char text[LOG_LINE]; } partial[2];  /* the beginning of a line, of each stream */
};

/* Begin, or go on with, the log in a directory, which is the caller's. Returns 0 or -errno. */
int log_open(struct log *l, int directory, uint64_t most, unsigned files);
/* Take what the program wrote. Returns how much was taken, or -errno (ENOSPC): then offer it again. */
int log_write(struct log *l, int stream, const char *data, size_t n);
/* Write what is left of lines without an end. */
void log_close(struct log *l);

#endif
