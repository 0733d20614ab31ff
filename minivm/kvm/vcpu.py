"""One virtual processor: its registers, and running it."""

from __future__ import annotations

from minivm.errors import KvmError
from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minivm.kvm.memory import GuestMemory

__all__ = [
    "Vcpu",
    "create_vcpu",
    "get_regs",
    "get_sregs",
    "new_regs",
    "set_cpuid2",
    "set_msrs",
    "set_regs",
    "set_sregs",
    "translate",
]


def create_vcpu(vm: int, number: int) -> int:
    """Make a processor.

    Args:
        number: also its APIC id; 0 is the one that starts.

    Returns its file descriptor, the caller's to close.
    """
    return ioctl(vm, "KVM_CREATE_VCPU", number)


def set_cpuid2(vcpu: int, leaves: Any) -> None:
    """Say what the guest's CPUID instruction answers (struct kvm_cpuid2)."""
    ioctl(vcpu, "KVM_SET_CPUID2", pointer(leaves), f"nent={leaves.nent}")


def set_msrs(vcpu: int, values: Mapping[int, int]) -> int:
    """Set model-specific registers, by number (uint32_t) to value (uint64_t).

    Returns how many were set: KVM stops at the first that it refuses.
    """
    entries = [{"index": number, "data": value} for number, value in values.items()]
    msrs = ffi.new("struct kvm_msrs *", {"nmsrs": len(entries), "entries": entries})
    return ioctl(vcpu, "KVM_SET_MSRS", pointer(msrs), ", ".join(f"{number:#x}" for number in values))


def new_regs(**registers: int) -> Any:
    """Return a struct kvm_regs with these registers set and the others 0."""
    return ffi.new("struct kvm_regs *", registers)


def get_regs(vcpu: int) -> Any:
    """Return the general registers, RIP and RFLAGS, as a struct kvm_regs."""
    regs = ffi.new("struct kvm_regs *")
    ioctl(vcpu, "KVM_GET_REGS", pointer(regs), "")
    return regs


def set_regs(vcpu: int, regs: Any) -> None:
    """Set the general registers from a struct kvm_regs."""
    ioctl(vcpu, "KVM_SET_REGS", pointer(regs), f"rip={regs.rip:#x}, rflags={regs.rflags:#x}")


def get_sregs(vcpu: int) -> Any:
    """Return segments, descriptor tables and control registers, as a struct kvm_sregs."""
    sregs = ffi.new("struct kvm_sregs *")
    ioctl(vcpu, "KVM_GET_SREGS", pointer(sregs), "")
    return sregs


def set_sregs(vcpu: int, sregs: Any) -> None:
    """Set the special registers from a struct kvm_sregs."""
    ioctl(vcpu, "KVM_SET_SREGS", pointer(sregs), f"cr0={sregs.cr0:#x}, cr4={sregs.cr4:#x}, efer={sregs.efer:#x}")


def translate(vcpu: int, address: int) -> int | None:
    """Walk the guest's page tables as the processor would.

    Returns the guest-physical address, or None where the guest-virtual one is not mapped.
    """
    answer = ffi.new("struct kvm_translation *", {"linear_address": address})
    ioctl(vcpu, "KVM_TRANSLATE", pointer(answer), f"{address:#x}")
    return int(answer.physical_address) if answer.valid else None


class Vcpu:
    """A processor's file descriptor with its kvm_run mapped: what it takes to run it.

    Args:
        fd: what create_vcpu returned; it stays the caller's to close, after close().
        size: what get_vcpu_mmap_size returned (bytes).

    Raises KvmError. Threads: run() belongs to one thread; interrupt() may be called by any. The process's SIGRTMIN is
    taken for interrupt().
    """

    __slots__ = ("_c", "fd", "kvm_run", "page")

    def __init__(self, fd: int, size: int) -> None:
        lib.kick_prepare()
        self.fd = fd
        self._c: Any = map_run(fd, size)
        self.kvm_run: Any = self._c.run  # struct kvm_run, shared with the kernel
        self.page = memoryview(ffi.buffer(self.kvm_run, size)).cast("B")  # the bytes of it

    @property
    def data(self) -> memoryview:
        """The bytes of the I/O exit: `count` items of `size` bytes, to read for `out` and to fill in for `in`."""
        io = self.kvm_run.io
        start = io.data_offset
        return self.page[start : start + io.size * io.count]

    @property
    def entries(self) -> int:
        """How many times KVM_RUN has been called."""
        return int(self._c.entries)

    def answer_alone(self, may: bool) -> None:
        """Say whether the loop in C may answer exits by itself: while a guest is stepped through it would step on."""
        self._c.every = not may

    def measure(self) -> None:
        """Have the loop in C measure where the time goes, from now on; see `times`."""
        self._c.timed = 1

    @property
    def times(self) -> tuple[int, int]:
        """How long the loop in C was inside KVM_RUN, and how long in all (ns); 0 without measure()."""
        return int(self._c.inside_ns), int(self._c.here_ns)

    def run(self) -> int:
        """Run the guest until it needs us, with the GIL released.

        Returns kvm_run.exit_reason; KVM_EXIT_INTR after a signal or interrupt(). Raises KvmError.
        """
        result: int = lib.vcpu_run(self._c)
        if result < 0:
            if -result in INTERRUPTED:
                return INTR
            raise KvmError("KVM_RUN", -result, "0")
        return self.kvm_run.exit_reason  # type: ignore[no-any-return]

    def interrupt(self, thread: int) -> None:
        """Make run() return at once with KVM_EXIT_INTR, now or at its next call.

        Args:
            thread: the one that runs it, as threading.get_ident() numbers it (pthread_t).
        """
        self.kvm_run.immediate_exit = 1
        lib.kick(thread)

    def go_on(self, stood: bool) -> None:
        """Undo interrupt(), as the thread that runs it; a guest that stood still is told so, where it has kvmclock."""
        self.kvm_run.immediate_exit = 0
        if stood:
            lib.kvm_ioctl(self.fd, lib.KVM_KVMCLOCK_CTRL, 0)  # EINVAL where it has none

    def settle(self) -> None:
        """Let KVM finish the instruction of the last exit, without running the next one.

        After an I/O or MMIO exit RIP may stand before or after the instruction, which differs from processor
        to processor: registers may be read only after this. See immediate_exit of struct kvm_run.
        """
        before, self.kvm_run.immediate_exit = self.kvm_run.immediate_exit, 1
        lib.kvm_ioctl(self.fd, lib.KVM_RUN, 0)
        self.kvm_run.immediate_exit = before

    def show_registers(self) -> Any:
        """Have KVM leave the registers at each exit in the struct kvm_regs returned, and in special() (KVM_CAP_SYNC_REGS).

        They are as at the exit: see settle() for what RIP may be then.
        """
        self.kvm_run.kvm_valid_regs = lib.KVM_SYNC_X86_REGS | lib.KVM_SYNC_X86_SREGS
        return lib.vcpu_synced_regs(self._c)

    def special(self) -> Any:
        """Return the struct kvm_sregs that show_registers() fills."""
        return lib.vcpu_synced_sregs(self._c)

    def shortcut(self, index: int) -> Any:
        """Return the C structure of a port that the loop may answer by itself (csrc/kvm/kvm.h)."""
        return self._c.shortcuts[index]

    def answer_acknowledgements(self, address: int, registers: GuestMemory) -> None:
        """Let the loop answer writes to InterruptACK in pages of virtio registers that begin at a guest-physical address."""
        window = self._c.window
        window.address, window.size = address, registers.size
        window.pages = registers.at(0)

    def prompt(self, index: int, address: int, queue: int, path: Any) -> None:
        """Let the loop serve a queue itself when the guest notifies of it.

        Args:
            index: which of lib.PROMPT entries to fill.
            address: guest-physical, of the device's registers, within those of answer_acknowledgements.
            queue: its number in the device and in its path.
            path: struct path *, which outlives run().
        """
        entry = self._c.window.prompts[index]
        entry.address, entry.queue, entry.path = address, queue, path

    def answer_absent(self, ports: bytes) -> None:
        """Let the loop answer for ports where there is no device.

        Args:
            ports: a bit for each: N % 8 of byte N / 8 is set where nobody is at port N.
        """
        ffi.memmove(self._c.absent.ports, ports, len(ports))

    @property
    def absent(self) -> dict[int, int]:
        """How often the loop has answered for each of them, by port << 1 | direction."""
        return {int(entry.key): int(entry.count) for entry in self._c.absent.asked if entry.count}

    @property
    def window(self) -> tuple[int, int]:
        """How many acknowledgements, and how many notifications, the loop has answered."""
        return int(self._c.window.acknowledged), int(self._c.window.prompted)

    def close(self) -> None:
        """Unmap kvm_run; no thread may be in run()."""
        self.page.release()
        lib.vcpu_destroy(self._c)
        self._c = self.kvm_run = None


def map_run(fd: int, size: int) -> Any:
    """Map the kvm_run of a vCPU. Returns the C side's struct vcpu *. Raises KvmError."""
    out = ffi.new("struct vcpu **")
    result = lib.vcpu_create(fd, size, out)
    if result < 0:
        raise KvmError("mmap", -result, f"length={size:#x}, fd={fd}")
    return out[0]


INTR = int(lib.KVM_EXIT_INTR)
INTERRUPTED = {4, 11}  # EINTR, EAGAIN (a vCPU that waits for its start-up interrupt)
