/* What ring 3 may touch. minivm's boot tables map memory with 2 MiB pages for ring 0 alone; the kernel opens
 * the pages of the tasks by setting the user bit (SDM volume 3A, 4.5 "4-level paging"). */
#include "guest.h"

enum { PRESENT = 1 << 0, USER = 1 << 2, LARGE = 1 << 7 };
#define ADDRESS 0x000ffffffffff000ul
#define LARGE_SIZE 0x200000ul

/* The entry of a table at the level where `shift` selects: 39 for the top, 30, 21. */
static u64 *entry(u64 table, u64 address, int shift)
{
    return (u64 *)(table & ADDRESS) + (address >> shift & 511);
}

/* Open [start, end), multiples of 2 MiB, to ring 3. The bit must be set in the entry of every level: the
 * processor takes the strictest of them. Writing CR3 drops the translations it has cached. */
void paging_open_to_user(u64 start, u64 end)
{
    u64 root;

    asm volatile("mov %%cr3, %0" : "=r"(root));
    for (u64 address = start; address < end; address += LARGE_SIZE) {
        u64 *top = entry(root, address, 39);
        u64 *middle = entry(*top, address, 30);
        u64 *page = entry(*middle, address, 21);

        if ((*page & (PRESENT | LARGE)) != (PRESENT | LARGE))
            panic("%x is not mapped by a 2 MiB page", address);
        *top |= USER;
        *middle |= USER;
        *page |= USER;
    }
    asm volatile("mov %0, %%cr3" : : "r"(root) : "memory");
}
