"""Guest memory: pages of this process that the guest sees as its RAM."""

from __future__ import annotations

from minivm.errors import KvmError
from minivm.kvm._kvm import ffi, lib
from minivm.kvm.call import ioctl, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["GuestMemory", "offset_in", "set_user_memory_region"]


class GuestMemory:
    """Zeroed pages, from construction to close(); bounds are checked at each access.

    Args:
        size: bytes, a multiple of 4096.
        fd: of a memfd of that size, which another process may map as well, and which stays the caller's; -1: ours alone.

    Raises KvmError. man 2 mmap.
    """

    __slots__ = ("_address", "_bytes", "fd", "size")

    def __init__(self, size: int, fd: int = -1) -> None:
        out = ffi.new("uint8_t **")
        result = lib.memory_create(size, fd, out)
        if result < 0:
            raise KvmError("mmap", -result, f"length={size:#x}")
        self.size, self.fd = size, fd
        self._address: Any = out[0]
        self._bytes = memoryview(ffi.buffer(self._address, size)).cast("B")

    @property
    def address(self) -> int:
        """Where it lies in this process (a virtual address of the host)."""
        return pointer(self._address)

    def at(self, offset: int) -> Any:
        """Return the address of a byte, for C (uint8_t *); valid until close()."""
        return self._address + offset

    def view(self, offset: int, length: int) -> memoryview:
        """Return the bytes [offset, offset + length) themselves, not a copy; valid until close().

        Raises IndexError where they do not all lie in this memory.
        """
        if offset < 0 or length < 0 or offset + length > self.size:
            raise IndexError(f"{length:#x} bytes at {offset:#x} do not lie in {self.size:#x} bytes of guest memory")
        return self._bytes[offset : offset + length]

    def map_file(self, offset: int, length: int, fd: int, place: int) -> None:
        """Put a file's bytes in place of [offset, offset + length), without copying; written pages are this process's own.

        Args:
            offset, length, place: multiples of 4096; place is where in the file.

        Raises KvmError; IndexError as view() does. man 2 mmap, MAP_FIXED.
        """
        self.view(offset, length)
        result = lib.memory_map_file(self._address + offset, length, fd, place)
        if result < 0:
            raise KvmError("mmap", -result, f"length={length:#x}, fd={fd}, offset={place:#x}")

    def close(self) -> None:
        """Unmap the pages. No guest may run on them any more, and no view be used."""
        self._bytes.release()
        lib.memory_destroy(self._address, self.size)
        self._address = ffi.NULL


def offset_in(whole: Any, part: memoryview) -> int:
    """Return how many bytes of a buffer lie before a slice of it."""
    return pointer(ffi.from_buffer(part)) - pointer(ffi.from_buffer(whole))


def set_user_memory_region(vm: int, slot: int, address: int, memory: GuestMemory, flags: int = 0) -> None:
    """Show memory to the guest as RAM.

    Args:
        slot: number of the slot to set (uint32_t).
        address: guest-physical address where it begins, a multiple of 4096 (uint64_t).
        memory: must outlive the machine.
        flags: KVM_MEM_READONLY, KVM_MEM_LOG_DIRTY_PAGES.

    Raises KvmError.
    """
    region = ffi.new(
        "struct kvm_userspace_memory_region *",
        {
            "slot": slot,
            "flags": flags,
            "guest_phys_addr": address,
            "memory_size": memory.size,
            "userspace_addr": memory.address,
        },
    )
    shown = f"slot={slot}, guest_phys_addr={address:#x}, memory_size={memory.size:#x}"
    ioctl(vm, "KVM_SET_USER_MEMORY_REGION", pointer(region), shown)
