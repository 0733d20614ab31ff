/* Pid 1: make a root, run one program in it, end the machine with the program's exit status.
 *
 * The status goes to debug-exit's register in memory (minivm/devices/debug_exit.py), through /dev/mem (man 4 mem). A
 * hypervisor that has no such register sees the machine switched off by ACPI. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"

#define SETTINGS "/.minivm/settings"
#define DEBUG_EXIT 0xcffff000  /* minivm/boot/layout.py, DEBUG_EXIT */

/* Complain on the console: "minivm: TEXT MORE: why". `error` is an errno, or 0. */
void say(const char *text, const char *more, int error)
{
    dprintf(2, "minivm: %s%s%s%s%s\n", text, more ? " " : "", more ? more : "", error ? ": " : "", error ? strerror(error) : "");
}

/* Tell the hypervisor the exit status. Returns only where it is another one, without that register. */
static void tell(int memory, int status)
{
    volatile uint8_t *page;

    if (memory < 0)
        return;
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, DEBUG_EXIT);
    if (page != MAP_FAILED)
        *page = (uint8_t)status;
}

/* End the machine. What runs is killed, so that nothing holds a file open for writing. */
static void end(int memory, int status)
{
    kill(-1, SIGKILL);
    root_leave();
    tell(memory, status);
    reboot(RB_POWER_OFF);
    for (;;)
        pause();
}

int main(void)
{
    struct settings settings;
    int memory, status = EXIT_OURS;

    umask(022);
    if (root_begin() < 0)
        end(-1, EXIT_OURS);
    memory = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
    if (settings_read(SETTINGS, &settings) < 0)
        end(memory, EXIT_OURS);
    root_modules(settings.modules);
    if (root_console(&settings) == 0 && root_enter(&settings) == 0)
        status = program_run(&settings);
    end(memory, status);
}
