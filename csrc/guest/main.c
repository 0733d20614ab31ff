/* What the kernel does at start, in order. */
#include "guest.h"
#include "task.h"
#include "user.h"

static const char *kind(u32 type)
{
    return type == REGION_RAM ? "RAM" : "reserved";
}

static void show(const struct bootinfo *info)
{
    if (info->magic != BOOTINFO_MAGIC)
        panic("RDI does not point to boot information");
    print("kernel: command line: %s\n", (const char *)info->cmdline);
    for (u32 i = 0; i < info->regions; i++) {
        const struct region *region = &info->map[i];

        print("kernel: memory %x to %x: %s, %d KiB\n", region->base, region->base + region->size - 1,
              kind(region->type), region->size / 1024);
    }
}

/* Entered from entry.S with the structure that minivm left in memory. */
void main(const struct bootinfo *info)
{
    uart_init();
    print("Hello from the minivm guest, in 64-bit long mode.\n");
    show(info);

    trap_init();
    paging_open_to_user((u64)user_start, (u64)user_end);
    pic_init();
    pit_init();
    print("kernel: timer at %d ticks a second; starting three tasks in ring 3\n", (u64)TICKS_PER_SECOND);

    task_start(user_count);
    task_start(user_count);
    task_start(user_echo);
    leave_kernel(task_next(0));
}
