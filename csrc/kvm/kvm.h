/* What of minivm must be C, and why: memory that is the guest's, the loop around KVM_RUN, and (virtio.h) the data path
 * of the virtio devices.
 *
 * Everything else (which ioctl, with what, in which order, what a device answers) is Python; it reaches
 * the kernel through kvm_ioctl below. Read next: memory.c, then vcpu.c. Functions return 0 (or the
 * result that they name) or -errno; cffi releases the GIL around each of them. */
#ifndef MINIVM_KVM_H
#define MINIVM_KVM_H

#include <stdint.h>
#include <stdio.h>
#include <linux/if_tun.h>
#include <linux/kvm.h>

struct path; /* virtio.h */

/* memory.c */
int memory_create(uint64_t size, int fd, uint8_t **memory);
int memory_map_file(uint8_t *where, uint64_t length, int fd, uint64_t offset);
int memory_destroy(uint8_t *memory, uint64_t size);

/* ioctl.c */
int kvm_ioctl(int fd, unsigned long request, uintptr_t argument);

/* vcpu.c */
#define SHORTCUTS 8

/* One I/O port that the loop answers without entering Python, as long as Python says that it may.
 * It knows nothing of devices: a byte to write somewhere, or a byte to answer with. */
struct shortcut {
    uint16_t port;
    uint8_t answer_in;   /* 1: an 8-bit `in` from the port reads `value` */
    uint8_t forward_out; /* 1: an 8-bit `out` to the port goes to `fd` by write(2) */
    uint8_t value;
    int32_t fd;
    uint32_t burst;      /* bytes that surely fit there when poll(2) says that there is room; 0 where that is not known */
    uint32_t credit;     /* how many of them are left */
    uint64_t ins, outs;  /* how many it has answered, for the exit counts */
};

#define PROMPT 4

/* A queue that the vCPU's own thread serves at once when the guest notifies of it (path_prompt): where the guest waits for
 * the answer with its interrupts off, as Linux's hvc console does, another thread would only come later. */
struct prompt {
    uint64_t address;  /* guest-physical, of the device's page of registers; 0: there is none */
    uint32_t queue;    /* its number in the device and in the path */
    struct path *path; /* borrowed */
};

/* Pages of registers that the guest reads as memory, with no exit; a write of 4 bytes to InterruptACK is answered by the
 * loop, as each interrupt makes one (VIRTIO 1.2, 4.2.2), and one to QueueNotify where the queue is to be served at once. */
struct window {
    uint64_t address, size; /* guest-physical, bytes; size 0: there is none */
    uint8_t *pages;         /* borrowed */
    uint64_t acknowledged;  /* how many it has answered, for the exit counts */
    uint64_t prompted;
    struct prompt prompts[PROMPT];
};

#define ABSENT 64

struct asked {
    uint32_t key;   /* port << 1 | direction */
    uint32_t count; /* how often; 0: the entry is free */
};

/* Ports where there is no device: an `in` reads all ones, an `out` is lost. Linux asks dozens of them, for a PCI bus and for
 * three more UARTs. */
struct absent {
    uint8_t ports[0x10000 / 8];  /* bit N % 8 of byte N / 8: nobody is at port N; else Python is asked */
    struct asked asked[ABSENT];  /* those that were asked, for the exit counts */
};

/* One virtual processor, from vcpu_create to vcpu_destroy. */
struct vcpu {
    int fd;              /* borrowed: Python opened it with KVM_CREATE_VCPU and closes it */
    struct kvm_run *run; /* owned: the page(s) shared with the kernel */
    uint64_t run_size;   /* bytes mapped at run */
    uint64_t entries;    /* how many times KVM_RUN was called */
    uint8_t every;       /* 1: every exit is to come to Python, as it goes through the guest step by step */
    uint8_t timed;       /* 1: Python wants to know the next two */
    uint64_t inside_ns;  /* time inside KVM_RUN */
    uint64_t here_ns;    /* time inside vcpu_run, that included */
    struct shortcut shortcuts[SHORTCUTS];
    struct window window;
    struct absent absent;
};

int vcpu_create(int fd, uint64_t run_size, struct vcpu **vcpu);
int vcpu_destroy(struct vcpu *vcpu);
int vcpu_run(struct vcpu *vcpu);
struct kvm_regs *vcpu_synced_regs(struct vcpu *vcpu);
struct kvm_sregs *vcpu_synced_sregs(struct vcpu *vcpu);

/* kick.c */
int kick_prepare(void);
int kick(uintptr_t thread);

#endif
