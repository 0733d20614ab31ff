/* Guest memory: ordinary pages of this process, which KVM shows to the guest as its RAM. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "kvm.h"

#define LARGE_PAGE (2UL << 20)
#define LARGE_GUEST (128UL << 20) /* from here on memory comes in large pages, where the host has them */

/* Map `size` bytes (a multiple of the page size) of zeroed memory; the caller owns *memory and gives
 * it back to memory_destroy. No page exists until the guest or we touch it, hence NORESERVE: a guest
 * of 1 GiB that uses 10 MiB costs 10 MiB. It begins at a multiple of 2 MiB, as guest-physical memory does, so that
 * one entry of the second level's page tables can map a large page of the host (man 2 madvise, MADV_HUGEPAGE): a first
 * touch then costs once what it else costs 512 times. With `fd`, a memfd of that size, its pages are the memory, and who
 * else maps it shares them; -1 is memory of this process alone. Returns 0 or -errno. man 2 mmap. */
int memory_create(uint64_t size, int fd, uint8_t **memory)
{
    uint8_t *pages = mmap(NULL, size + LARGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    uint64_t before;

    if (pages == MAP_FAILED)
        return -errno;
    before = -(uintptr_t)pages & (LARGE_PAGE - 1);
    if (before)
        munmap(pages, before);
    if (before < LARGE_PAGE)
        munmap(pages + before + size, LARGE_PAGE - before);
    if (fd >= 0 && mmap(pages + before, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
        int error = -errno;

        munmap(pages + before, size);
        return error;
    }
    if (size >= LARGE_GUEST)
        madvise(pages + before, size, MADV_HUGEPAGE); /* refused where the host has none: no harm */
    *memory = pages + before;
    return 0;
}

/* Put a file's bytes in place of `length` bytes (a multiple of the page size) of memory that memory_create mapped,
 * without copying: a page is read when it is touched, and copied when it is written to, for this process alone.
 * memory_destroy unmaps them with the rest. Returns 0 or -errno. man 2 mmap, MAP_FIXED. */
int memory_map_file(uint8_t *where, uint64_t length, int fd, uint64_t offset)
{
    int flags = MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE;

    return mmap(where, length, PROT_READ | PROT_WRITE, flags, fd, (off_t)offset) == MAP_FAILED ? -errno : 0;
}

/* Unmap what memory_create mapped. The guest must not run any more. Returns 0 or -errno. man 2 munmap. */
int memory_destroy(uint8_t *memory, uint64_t size)
{
    return munmap(memory, size) < 0 ? -errno : 0;
}
