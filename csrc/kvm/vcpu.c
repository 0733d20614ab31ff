/* The loop around KVM_RUN. It runs with the GIL released and comes back to Python for every exit but
 * those that a shortcut or the window answers. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "kvm.h"
#include "virtio.h"

#define PAGE 0x1000
#define INTERRUPT_ACK 0x64
#define QUEUE_NOTIFY 0x50

/* Map the kvm_run structure of a vCPU (its size is what KVM_GET_VCPU_MMAP_SIZE says). The caller owns
 * *vcpu and gives it back to vcpu_destroy; `fd` stays the caller's. Returns 0 or -errno.
 * Documentation/virt/kvm/api.rst, "The kvm_run structure". */
int vcpu_create(int fd, uint64_t run_size, struct vcpu **vcpu)
{
    struct vcpu *new = calloc(1, sizeof *new);

    if (!new)
        return -ENOMEM;
    new->fd = fd;
    new->run_size = run_size;
    new->run = mmap(NULL, run_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (new->run == MAP_FAILED) {
        int error = errno;

        free(new);
        return -error;
    }
    *vcpu = new;
    return 0;
}

/* Unmap kvm_run and free the structure; no thread may be in vcpu_run. Returns 0 or -errno. */
int vcpu_destroy(struct vcpu *vcpu)
{
    int result = munmap(vcpu->run, vcpu->run_size) < 0 ? -errno : 0;

    free(vcpu);
    return result;
}

/* Write one byte if that does not block. Returns 1 if it is written; whatever else there is (a full pipe, a closed
 * one, a signal) Python sorts out. man 2 poll. */
static int forward(struct shortcut *s, const uint8_t *byte)
{
    struct pollfd out = {.fd = s->fd, .events = POLLOUT};

    if (!s->credit) {
        if (poll(&out, 1, 0) != 1 || out.revents != POLLOUT)
            return 0;
        s->credit = s->burst;
    }
    if (write(s->fd, byte, 1) != 1) {
        s->credit = 0;
        return 0;
    }
    s->credit -= s->credit > 0;
    return 1;
}

/* Answer an I/O exit here, if a shortcut may. Returns 1 if it did: KVM completes the instruction at the
 * next KVM_RUN, taking the answer of an `in` from the data area of kvm_run. */
static int answered(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    uint8_t *data = (uint8_t *)run + run->io.data_offset;

    if (run->io.size != 1 || run->io.count != 1)
        return 0;
    for (int i = 0; i < SHORTCUTS; i++) {
        struct shortcut *s = &vcpu->shortcuts[i];

        if (s->port != run->io.port)
            continue;
        if (run->io.direction == KVM_EXIT_IO_IN && s->answer_in) {
            *data = s->value;
            s->ins++;
            return 1;
        }
        if (run->io.direction == KVM_EXIT_IO_OUT && s->forward_out && forward(s, data)) {
            s->outs++;
            return 1;
        }
    }
    return 0;
}

/* Answer an I/O exit to a port where nobody is. Returns 1 if it was one, and is counted: others than the first ABSENT are not. */
static int unanswered(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    struct absent *absent = &vcpu->absent;
    uint32_t key = run->io.port << 1 | run->io.direction;

    if (!(absent->ports[run->io.port / 8] & 1 << run->io.port % 8))
        return 0;
    for (int i = 0; i < ABSENT; i++) {
        if (absent->asked[i].count && absent->asked[i].key != key)
            continue;
        absent->asked[i].key = key;
        absent->asked[i].count++;
        if (run->io.direction == KVM_EXIT_IO_IN)
            memset((uint8_t *)run + run->io.data_offset, 0xff, (size_t)run->io.size * run->io.count);
        return 1;
    }
    return 0;
}

/* Serve a queue that the guest notifies of, if it is one of those that are served at once. Returns 1 if it was. */
static int prompted(struct window *window, uint64_t address, uint32_t queue)
{
    for (int i = 0; i < PROMPT; i++) {
        struct prompt *prompt = &window->prompts[i];

        if (!prompt->path || prompt->address != address || prompt->queue != queue)
            continue;
        path_prompt(prompt->path, queue);
        window->prompted++;
        return 1;
    }
    return 0;
}

/* Answer a write to InterruptACK or QueueNotify in a page of the window. Returns 1 if it was one that is answered here. */
static int acknowledged(struct vcpu *vcpu)
{
    struct kvm_run *run = vcpu->run;
    struct window *window = &vcpu->window;
    uint64_t offset = run->mmio.phys_addr - window->address;
    uint32_t bits;

    if (!run->mmio.is_write || run->mmio.len != 4 || run->mmio.phys_addr < window->address || offset >= window->size)
        return 0;
    memcpy(&bits, run->mmio.data, 4);
    if (offset % PAGE == QUEUE_NOTIFY)
        return prompted(window, run->mmio.phys_addr - QUEUE_NOTIFY, bits);
    if (offset % PAGE != INTERRUPT_ACK)
        return 0;
    registers_acknowledge(window->pages + offset - INTERRUPT_ACK, bits);
    window->acknowledged++;
    return 1;
}

/* Say whether the loop has answered an exit by itself. */
static int handled(struct vcpu *vcpu)
{
    return (vcpu->run->exit_reason == KVM_EXIT_IO && (answered(vcpu) || unanswered(vcpu))) ||
           (vcpu->run->exit_reason == KVM_EXIT_MMIO && acknowledged(vcpu));
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000ull + time.tv_nsec;
}

/* KVM_RUN once, and how long it took where that is wanted. Returns what ioctl returns. */
static int enter(struct vcpu *vcpu)
{
    uint64_t begin;
    int result;

    vcpu->entries++;
    if (!vcpu->timed)
        return ioctl(vcpu->fd, KVM_RUN, 0);
    begin = now();
    result = ioctl(vcpu->fd, KVM_RUN, 0);
    vcpu->inside_ns += now() - begin;
    return result;
}

/* Run the guest until there is an exit that Python must handle. Returns 0 with vcpu->run->exit_reason
 * set, or -errno of KVM_RUN: -EINTR after a signal or while immediate_exit is set.
 * Documentation/virt/kvm/api.rst, KVM_RUN. */
int vcpu_run(struct vcpu *vcpu)
{
    uint64_t begin = vcpu->timed ? now() : 0;
    int error = 0;

    do {
        if (enter(vcpu) < 0) {
            error = -errno;
            break;
        }
    } while (!vcpu->every && handled(vcpu));
    if (vcpu->timed)
        vcpu->here_ns += now() - begin;
    return error;
}

/* Return where KVM leaves the registers at each exit, once kvm_valid_regs asks for KVM_SYNC_X86_REGS:
 * reading them there costs no ioctl. Belongs to the vcpu. Documentation/virt/kvm/api.rst, KVM_CAP_SYNC_REGS.
 * (A function, because cffi cannot name the union around it.) */
struct kvm_regs *vcpu_synced_regs(struct vcpu *vcpu)
{
    return &vcpu->run->s.regs.regs;
}

/* The same for the special registers (KVM_SYNC_X86_SREGS). */
struct kvm_sregs *vcpu_synced_sregs(struct vcpu *vcpu)
{
    return &vcpu->run->s.regs.sregs;
}
