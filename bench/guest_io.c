/* What bench/minivm_devices.py runs inside both machines: reads or writes a disk for some seconds, or prints.
 *
 *   guest_io disk DEVICE seq|rand read|write BLOCK SECONDS     prints megabytes a second and operations a second
 *   guest_io print SECONDS                                     prints lines of 64 bytes
 *
 * O_DIRECT, one request after the other: what the guest's page cache would hide is what is measured. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static int disk(char **words)
{
    int scattered = !strcmp(words[1], "rand"), writes = !strcmp(words[2], "write"), fd = open(words[0], O_RDWR | O_DIRECT);
    size_t block = atol(words[3]);
    double seconds = atof(words[4]), begin, took;
    off_t size = lseek(fd, 0, SEEK_END), at = 0;
    long count = 0;
    char *buffer = aligned_alloc(4096, block);

    if (fd < 0 || size < (off_t)block)
        return 1;
    memset(buffer, 'x', block);
    srandom(1);
    for (begin = now(); (took = now() - begin) < seconds; count++) {
        if ((writes ? pwrite(fd, buffer, block, at) : pread(fd, buffer, block, at)) != (ssize_t)block)
            return 1;
        at = scattered ? random() % (size / block) * block : at + 2 * block > (size_t)size ? 0 : at + block;
    }
    printf("%.2f %.1f\n", count * block / took / 1e6, count / took);
    return 0;
}

static int print(char **words)
{
    static char lines[4096];
    double seconds = atof(words[0]), begin = now();

    for (size_t i = 0; i < sizeof lines; i++)
        lines[i] = i % 64 == 63 ? '\n' : '.';
    while (now() - begin < seconds)
        if (write(1, lines, sizeof lines) < 0)
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 7 && !strcmp(argv[1], "disk"))
        return disk(argv + 2);
    return argc == 3 && !strcmp(argv[1], "print") ? print(argv + 2) : 2;
}
