/* The bare loop: KVM_RUN and nothing else, for a guest that does I/O as fast as it can. What a hypervisor adds to this is
 * its own; bench/exits.py runs it beside minivm's loops, with the same guest.
 *
 *     exits FILE    FILE: 16-bit code, entered at 0x7c00, that halts at its end
 *
 * Prints the exits and the nanoseconds that the process used for them. No irqchip, so that `hlt` is an exit. */
#include <err.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define SIZE (1 << 20)
#define ENTRY 0x7c00

static long call(int fd, unsigned long request, void *argument, const char *name)
{
    long result = ioctl(fd, request, argument);

    if (result < 0)
        err(1, "%s", name);
    return result;
}

static unsigned long long now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

int main(int argc, char **argv)
{
    int code = open(argc > 1 ? argv[1] : "", O_RDONLY), kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    char *memory = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct kvm_userspace_memory_region region = {.memory_size = SIZE, .userspace_addr = (__u64)memory};
    struct kvm_regs regs = {.rip = ENTRY, .rflags = 2};
    unsigned long long begin, exits = 0;
    struct kvm_sregs sregs;
    struct kvm_run *run;
    int vm, vcpu;

    if (code < 0 || kvm < 0 || read(code, memory + ENTRY, SIZE - ENTRY) <= 0)
        err(1, "open");
    vm = call(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
    call(vm, KVM_SET_USER_MEMORY_REGION, &region, "KVM_SET_USER_MEMORY_REGION");
    vcpu = call(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
    run = mmap(NULL, call(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "mmap"), PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
    call(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
    sregs.cs.base = sregs.cs.selector = 0;
    call(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
    call(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
    begin = now();
    do {
        call(vcpu, KVM_RUN, NULL, "KVM_RUN");
        exits++;
    } while (run->exit_reason == KVM_EXIT_IO);
    printf("%llu %llu\n", exits, now() - begin);
    return run->exit_reason != KVM_EXIT_HLT;
}
