/* The executor: run a plan, one system call after the other, and say what came of each.
 *
 * It is a program of its own, freestanding and static, because of where it runs: between clone3 and execve,
 * in a process that is already half a container. There no interpreter may run (a threaded parent's locks would
 * be copied as they stand), nothing of the parent's memory may be found, and /proc/PID/exe must not be the host's
 * Python: an image whose entry point is `#!/proc/self/exe` would open it (CVE-2019-5736).
 *
 * The parent starts it by clone and execveat from a sealed memfd (spawn.c) with argv[1] = the number of the
 * descriptor that holds the plan, which is being made meanwhile. It owns nothing: what it maps and opens goes with the
 * process.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "plan.h"

#ifndef __x86_64__
#error "the executor's system call and time stamp are written for x86-64"
#endif

#define EXIT_BROKEN 125  /* the same code that docker uses for its own failures */

static long syscall6(long nr, const uint64_t a[6])
{
    register uint64_t r10 __asm__("r10") = a[3];
    register uint64_t r8 __asm__("r8") = a[4];
    register uint64_t r9 __asm__("r9") = a[5];
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

static void leave(int status)
{
    for (;;)
        syscall6(SYS_exit_group, (uint64_t[6]){status});
}

/* The time stamp counter: a clock that costs no system call. The parent turns it into nanoseconds. */
static uint64_t now(void)
{
    return __builtin_ia32_rdtsc();
}

/* Compare args[3] bytes at args[0] with those at args[1], where the mask at args[2] has bits. */
static long check(const uint64_t a[6])
{
    const uint8_t *have = (void *)a[0], *want = (void *)a[1], *mask = (void *)a[2];

    for (uint64_t i = 0; i < a[3]; i++)
        if ((have[i] ^ want[i]) & mask[i])
            return -(long)a[4];
    return 0;
}

static uint64_t argument(const struct record *r, int i)
{
    if ((r->loads >> (2 * i) & 3) == LOAD_S32)
        return (uint64_t)(int64_t)*(volatile int32_t *)r->args[i];
    return r->args[i];
}

/* Make a record's call, or say what it is to pretend. EINTR: a signal that stopped us from waiting is no failure. EAGAIN of
 * openat2: somebody on this machine renamed something while ".." was followed, and the kernel could not tell whether that
 * led out; asked again it mostly can (man 2 openat2). */
static long perform(const struct record *r)
{
    uint64_t a[6];
    long result;
    int tries = r->nr == SYS_openat2 ? PLAN_TRIES : 0;

    if (r->inject)
        return -(long)r->inject;
    for (int i = 0; i < 6; i++)
        a[i] = argument(r, i);
    if (r->nr == PLAN_CHECK)
        return check(a);
    do
        result = syscall6(r->nr, a);
    while (result == -EINTR || (result == -EAGAIN && tries-- > 0));
    return result;
}

/* The record to go on at after this result; 0 if the plan ends here. */
static uint32_t next(const struct record *r, uint32_t at, long result)
{
    if (result < 0 && result > -4096) {
        for (int i = 0; i < PLAN_ERRNOS; i++)
            if (r->on_error[i].errnum == -result)
                return r->on_error[i].go ? r->on_error[i].go : at + 1;
        return 0;
    }
    if (result < r->at_least)
        return 0;
    return result > 0 && r->positive ? r->positive : at + 1;
}

static void run(volatile struct plan *plan)
{
    struct outcome *ring = (void *)plan->ring;

    for (uint32_t at = 0, then; at < plan->count; at = then) {
        const struct record *r = (struct record *)plan->records + at;
        uint32_t place = __atomic_fetch_add(&plan->used, 1, __ATOMIC_RELAXED);

        if (place >= plan->capacity)
            leave(EXIT_BROKEN);
        struct outcome *o = &ring[place];
        o->record = at;
        o->result = PLAN_PENDING;
        o->began = now();
        long result = perform(r);
        if (r->nr == SYS_clone3 && result == 0) {  /* the child: this outcome and its slot are the parent's to write */
            then = at + 1;
            continue;
        }
        if (r->store && result >= r->at_least)
            *(volatile int32_t *)r->store = (int32_t)result;
        o->ended = now();
        __atomic_store_n(&o->result, result, __ATOMIC_RELEASE);
        then = next(r, at, result);
        if (then <= at)  /* the plan ends here, or it is damaged: there are no backward jumps */
            leave(EXIT_BROKEN);
    }
    leave(0);
}

/* Map the plan from the descriptor that argv[1] names, and wait until it is there: a byte by the control socket, which is the
 * descriptor before. That must close when the program starts, as this is how the parent learns that it did. */
__attribute__((used)) static void begin(long *stack)
{
    uint64_t fd = 0;
    long got;
    char byte;

    if (stack[0] < 2)
        leave(EXIT_BROKEN);
    for (const char *digit = (const char *)stack[2]; *digit; digit++)
        fd = fd * 10 + (uint64_t)(*digit - '0');
    long base = syscall6(SYS_mmap, (uint64_t[6]){PLAN_BASE, PLAN_SPAN, PROT_READ | PROT_WRITE,
                                                 MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0});
    struct plan *plan = (void *)PLAN_HEADER;
    if (base != (long)PLAN_BASE)
        leave(EXIT_BROKEN);
    syscall6(SYS_close, (uint64_t[6]){fd});
    syscall6(SYS_fcntl, (uint64_t[6]){fd - 1, F_SETFD, FD_CLOEXEC});
    do
        got = syscall6(SYS_read, (uint64_t[6]){fd - 1, (uint64_t)&byte, 1});
    while (got == -EINTR);
    if (got != 1 || plan->magic != PLAN_MAGIC)  /* 0: the parent has died, or could not make the plan */
        leave(EXIT_BROKEN);
    run(plan);
}

/* The kernel enters here with argc at the top of the stack (System V ABI, "Process Initialization"). */
__asm__(".globl _start\n"
        "_start:\n"
        "    xor %ebp, %ebp\n"
        "    mov %rsp, %rdi\n"
        "    and $-16, %rsp\n"
        "    call begin\n");
