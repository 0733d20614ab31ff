/* A packed virtqueue: one ring of descriptors that both sides write (VIRTIO 1.2, 2.8).
 *
 *   descriptor        16 bytes each      | address (8) | length (4) | id (2) | flags (2) |
 *       flags: as in a split queue, and 0x80 AVAIL, 0x8000 USED
 *   driver's and device's event structure, 4 bytes each
 *                                        | place (15 bits), round (1 bit) | flags (2): 0 tell me, 1 do not, 2 at place |
 *
 * Each side keeps a bit that changes with each round through the ring, first 1. A descriptor is available where AVAIL is
 * the driver's bit and USED is not; the device makes both its own bit to say that a buffer is used. A chain lies in
 * consecutive descriptors and its id is in the last; a used one takes a single descriptor, and as many places as the
 * chain had are skipped. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "virtio.h"

#define AVAIL 0x80
#define USED 0x8000
#define EVENT_DISABLE 1
#define EVENT_PLACE 2

/* queue_waiting of a packed queue. */
int packed_waiting(struct queue *queue)
{
    uint16_t flags = __atomic_load_n((uint16_t *)(queue->descriptors + 16 * queue->next_available + 14), __ATOMIC_ACQUIRE);

    return !!(flags & AVAIL) == queue->available_wrap && !!(flags & USED) != queue->available_wrap;
}

/* queue_ask of a packed queue. */
int packed_ask(struct queue *queue)
{
    uint16_t place = queue->next_available | queue->available_wrap << 15;

    if (packed_waiting(queue) || !queue->event_idx)
        return packed_waiting(queue);
    __atomic_store_n((uint16_t *)queue->device, place, __ATOMIC_RELEASE);
    __atomic_store_n((uint16_t *)(queue->device + 2), EVENT_PLACE, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return packed_waiting(queue);
}

/* Go on by so many places; at the end of the ring a new round begins. */
static void advance(struct queue *queue, uint16_t *place, uint8_t *wrap, uint16_t entries)
{
    *place += entries;
    if (*place >= queue->size) {
        *place -= queue->size;
        *wrap ^= 1;
    }
}

/* descriptor_read with id and flags at their places here. */
static struct descriptor read_packed(const uint8_t *table, uint32_t number)
{
    struct descriptor copy = descriptor_read(table, number);

    return (struct descriptor){copy.address, copy.length, .flags = copy.next, .next = copy.flags};
}

/* Add the parts of an indirect table: its descriptors one after the other (2.8.7). Returns 1 or -EPROTO. */
static int add_table(struct queue *queue, struct chain *chain, const struct descriptor *descriptor)
{
    const uint8_t *table = indirect_table(queue, descriptor);

    if (!table || descriptor->length / 16 > queue->size)
        return queue_broken(queue, "an indirect descriptor where none may be");
    for (uint32_t i = 0; i < descriptor->length / 16; i++) {
        struct descriptor part = read_packed(table, i);

        if (part.flags & DESCRIPTOR_INDIRECT)
            return queue_broken(queue, "an indirect descriptor where none may be");
        if (chain_add(queue, chain, &part) < 0)
            return -EPROTO;
    }
    return 1;
}

/* queue_pop of a packed queue. */
int packed_pop(struct queue *queue, struct chain *chain)
{
    uint16_t place = queue->next_available;

    if (!packed_ask(queue))
        return 0;
    for (uint16_t entries = 1; entries <= queue->size; entries++) {
        struct descriptor descriptor = read_packed(queue->descriptors, place);
        int result;

        if (descriptor.flags & DESCRIPTOR_INDIRECT)
            result = entries > 1 ? queue_broken(queue, "an indirect descriptor in a chain") : add_table(queue, chain, &descriptor);
        else
            result = chain_add(queue, chain, &descriptor);
        if (result < 0)
            return result;
        if (result || !(descriptor.flags & DESCRIPTOR_NEXT)) {
            chain->head = descriptor.next;
            chain->entries = entries;
            advance(queue, &queue->next_available, &queue->available_wrap, entries);
            return 1;
        }
        place = place + 1 == queue->size ? 0 : place + 1;
    }
    return queue_broken(queue, "a chain longer than its queue");
}

/* queue_stage of a packed queue: id and length, then the flags that make it valid. The flags of the first staged one are
 * kept back: the driver takes used descriptors in order, and so none before that one. */
void packed_stage(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written)
{
    uint8_t *entry = queue->descriptors + 16 * queue->next_used;
    uint16_t flags = (queue->used_wrap ? AVAIL | USED : 0) | (written ? DESCRIPTOR_WRITE : 0);

    memcpy(entry + 8, &written, 4);
    memcpy(entry + 12, &head, 2);
    if (!queue->staged++) {
        queue->first_place = queue->next_used;
        queue->first_flags = flags;
    } else {
        __atomic_store_n((uint16_t *)(entry + 14), flags, __ATOMIC_RELEASE);
    }
    advance(queue, &queue->next_used, &queue->used_wrap, entries);
    queue->untold += entries;
}

/* queue_publish of a packed queue. */
void packed_publish(struct queue *queue)
{
    if (queue->staged)
        __atomic_store_n((uint16_t *)(queue->descriptors + 16 * queue->first_place + 14), queue->first_flags, __ATOMIC_RELEASE);
    queue->staged = 0;
}

/* queue_wants_interrupt of a packed queue. The fence was the caller's. */
int packed_wants_interrupt(struct queue *queue)
{
    uint16_t flags = __atomic_load_n((uint16_t *)(queue->driver + 2), __ATOMIC_ACQUIRE);
    uint16_t place = __atomic_load_n((uint16_t *)queue->driver, __ATOMIC_ACQUIRE), untold = queue->untold, event;

    queue->untold = 0;
    if (flags == EVENT_DISABLE)
        return 0;
    if (flags != EVENT_PLACE || !queue->event_idx)
        return 1;
    event = place & 0x7fff;
    if (place >> 15 != queue->used_wrap)
        event -= queue->size; /* a place of the round before */
    return (uint16_t)(queue->next_used - event - 1) < untold;
}
