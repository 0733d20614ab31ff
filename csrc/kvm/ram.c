/* Guest-physical addresses to addresses of this process: the one place where a guest's number becomes a pointer. */
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>

#include "virtio.h"

#define PAGE 4096

/* Return where `length` bytes at a guest-physical address lie, or NULL where they do not all lie in one slot of RAM.
 * Written so that no sum can overflow: a guest may say 2^64 - 1. Borrowed; valid as long as the machine's memory. */
uint8_t *ram_at(const struct ram *ram, uint64_t address, uint64_t length)
{
    for (uint32_t i = 0; i < ram->count && i < RAM_SLOTS; i++) {
        const struct ram_slot *slot = &ram->slots[i];
        uint64_t offset = address - slot->base;

        if (address >= slot->base && offset < slot->size && length <= slot->size - offset)
            return slot->host + offset;
    }
    return NULL;
}

/* Give the whole pages of a part of the guest's memory back to the host: they cost nothing until they are touched again, and
 * are zeroes then. `at` and `length` are those of a part, or of ram_at. Memory that is shared (a memfd) has its pages in a
 * file, from which they must be cut; MADV_REMOVE does that, and says EINVAL of memory without a file, and EACCES of a file
 * that we may only read: there it is enough to forget our own pages. Returns the bytes that went. man 2 madvise. */
uint64_t ram_drop(uint8_t *at, uint64_t length)
{
    uint8_t *first = (uint8_t *)(((uintptr_t)at + PAGE - 1) / PAGE * PAGE);
    uint8_t *end = (uint8_t *)(((uintptr_t)at + length) / PAGE * PAGE);

    if (first >= end)
        return 0;
    if (madvise(first, end - first, MADV_REMOVE) < 0 && madvise(first, end - first, MADV_DONTNEED) < 0)
        return 0;
    return end - first;
}
