/* The data path of the virtio devices: what moves bytes between the guest's buffers and the host's files.
 *
 * Python decides everything (features, registers, configuration, what to do about errors) and gives a queue to a
 * `path` once the driver is ready. A thread inside path_run then takes batches of buffers from the queues and gives
 * them back, with the GIL released, until there is something that only Python can handle.
 *
 * Everything in guest memory may change under our hands, by a guest that means harm: each field is read once into a
 * local copy, each address is checked by ram_at, and what breaks a rule ends the queue (-EPROTO) until the driver
 * resets the device.
 *
 * Read in this order: ram.c, queue.c, packed.c, path.c, io.c, blk.c,
 * net.c, console.c. Functions return 0 (or what they name) or -errno. */
#ifndef MINIVM_VIRTIO_H
#define MINIVM_VIRTIO_H

#include <pthread.h>
#include <stdint.h>
#include <sys/uio.h>

/* ram.c: guest-physical addresses */

#define RAM_SLOTS 4

struct ram_slot {
    uint64_t base, size; /* guest-physical, bytes */
    uint8_t *host;       /* the same in this process; borrowed */
};
struct ram {
    uint32_t count;
    struct ram_slot slots[RAM_SLOTS];
};

uint8_t *ram_at(const struct ram *ram, uint64_t address, uint64_t length);
uint64_t ram_drop(uint8_t *at, uint64_t length);

/* queue.c and packed.c: virtqueues (VIRTIO 1.2, 2.7 and 2.8) */

#define QUEUE_LARGEST 1024 /* entries; also the most parts of a buffer, and IOV_MAX of man 2 readv */

struct queue {
    const struct ram *ram;    /* borrowed */
    uint16_t size;            /* entries */
    uint8_t packed, event_idx, indirect; /* features that were agreed on */
    uint8_t available_wrap, used_wrap;   /* packed: 1 on odd rounds */
    uint8_t *descriptors, *driver, *device; /* the three areas, in this process */
    uint16_t next_available, next_used;  /* split: count modulo 65536; packed: places in the ring */
    uint16_t untold;          /* entries used since the driver was last looked after */
    uint16_t staged, first_place, first_flags; /* packed: used descriptors that the driver is not to see yet */
    const char *why;          /* what rule was broken */
};

/* One buffer of the driver: first what the device may read, then what it may write. */
struct chain {
    uint16_t head;            /* split: number of its first descriptor; packed: its id */
    uint16_t entries;         /* packed: how many places of the ring it takes */
    uint32_t readable, writable; /* how many parts */
    uint64_t readable_bytes, writable_bytes;
    struct iovec parts[QUEUE_LARGEST];
};

/* A descriptor as both kinds of queue have it, in our own memory. */
struct descriptor {
    uint64_t address;
    uint32_t length;
    uint16_t flags, next;     /* next: in a packed queue the id */
};

#define DESCRIPTOR_NEXT 1
#define DESCRIPTOR_WRITE 2
#define DESCRIPTOR_INDIRECT 4

int queue_create(const struct ram *ram, uint32_t size, int packed, int event_idx, int indirect, uint64_t descriptors,
                 uint64_t driver, uint64_t device, struct queue **queue);
void queue_destroy(struct queue *queue);
int queue_waiting(struct queue *queue);
int queue_ask(struct queue *queue);
int queue_pop(struct queue *queue, struct chain *chain);
void queue_stage(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written);
void queue_publish(struct queue *queue);
void queue_push(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written);
int queue_wants_interrupt(struct queue *queue);

/* for packed.c */
int queue_broken(struct queue *queue, const char *why);
int chain_add(struct queue *queue, struct chain *chain, const struct descriptor *descriptor);
struct descriptor descriptor_read(const uint8_t *table, uint32_t number);
uint8_t *indirect_table(struct queue *queue, const struct descriptor *descriptor);
int packed_waiting(struct queue *queue);
int packed_ask(struct queue *queue);
int packed_pop(struct queue *queue, struct chain *chain);
void packed_stage(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written);
void packed_publish(struct queue *queue);
int packed_wants_interrupt(struct queue *queue);

/* path.c: a thread that serves queues */

#define PATH_QUEUES 34

struct path {
    int (*serve)(struct path *path, uint32_t source); /* 0, or -EPROTO: the driver broke a rule */
    void (*destroy)(struct path *path);               /* frees what the device has beside this; may be NULL */
    void (*forget)(struct path *path, uint32_t number); /* a queue goes: drop what was taken from it; may be NULL */
    pthread_mutex_t lock;      /* held while queues are looked at */
    uint32_t waiting;          /* how many threads want the lock: between two buffers they get it */
    uint32_t stopping;
    struct queue *queues[PATH_QUEUES]; /* borrowed; NULL while not in use */
    uint64_t again;            /* sources to serve once more without waiting, one bit each */
    uint64_t later;            /* sources to serve at `deadline` */
    uint64_t deadline;         /* CLOCK_MONOTONIC, ns */
    int broken;                /* path_prompt met with -EPROTO: path_run is to return it */
    uint64_t look;             /* sources that Python is to look at */
    int epoll, wake;           /* owned */
    int interrupt;             /* borrowed: an eventfd that KVM makes an interrupt of, or -1 */
    uint8_t *registers;        /* borrowed: the device's page of registers */
    uint64_t chains, bytes, interrupts, wakes; /* for the counts */
};

#define SOURCE_FD 40 /* sources below are the queues; from here on the device's own descriptors, up to 63 */

int path_begin(struct path *path, uint8_t *registers, int interrupt);
void path_destroy(struct path *path);
int path_kick(struct path *path, uint32_t number, int fd);
int path_watch(struct path *path, uint32_t source, int fd, uint32_t events);
void path_give(struct path *path, uint32_t number, struct queue *queue);
void path_poke(struct path *path, uint32_t source);
void path_prompt(struct path *path, uint32_t source);
int path_run(struct path *path);
uint64_t path_looked(struct path *path);
void path_stop(struct path *path);
struct queue *path_next(struct path *path, uint32_t number);
void path_tell(struct path *path, struct queue *queue);
void path_again(struct path *path, uint32_t source);
void path_later(struct path *path, uint32_t source, uint64_t ns);
uint64_t path_now(void);
void registers_interrupt(uint8_t *registers, int fd, uint32_t bits);
void registers_acknowledge(uint8_t *registers, uint32_t bits);
void registers_always(uint8_t *registers);

/* io.c: parts of a buffer */

/* What is left of a list of parts; the parts themselves are shortened as it goes. */
struct cursor {
    struct iovec *parts;
    uint32_t count;
};

void cursor_skip(struct cursor *cursor, uint64_t length);
uint64_t cursor_take(struct cursor *cursor, void *data, uint64_t length);
uint64_t cursor_put(struct cursor *cursor, const void *data, uint64_t length);
int cursor_transfer(struct cursor *cursor, int fd, int write, uint64_t offset, uint64_t length);

/* bucket.c: rate limits */

struct bucket {
    uint64_t size;   /* tokens when full; 0: no limit */
    uint64_t refill; /* ns from empty to full */
    int64_t tokens;  /* below 0: in debt */
    uint64_t last;   /* when tokens were last added, ns */
};

void bucket_set(struct bucket *bucket, uint64_t size, uint64_t refill);
uint64_t bucket_wait(struct bucket *bucket, uint64_t now);
void bucket_spend(struct bucket *bucket, uint64_t tokens);

/* overlay.c: what a guest wrote over a file that stays as it is */

struct overlay;

int overlay_create(int fd, int base, uint64_t size, uint64_t bitmap, uint64_t data, struct overlay **overlay);
int overlay_destroy(struct overlay *overlay);
int overlay_read(struct overlay *overlay, struct cursor *cursor, uint64_t offset, uint64_t length);
int overlay_write(struct overlay *overlay, struct cursor *cursor, uint64_t offset, uint64_t length);
int overlay_clear(struct overlay *overlay, uint64_t offset, uint64_t length, int exactly);
int overlay_flush(struct overlay *overlay);

/* blk.c */

struct path *blk_create(uint8_t *registers, int interrupt, int fd, uint64_t size, int read_only, const char *serial,
                        struct overlay *overlay);
void blk_agree(struct path *path, int write_through);
void blk_limit(struct path *path, uint64_t bytes, uint64_t bytes_refill, uint64_t requests, uint64_t requests_refill);

/* net.c */

struct path *net_create(uint8_t *registers, int interrupt, int fd, int stream);
void net_agree(struct path *path, int mergeable, uint32_t header, uint32_t largest);
void net_limit(struct path *path, uint64_t in, uint64_t in_refill, uint64_t out, uint64_t out_refill);

/* console.c */

#define CONSOLE_PORTS 7

struct path *console_create(uint8_t *registers, int interrupt, uint32_t count);
int console_join(struct path *path, uint32_t number, int in, int out, int socket);
void console_part(struct path *path, uint32_t number);
int console_listen(struct path *path, uint32_t number, int fd);
void console_open(struct path *path, uint32_t number, int open);
int console_gone(struct path *path, uint32_t number);
int console_pending(struct path *path);
void console_want_room(struct path *path, uint32_t number);

#endif
