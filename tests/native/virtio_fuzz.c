/* A guest that means harm, at the data path of the virtio devices itself: built with ASan and UBSan by
 * tests/unit/test_minivm_native.py, which gives a seed and a number of rounds.
 *
 * Each round makes a device with queues in a small memory (from malloc, so that the sanitiser sees the first byte outside
 * of it), fills the memory with descriptors and requests that are mostly right, and goes on changing it while the path's
 * thread works. A path that does not stop when it is told to is ended by SIGALRM: it spun or hung. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "virtio.h"

#define RAM (48u << 10)
#define HIGH (1ULL << 32) /* a second slot, behind a hole */
#define HIGH_RAM (8u << 10)
#define DISK (64u << 10)
#define QUEUES 6

static uint64_t state;

static uint32_t rnd(uint32_t below)
{
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (state >> 33) % below;
}

static uint64_t address(void)
{
    static const uint64_t evil[] = {UINT64_MAX, UINT64_MAX - 15, RAM, RAM - 1, 1ULL << 63, 0, HIGH - 1, HIGH + HIGH_RAM - 1,
                                    HIGH + HIGH_RAM};

    if (!rnd(30))
        return evil[rnd(9)];
    return rnd(8) ? rnd(RAM) : HIGH + rnd(HIGH_RAM);
}

static uint32_t length(void)
{
    static const uint32_t evil[] = {0, 1, UINT32_MAX, RAM, 1u << 31, 16};
    static const uint32_t good[] = {1, 12, 16, 17, 512, 513, 1024, 1526, 4096};

    return rnd(20) ? good[rnd(9)] : evil[rnd(6)];
}

/* A descriptor of either kind of queue, anywhere. */
static void descriptor(uint8_t *at, int packed, uint16_t size)
{
    uint16_t flags = (rnd(3) ? 0 : DESCRIPTOR_NEXT) | (rnd(2) ? DESCRIPTOR_WRITE : 0) | (rnd(12) ? 0 : DESCRIPTOR_INDIRECT);
    uint16_t other = rnd(10) ? rnd(size) : rnd(65536);
    uint64_t where = address();
    uint32_t bytes = length();

    if (packed)
        flags |= rnd(5) ? 0x80 : rnd(2) ? 0x8000 : 0x8080;
    memcpy(at, &where, 8);
    memcpy(at + 8, &bytes, 4);
    memcpy(at + 12, packed ? &other : &flags, 2);
    memcpy(at + 14, packed ? &flags : &other, 2);
}

/* A request of virtio-blk: what a buffer to read may begin with. */
static void request(uint8_t *at)
{
    static const uint32_t types[] = {0, 1, 4, 8, 11, 13, 99};
    uint32_t type = types[rnd(7)], count = rnd(4);
    uint64_t sector = rnd(10) ? rnd(DISK / 512) : UINT64_MAX - rnd(3);

    memcpy(at, &type, 4);
    memcpy(at + 8, &sector, 8);
    memcpy(at + 16, &sector, 8);
    memcpy(at + 24, &count, 4);
    memset(at + 28, 0, 4);
}

static void mutate(uint8_t *ram, int packed, uint16_t size)
{
    switch (rnd(6)) {
    case 0:
    case 1:
        descriptor(ram + rnd(RAM / 16) * 16, packed, size);
        break;
    case 2:
        request(ram + rnd(RAM - 64));
        break;
    case 3: /* the place of an idx or an event, of any queue */
        *(volatile uint16_t *)(ram + rnd(QUEUES) * 0x1000 + 0x800 + 2 * rnd(2)) += rnd(4);
        break;
    case 4:
        ram[rnd(RAM)] = rnd(256);
        break;
    default:
        descriptor(ram + rnd(QUEUES) * 0x1000 + rnd(size) * 16, packed, size);
    }
}

/* Make a buffer available as the specification has it, of up to three parts; what is in them is anybody's guess. */
static void offer(uint8_t *ram, uint32_t number, int packed, uint16_t size, uint32_t *place, uint16_t *given)
{
    uint8_t *table = ram + number * 0x1000, *ring = table + 0x800;
    uint16_t parts = 1 + rnd(3), readable = rnd(parts + 1u), head = *place % size;

    for (uint16_t i = 0; i < parts && parts <= size; i++, ++*place) {
        uint16_t at = *place % size, flags = (i + 1 < parts ? DESCRIPTOR_NEXT : 0) | (i < readable ? 0 : DESCRIPTOR_WRITE);
        uint16_t turn = *place / size % 2 ? 0x8000 : 0x80, next = (at + 1) % size;
        uint32_t bytes = i ? length() : 16 + rnd(64);
        uint64_t where = i ? address() : 0x6000 + rnd(RAM - 0x7000);

        if (!i && rnd(2))
            request(ram + where);
        memcpy(table + 16 * at, &where, 8);
        memcpy(table + 16 * at + 8, &bytes, 4);
        memcpy(table + 16 * at + 12, packed ? &number : (void *)&flags, 2);
        flags |= packed ? turn : 0;
        memcpy(table + 16 * at + 14, packed ? &flags : &next, 2);
    }
    if (packed)
        return;
    memcpy(ring + 4 + 2 * (*given % size), &head, 2);
    ++*given;
    __atomic_store_n((uint16_t *)(ring + 2), *given, __ATOMIC_RELEASE);
}

static void *serve(void *path)
{
    int result;

    while ((result = path_run(path)) != 0)
        if (result > 0)
            path_looked(path);
    return NULL;
}

static int queues_of(int kind)
{
    return kind < 2 ? 1 : kind < 4 ? 2 : 6;
}

int main(int argc, char **argv)
{
    long rounds = argc > 2 ? atol(argv[2]) : 100;
    int disk = memfd_create("disk", MFD_CLOEXEC), upper = memfd_create("upper", MFD_CLOEXEC);
    uint64_t served = 0;

    state = argc > 1 ? strtoull(argv[1], NULL, 0) : 1;
    if (ftruncate(disk, DISK) < 0 || ftruncate(upper, 8192 + DISK) < 0)
        return 2;
    for (long round = 0; round < rounds; round++) {
        int kind = rnd(5), packed = rnd(2), event = rnd(2), indirect = rnd(4) != 0, pair[2];
        uint16_t size = packed ? 1 + rnd(64) : 1u << (2 + rnd(5));
        uint8_t *memory = malloc(RAM + 16), *ram = memory + (16 - (uintptr_t)memory % 16) % 16, *registers = calloc(1, 4096);
        uint8_t *high = calloc(1, HIGH_RAM);
        struct ram map = {2, {{0, RAM, ram}, {HIGH, HIGH_RAM, high}}};
        struct queue *queues[QUEUES] = {0};
        uint32_t places[QUEUES] = {0};
        uint16_t given[QUEUES] = {0};
        struct overlay *overlay = NULL;
        struct path *path;
        pthread_t thread;

        if (socketpair(AF_UNIX, (kind == 2 ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) < 0)
            return 2;
        memset(ram, 0, RAM);
        for (int i = 0; i < 2000; i++)
            mutate(ram, packed, size);
        if (kind == 1 && overlay_create(upper, disk, DISK, 4096, 8192, &overlay) < 0)
            return 2;
        path = kind < 2    ? blk_create(registers, -1, disk, DISK, rnd(8) == 0, "fuzz", overlay)
               : kind < 4  ? net_create(registers, -1, pair[0], kind == 3)
                           : console_create(registers, -1, 2);
        if (!path)
            return 2;
        if (kind == 2 || kind == 3)
            net_agree(path, rnd(2), rnd(2) ? 12 : 10, rnd(2) ? 65566 : 1530);
        if (kind < 2)
            blk_agree(path, rnd(2));
        if (kind < 2 && rnd(2))
            blk_limit(path, rnd(4096), 1 + rnd(1u << 30), rnd(3), 1 + rnd(1u << 30));
        if (kind / 2 == 1 && rnd(2))
            net_limit(path, rnd(4096), 1 + rnd(1u << 30), rnd(4096), 1 + rnd(1u << 30));
        if (kind == 4) {
            console_join(path, 0, pair[0], pair[0], 1);
            console_open(path, 0, 1);
            console_open(path, 1, 1);
        }
        alarm(20);
        pthread_create(&thread, NULL, serve, path);
        for (int step = 0; step < 60; step++) {
            int number = rnd(queues_of(kind));
            char bytes[3000];

            if (!queues[number]) {
                memset(ram + number * 0x1000, 0, 0xc00); /* a new queue begins at 0; else it would break a rule at once */
                places[number] = given[number] = 0;
            }
            if (!queues[number] && queue_create(&map, size, packed, event, indirect, number * 0x1000u, number * 0x1000u + 0x800,
                                                number * 0x1000u + 0xc00, &queues[number]) == 0)
                path_give(path, number, queues[number]);
            for (int i = rnd(2) ? 0 : rnd(60); i; i--)
                mutate(ram, packed, size);
            for (int i = rnd(4); i; i--)
                offer(ram, number, packed, size, &places[number], &given[number]);
            (rnd(2) ? path_poke : path_prompt)(path, number);
            if (rnd(3) == 0) {
                uint32_t count = rnd(sizeof bytes);

                memset(bytes, rnd(256), sizeof bytes);
                if (rnd(2))
                    memcpy(bytes, (uint8_t[]){0, 0, rnd(12), rnd(256)}, 4);
                if (send(pair[1], bytes, count, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 || recv(pair[1], bytes, sizeof bytes, 0) < 0)
                    sched_yield();
            }
            if (kind == 4 && rnd(10) == 0) { /* the host's end leaves, and comes back */
                console_part(path, 0);
                console_join(path, 0, pair[0], pair[0], 1);
                console_open(path, 0, rnd(3) != 0);
            }
            if (rnd(10) == 0) { /* a reset, or an error that Python answers with one */
                path_give(path, number, NULL);
                queue_destroy(queues[number]);
                queues[number] = NULL;
            }
        }
        path_stop(path);
        pthread_join(thread, NULL);
        alarm(0);
        served += path->chains;
        path_destroy(path);
        for (int i = 0; i < QUEUES; i++)
            queue_destroy(queues[i]);
        if (overlay)
            overlay_destroy(overlay);
        close(pair[0]);
        close(pair[1]);
        free(registers);
        free(memory);
        free(high);
        if (lseek(disk, 0, SEEK_END) != DISK || lseek(upper, 0, SEEK_END) != 8192 + DISK) {
            puts("a file has another size than before");
            return 1;
        }
    }
    printf("%lu buffers served\n", served);
    return served ? 0 : 1;
}
