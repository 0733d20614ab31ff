/* minirt-oci, and by another name minivm: become the interpreter beside this program, which runs launch.py. Engines start the
 * one four times in a container's life, and a machine boots sooner by what the other saves; so it is started as directly as
 * it can be:
 *
 *     python3 -IS -c "$(cat launch.py)" NAME ARGUMENTS
 *
 * -I -S: without `site`, which looks for .pth files, and without the `re` of pip's own scripts, which is half of the
 * start-up. Freestanding and static, as a shell or a C library in front costs a tenth of the rest.
 *
 * Where none is beside it (`pip install --user`), the search path's is taken, with site, which knows that directory, and with
 * -P: not what lies in the working directory. It owns nothing. It ends with 127 where there is no interpreter, as a shell does.
 */
#include <sys/syscall.h>

#ifndef __x86_64__
#error "the system call is written for x86-64"
#endif

#define ROOM 4096  /* PATH_MAX */

extern char launch[];
__asm__(".section .rodata\n"
        "launch: .incbin \"launch.py\"\n"
        ".byte 0\n"
        ".text\n");

static long call3(long nr, long a, long b, long c)
{
    long result;

    __asm__ volatile("syscall" : "=a"(result) : "a"(nr), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
}

static long length(const char *text)
{
    long n = 0;

    while (text[n])
        n++;
    return n;
}

static void say(const char *text)
{
    call3(SYS_write, 2, (long)text, length(text));
}

/* argc, argv and envp lie at the top of the stack, each list ended by a null pointer (System V ABI, "Process
 * Initialization"). The interpreter's own options take argv[0]'s place, so the list needs six more words: it is
 * copied below, behind a word for env. NAME is the program's own: by /proc, as argv[0] is what the caller likes. */
__attribute__((used)) static void begin(long *stack)
{
    static const char name[] = "python3";
    char own[ROOM + 1], path[ROOM + sizeof name];
    long argc = stack[0], end = call3(SYS_readlink, (long)"/proc/self/exe", (long)own, ROOM);
    char **argv = (char **)(stack + 1), **envp = argv + argc + 1;
    char *list[argc + 7];

    own[end > 0 ? end : 0] = 0;
    while (end > 0 && own[end - 1] != '/')
        end--;
    for (long i = 0; i < end; i++)
        path[i] = own[i];
    for (unsigned i = 0; end > 0 && i < sizeof name; i++)
        path[end + i] = name[i];
    list[0] = "env";
    list[1] = path;
    list[2] = "-IS";
    list[3] = "-c";
    list[4] = launch;
    list[5] = own + (end > 0 ? end : 0);
    for (long i = 1; i <= argc; i++)
        list[5 + i] = argv[i];
    if (end > 0)
        call3(SYS_execve, (long)path, (long)(list + 1), (long)envp);
    list[1] = (char *)name;
    list[2] = "-P";
    if (end > 0)
        call3(SYS_execve, (long)"/usr/bin/env", (long)list, (long)envp);
    say(own + (end > 0 ? end : 0));
    say(": there is no python3 beside it, nor /usr/bin/env to find one: ");
    say(end > 0 ? path : "/proc is not mounted");
    say("\n");
    for (;;)
        call3(SYS_exit_group, 127, 0, 0);
}

__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");
