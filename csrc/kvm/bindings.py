"""Declare csrc/kvm to cffi: the module minivm.kvm._kvm (limited API, one build for CPython 3.11 and later).

Run from the root of the tree. A `...` is filled in by the C compiler from the kernel's headers, so
numbers and layouts are those of <linux/kvm.h> and nothing here is copied by hand.
"""

from cffi import FFI

ffi = FFI()

CONSTANTS = """
KVM_GET_API_VERSION KVM_CREATE_VM KVM_CHECK_EXTENSION KVM_GET_VCPU_MMAP_SIZE KVM_GET_SUPPORTED_CPUID
KVM_SET_USER_MEMORY_REGION KVM_SET_TSS_ADDR KVM_SET_IDENTITY_MAP_ADDR KVM_CREATE_IRQCHIP KVM_CREATE_PIT2
KVM_IRQ_LINE KVM_CREATE_VCPU KVM_RUN KVM_GET_REGS KVM_SET_REGS KVM_GET_SREGS KVM_SET_SREGS KVM_SET_CPUID2
KVM_SET_MSRS KVM_IRQFD KVM_CAP_TSC_DEADLINE_TIMER KVM_TRANSLATE KVM_API_VERSION KVM_PIT_SPEAKER_DUMMY
KVM_SYNC_X86_REGS KVM_SYNC_X86_SREGS KVM_IOEVENTFD KVM_IOEVENTFD_FLAG_DATAMATCH
TUNSETIFF TUNSETVNETHDRSZ TUNSETOFFLOAD IFF_TAP IFF_NO_PI IFF_VNET_HDR TUN_F_CSUM TUN_F_TSO4 TUN_F_TSO6
KVM_MEM_LOG_DIRTY_PAGES KVM_MEM_READONLY KVM_CAP_USER_MEMORY KVM_CAP_IRQCHIP KVM_CAP_PIT2 KVM_CAP_SET_TSS_ADDR
KVM_CAP_SET_IDENTITY_MAP_ADDR KVM_CAP_EXT_CPUID KVM_CAP_IMMEDIATE_EXIT KVM_CAP_SYNC_REGS KVM_CAP_NR_VCPUS
KVM_CAP_MAX_VCPUS KVM_CAP_NR_MEMSLOTS KVM_CAP_IRQFD KVM_CAP_IOEVENTFD KVM_CAP_SET_GUEST_DEBUG
KVM_CAP_DIRTY_LOG_RING KVM_CAP_XSAVE2 KVM_CAP_TSC_CONTROL KVM_CAP_READONLY_MEM KVM_EXIT_IO_IN KVM_EXIT_IO_OUT
KVM_EXIT_UNKNOWN KVM_EXIT_EXCEPTION KVM_EXIT_IO KVM_EXIT_HYPERCALL KVM_EXIT_DEBUG KVM_EXIT_HLT KVM_EXIT_MMIO
KVM_EXIT_IRQ_WINDOW_OPEN KVM_EXIT_SHUTDOWN KVM_EXIT_FAIL_ENTRY KVM_EXIT_INTR KVM_EXIT_SET_TPR
KVM_EXIT_TPR_ACCESS KVM_EXIT_NMI KVM_EXIT_INTERNAL_ERROR KVM_EXIT_SYSTEM_EVENT KVM_SYSTEM_EVENT_SHUTDOWN
KVM_SYSTEM_EVENT_RESET KVM_SYSTEM_EVENT_CRASH KVM_INTERNAL_ERROR_EMULATION KVM_INTERNAL_ERROR_SIMUL_EX
KVM_INTERNAL_ERROR_DELIVERY_EV KVM_KVMCLOCK_CTRL
KVM_SET_GUEST_DEBUG KVM_GUESTDBG_ENABLE KVM_GUESTDBG_SINGLESTEP KVM_GUESTDBG_USE_SW_BP KVM_GUESTDBG_USE_HW_BP
KVM_GUESTDBG_BLOCKIRQ KVM_GUESTDBG_INJECT_BP KVM_CAP_SET_GUEST_DEBUG2 KVM_GET_FPU KVM_SET_FPU KVM_GET_MP_STATE
KVM_SET_MP_STATE KVM_MP_STATE_RUNNABLE
KVM_CAP_COALESCED_MMIO KVM_REGISTER_COALESCED_MMIO
KVM_MP_STATE_UNINITIALIZED KVM_MP_STATE_INIT_RECEIVED KVM_MP_STATE_HALTED KVM_GET_MSRS KVM_GET_STATS_FD KVM_CAP_BINARY_STATS_FD
"""

STRUCTURES = """
struct kvm_userspace_memory_region {
    uint32_t slot, flags;
    uint64_t guest_phys_addr, memory_size, userspace_addr;
    ...;
};
struct kvm_pit_config { uint32_t flags; ...; };
struct kvm_irq_level { uint32_t irq; uint32_t level; ...; };
struct kvm_cpuid_entry2 { uint32_t function, index, flags, eax, ebx, ecx, edx; ...; };
struct kvm_cpuid2 { uint32_t nent; uint32_t padding; struct kvm_cpuid_entry2 entries[]; };
struct kvm_msr_entry { uint32_t index; uint64_t data; ...; };
struct kvm_msrs { uint32_t nmsrs; uint32_t pad; struct kvm_msr_entry entries[]; };
struct kvm_irqfd { uint32_t fd, gsi, flags; ...; };
struct kvm_ioeventfd { uint64_t datamatch, addr; uint32_t len; int32_t fd; uint32_t flags; ...; };
struct kvm_coalesced_mmio_zone { uint64_t addr; uint32_t size; ...; };
struct kvm_coalesced_mmio { uint64_t phys_addr; uint32_t len; uint8_t data[8]; ...; };
struct kvm_coalesced_mmio_ring { uint32_t first, last; struct kvm_coalesced_mmio coalesced_mmio[]; };
struct kvm_translation {
    uint64_t linear_address, physical_address;
    uint8_t valid, writeable, usermode;
    ...;
};
struct kvm_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags;
    ...;
};
struct kvm_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable;
    ...;
};
struct kvm_dtable { uint64_t base; uint16_t limit; ...; };
struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    ...;
};

struct kvm_fpu {
    uint8_t fpr[8][16];
    uint16_t fcw, fsw;
    uint8_t ftwx;
    uint16_t last_opcode;
    uint64_t last_ip, last_dp;
    uint8_t xmm[16][16];
    uint32_t mxcsr;
    ...;
};
struct kvm_mp_state { uint32_t mp_state; };
struct kvm_debug_exit_arch { uint32_t exception, pad; uint64_t pc, dr6, dr7; };
struct kvm_guest_debug_arch { unsigned long long debugreg[8]; };
struct kvm_guest_debug { uint32_t control; struct kvm_guest_debug_arch arch; ...; };

struct kvm_run {
    uint8_t request_interrupt_window, immediate_exit;
    uint32_t exit_reason;
    union {
        struct { uint64_t hardware_exit_reason; } hw;
        struct { uint64_t hardware_entry_failure_reason; uint32_t cpu; } fail_entry;
        struct { uint8_t direction, size; uint16_t port; uint32_t count; uint64_t data_offset; } io;
        struct { uint64_t phys_addr; uint8_t data[8]; uint32_t len; uint8_t is_write; } mmio;
        struct { uint32_t suberror, ndata; unsigned long long data[16]; } internal;
        struct { uint32_t type, ndata; unsigned long long data[16]; } system_event;
        struct { struct kvm_debug_exit_arch arch; } debug;
        char padding[256];
    };
    uint64_t kvm_valid_regs, kvm_dirty_regs;
    ...;
};
"""

FUNCTIONS = """
int memory_create(uint64_t size, int fd, uint8_t **memory);
int memory_map_file(uint8_t *where, uint64_t length, int fd, uint64_t offset);
int memory_destroy(uint8_t *memory, uint64_t size);
int kvm_ioctl(int fd, unsigned long request, uintptr_t argument);

#define SHORTCUTS ...
struct shortcut {
    uint16_t port;
    uint8_t answer_in, forward_out, value;
    int32_t fd;
    uint32_t burst, credit;
    uint64_t ins, outs;
};
#define PROMPT ...
struct path;
struct prompt { uint64_t address; uint32_t queue; struct path *path; };
struct window {
    uint64_t address, size;
    uint8_t *pages;
    uint64_t acknowledged, prompted;
    struct prompt prompts[...];
};
#define ABSENT ...
struct asked { uint32_t key, count; };
struct absent { uint8_t ports[...]; struct asked asked[...]; };
struct vcpu {
    int fd;
    struct kvm_run *run;
    uint64_t run_size, entries;
    uint8_t every, timed;
    uint64_t inside_ns, here_ns;
    struct shortcut shortcuts[...];
    struct window window;
    struct absent absent;
};
int vcpu_create(int fd, uint64_t run_size, struct vcpu **vcpu);
int vcpu_destroy(struct vcpu *vcpu);
int vcpu_run(struct vcpu *vcpu);
struct kvm_regs *vcpu_synced_regs(struct vcpu *vcpu);
struct kvm_sregs *vcpu_synced_sregs(struct vcpu *vcpu);
int kick_prepare(void);
int kick(uintptr_t thread);
"""

VIRTIO = """
#define RAM_SLOTS ...
#define QUEUE_LARGEST ...
#define SOURCE_FD ...
#define PATH_QUEUES ...
struct iovec { void *iov_base; size_t iov_len; ...; };
struct ram_slot { uint64_t base, size; uint8_t *host; };
struct ram { uint32_t count; struct ram_slot slots[...]; };
uint8_t *ram_at(const struct ram *ram, uint64_t address, uint64_t length);
uint64_t ram_drop(uint8_t *at, uint64_t length);
struct queue { const char *why; uint16_t next_available, next_used, untold; ...; };
struct chain {
    uint16_t head, entries;
    uint32_t readable, writable;
    uint64_t readable_bytes, writable_bytes;
    struct iovec parts[...];
};
int queue_create(const struct ram *ram, uint32_t size, int packed, int event_idx, int indirect, uint64_t descriptors,
                 uint64_t driver, uint64_t device, struct queue **queue);
void queue_destroy(struct queue *queue);
int queue_ask(struct queue *queue);
int queue_pop(struct queue *queue, struct chain *chain);
void queue_push(struct queue *queue, uint16_t head, uint16_t entries, uint32_t written);
int queue_wants_interrupt(struct queue *queue);

struct path {
    uint64_t chains, bytes, interrupts, wakes; ...; };
void path_destroy(struct path *path);
int path_kick(struct path *path, uint32_t number, int fd);
void path_give(struct path *path, uint32_t number, struct queue *queue);
void path_poke(struct path *path, uint32_t source);
int path_run(struct path *path);
uint64_t path_looked(struct path *path);
void path_stop(struct path *path);
void registers_interrupt(uint8_t *registers, int fd, uint32_t bits);
void registers_acknowledge(uint8_t *registers, uint32_t bits);
void registers_always(uint8_t *registers);

struct overlay;
int overlay_create(int fd, int base, uint64_t size, uint64_t bitmap, uint64_t data, struct overlay **overlay);
int overlay_destroy(struct overlay *overlay);
struct path *blk_create(uint8_t *registers, int interrupt, int fd, uint64_t size, int read_only, const char *serial,
                        struct overlay *overlay);
struct path *net_create(uint8_t *registers, int interrupt, int fd, int stream);
#define CONSOLE_PORTS ...
struct path *console_create(uint8_t *registers, int interrupt, uint32_t count);
int console_join(struct path *path, uint32_t number, int in, int out, int socket);
void console_part(struct path *path, uint32_t number);
int console_listen(struct path *path, uint32_t number, int fd);
void console_open(struct path *path, uint32_t number, int open);
int console_gone(struct path *path, uint32_t number);
int console_pending(struct path *path);
void console_want_room(struct path *path, uint32_t number);
void net_agree(struct path *path, int mergeable, uint32_t header, uint32_t largest);
void net_limit(struct path *path, uint64_t in, uint64_t in_refill, uint64_t out, uint64_t out_refill);
void blk_agree(struct path *path, int write_through);
void blk_limit(struct path *path, uint64_t bytes, uint64_t bytes_refill, uint64_t requests, uint64_t requests_refill);
"""

SOURCES = (
    *("memory", "ioctl", "vcpu", "kick"),
    *("ram", "queue", "packed", "path", "io", "bucket", "overlay", "blk", "net", "console"),
)

ffi.cdef("".join(f"#define {name} ...\n" for name in CONSTANTS.split()))
ffi.cdef(STRUCTURES)
ffi.cdef(FUNCTIONS)
ffi.cdef(VIRTIO)
ffi.set_source(
    "minivm.kvm._kvm",
    '#include "kvm.h"\n#include "virtio.h"\n',
    sources=[f"csrc/kvm/{name}.c" for name in SOURCES],
    depends=["csrc/kvm/kvm.h", "csrc/kvm/virtio.h"],
    include_dirs=["csrc/kvm"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror=incompatible-pointer-types"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffi.compile(verbose=True)
