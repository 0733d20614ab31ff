/* Guest memory: ordinary anonymous pages of this process, which KVM shows to the guest as its RAM. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "kvm.h"

/* Map `size` bytes (a multiple of the page size) of zeroed memory; the caller owns *memory and gives
 * it back to memory_destroy. No page exists until the guest or we touch it, hence NORESERVE: a guest
 * of 1 GiB that uses 10 MiB costs 10 MiB. Returns 0 or -errno. man 2 mmap. */
int memory_create(uint64_t size, uint8_t **memory)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (pages == MAP_FAILED)
        return -errno;
    *memory = pages;
    return 0;
}

/* Unmap what memory_create mapped. The guest must not run any more. Returns 0 or -errno. man 2 munmap. */
int memory_destroy(uint8_t *memory, uint64_t size)
{
    return munmap(memory, size) < 0 ? -errno : 0;
}
