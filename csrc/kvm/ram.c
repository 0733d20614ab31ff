/* Guest-physical addresses to addresses of this process: the one place where a guest's number becomes a pointer. */
#include <stddef.h>

#include "virtio.h"

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
