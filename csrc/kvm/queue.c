/* Virtqueues: the split one is here, the packed one in packed.c (VIRTIO 1.2, 2.7 and 2.8).
 *
 * A split virtqueue is three tables in the guest's memory:
 *
 *   descriptor table  16 bytes each      | address (8) | length (4) | flags (2) | next (2) |
 *       flags: 1 NEXT: goes on at `next`; 2 WRITE: for the device to write; 4 INDIRECT: the buffer is itself such a table
 *   available ring    the driver writes  | flags (2) | idx (2) | ring: numbers of first descriptors, 2 bytes each |
 *                                        | used_event (2) |
 *   used ring         the device writes  | flags (2) | idx (2) | ring: first descriptor (4), bytes written (4) |
 *                                        | avail_event (2) |
 *
 * Both idx count up for ever, modulo 65536; an entry's place is its number modulo the queue's size. A buffer is a chain
 * of descriptors: those to read first, then those to write. With VIRTIO_F_EVENT_IDX each side says at which idx it
 * wants to hear of the next: used_event (tell me when used idx passes this) and avail_event (2.7.10).
 *
 * Order between processors: an idx is read with acquire and written with release; where a store must be seen before a
 * later load (has the other side moved on?) x86 needs a fence as every machine does. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "virtio.h"

#define NO_INTERRUPT 1            /* flag of the available ring: the driver polls */
#define CHAIN_BYTES (1ULL << 32)  /* of all parts of a chain together (2.7.4.1: a driver must not exceed it) */

static uint16_t load16(const uint8_t *at)
{
    return __atomic_load_n((const uint16_t *)at, __ATOMIC_ACQUIRE);
}

static void store16(uint8_t *at, uint16_t value)
{
    __atomic_store_n((uint16_t *)at, value, __ATOMIC_RELEASE);
}

/* Make a queue of tables at guest-physical addresses. The caller owns *queue and gives it back to queue_destroy; `ram`
 * is borrowed. Returns 0, -EINVAL where size or addresses break the rules, or -ENOMEM. VIRTIO 1.2, 2.7 and 2.8.10. */
int queue_create(const struct ram *ram, uint32_t size, int packed, int event_idx, int indirect, uint64_t descriptors,
                 uint64_t driver, uint64_t device, struct queue **queue)
{
    struct queue *new;

    if (!size || size > QUEUE_LARGEST || (!packed && size & (size - 1)))
        return -EINVAL;
    if (descriptors % 16 || driver % (packed ? 4 : 2) || device % 4)
        return -EINVAL;
    if (!(new = calloc(1, sizeof *new)))
        return -ENOMEM;
    *new = (struct queue){.ram = ram, .size = size, .packed = packed, .event_idx = event_idx, .indirect = indirect,
                          .available_wrap = 1, .used_wrap = 1};
    new->descriptors = ram_at(ram, descriptors, 16 * size);
    new->driver = ram_at(ram, driver, packed ? 4 : 6 + 2 * size);
    new->device = ram_at(ram, device, packed ? 4 : 6 + 8 * size);
    if (!new->descriptors || !new->driver || !new->device) {
        free(new);
        return -EINVAL;
    }
    *queue = new;
    return 0;
}

void queue_destroy(struct queue *queue)
{
    free(queue);
}

/* Note which rule the driver broke. Returns -EPROTO. */
int queue_broken(struct queue *queue, const char *why)
{
    queue->why = why;
    return -EPROTO;
}

/* Copy a descriptor out of the guest's memory, once: what is checked is what is used. A table may lie at any address. */
struct descriptor descriptor_read(const uint8_t *table, uint32_t number)
{
    struct descriptor copy;

    memcpy(&copy, table + 16 * (size_t)number, 16);
    __asm__ volatile("" ::: "memory"); /* or else the compiler might read a field of it there again */
    return copy;
}

/* Add the part that a descriptor names. Returns 0 or -EPROTO. */
int chain_add(struct queue *queue, struct chain *chain, const struct descriptor *descriptor)
{
    int write = descriptor->flags & DESCRIPTOR_WRITE;
    uint8_t *at = ram_at(queue->ram, descriptor->address, descriptor->length);
    uint32_t count = chain->readable + chain->writable;

    if (!at)
        return queue_broken(queue, "a buffer that is not all in memory");
    if (chain->writable && !write)
        return queue_broken(queue, "a descriptor to read comes after one to write");
    if (count == QUEUE_LARGEST)
        return queue_broken(queue, "a buffer of too many parts");
    if (chain->readable_bytes + chain->writable_bytes + descriptor->length > CHAIN_BYTES)
        return queue_broken(queue, "a buffer of more than 4 GiB");
    if (!descriptor->length)
        return 0;
    chain->parts[count] = (struct iovec){at, descriptor->length};
    *(write ? &chain->writable : &chain->readable) += 1;
    *(write ? &chain->writable_bytes : &chain->readable_bytes) += descriptor->length;
    return 0;
}

/* Return the table that a descriptor points to, or NULL where it may not (2.7.5.3.1, 2.8.7). */
uint8_t *indirect_table(struct queue *queue, const struct descriptor *descriptor)
{
    if (!queue->indirect || descriptor->flags & DESCRIPTOR_NEXT || !descriptor->length || descriptor->length % 16)
        return NULL;
    return ram_at(queue->ram, descriptor->address, descriptor->length);
}

/* Walk the descriptors of a chain. Returns 1 or -EPROTO. */
static int walk(struct queue *queue, uint16_t head, struct chain *chain)
{
    const uint8_t *table = queue->descriptors;
    uint32_t entries = queue->size, number = head;
    int nested = 0; /* not told by the table's address: a guest may point an indirect descriptor at the queue's own table */

    for (uint32_t steps = 0; steps < queue->size; steps++) {
        struct descriptor descriptor;

        if (number >= entries)
            return queue_broken(queue, "a descriptor that is not in its table");
        descriptor = descriptor_read(table, number);
        if (descriptor.flags & DESCRIPTOR_INDIRECT) {
            if (nested++ || !(table = indirect_table(queue, &descriptor)))
                return queue_broken(queue, "an indirect descriptor where none may be");
            entries = descriptor.length / 16;
            number = 0;
            steps = (uint32_t)-1; /* the chain is counted in the table: the loop makes 0 of it */
            continue;
        }
        if (chain_add(queue, chain, &descriptor) < 0)
            return -EPROTO;
        if (!(descriptor.flags & DESCRIPTOR_NEXT))
            return 1;
        number = descriptor.next;
    }
    return queue_broken(queue, "a chain longer than its queue, or a circle");
}

/* Return how many buffers the driver has made available and we have not taken. Where there are none, ask to be told of
 * the next, and look again: the driver may have added it before it could see that we ask. */
static uint16_t available(struct queue *queue)
{
    uint16_t waiting = load16(queue->driver + 2) - queue->next_available;

    if (!waiting && queue->event_idx) {
        store16(queue->device + 4 + 8 * queue->size, queue->next_available);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        waiting = load16(queue->driver + 2) - queue->next_available;
    }
    return waiting;
}

/* Say whether there is a buffer to take, without taking it or asking to be told. */
int queue_waiting(struct queue *queue)
{
    return queue->packed ? packed_waiting(queue) : load16(queue->driver + 2) != queue->next_available;
}

/* The same, asking to be told where there is none. */
int queue_ask(struct queue *queue)
{
    return queue->packed ? packed_ask(queue) : available(queue) != 0;
}

/* Take the next buffer. Returns 1 with *chain filled in, 0 where the driver has made none available (it will notify us
 * of the next), or -EPROTO where it broke a rule: queue->why says which. */
int queue_pop(struct queue *queue, struct chain *chain)
{
    uint16_t waiting, head;

    chain->readable = chain->writable = 0;
    chain->readable_bytes = chain->writable_bytes = 0;
    chain->entries = 1;
    if (queue->packed)
        return packed_pop(queue, chain);
    waiting = available(queue);
    if (!waiting)
        return 0;
    if (waiting > queue->size)
        return queue_broken(queue, "more buffers are available than the queue holds");
    head = chain->head = load16(queue->driver + 4 + 2 * (queue->next_available % queue->size));
    queue->next_available++;
    return walk(queue, head, chain);
}

/* Give a buffer back, with so many bytes written to it; the driver sees it, and all others of before, at the next
 * queue_publish. (A packet in several buffers must appear all at once, 5.1.6.4.) */
void queue_stage(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written)
{
    uint8_t *entry = queue->device + 4 + 8 * (queue->next_used % queue->size);
    uint32_t used[2] = {head, written};

    if (queue->packed) {
        packed_stage(queue, head, entries, written);
        return;
    }
    memcpy(entry, used, sizeof used);
    queue->next_used++;
    queue->untold++;
}

/* Let the driver see what was staged: after the entries, so that it may look at them now. */
void queue_publish(struct queue *queue)
{
    if (queue->packed)
        packed_publish(queue);
    else
        store16(queue->device + 2, queue->next_used);
}

/* Give one buffer back to the driver. */
void queue_push(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written)
{
    queue_stage(queue, head, entries, written);
    queue_publish(queue);
}

/* Say whether the driver wants to hear of what was pushed since this was last asked. */
int queue_wants_interrupt(struct queue *queue)
{
    uint16_t untold = queue->untold, event;

    if (!untold)
        return 0;
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the driver must see used idx before we look whether it still cares */
    if (queue->packed)
        return packed_wants_interrupt(queue);
    queue->untold = 0;
    if (!queue->event_idx)
        return !(load16(queue->driver) & NO_INTERRUPT);
    event = load16(queue->driver + 4 + 2 * queue->size);
    /* used idx has passed used_event since then, modulo 65536 (2.7.10.1: vring_need_event) */
    return (uint16_t)(queue->next_used - event - 1) < untold;
}
