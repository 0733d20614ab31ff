"""Guest memory as gdb asks for it: by the virtual addresses of a processor, without what a debugger has put into it.

An address is translated by the page tables that CR3 of that processor points to. Before a kernel has made its tables, the
addresses that it is linked for mean nothing to the processor; then the program headers of its file say where the
boot loader put it (`segments`), and the log says that this was used.
"""

from __future__ import annotations

from copy import copy

from minivm import kvm
from minivm.inspect.paging import Modes, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Bytes = Callable[[int, int], memoryview]  # (guest-physical address, length) -> memory itself; IndexError

__all__ = ["GuestView"]

PAGE = 0x1000
WRAP = (1 << 64) - 1


class GuestView:
    """Memory by virtual address.

    Args:
        bytes_at: gives guest-physical memory.
        segments: (virtual address, physical address, bytes) of the kernel's file.
        log: told, once, when they are used.
    """

    def __init__(self, bytes_at: Bytes, segments: Sequence[tuple[int, int, int]], log: Callable[[str], None]) -> None:
        self._bytes_at, self._segments, self._log = bytes_at, segments, log
        self._told = False
        self.physical = False  # addresses are physical ones (`monitor physical on`)
        self.patched: dict[int, int] = {}  # physical address -> the byte that the guest has there

    def own(self) -> GuestView:
        """Return the same memory by the guest's own addresses, whatever gdb has been promised: for what we look up ourselves."""
        view = copy(self)
        view.physical = False
        return view

    def translate(self, vcpu: int, address: int) -> tuple[int, int]:
        """Return (physical address, bytes from there to the end of its page). Raises IndexError where there is none.

        Args:
            vcpu: file descriptor of the processor whose tables count; it stands still.
        """
        if self.physical:
            return address, PAGE - address % PAGE
        found = walk(address, Modes.of(kvm.get_sregs(vcpu)), self._bytes_at)
        if found.physical is not None and (found.entries or address < 1 << 32):
            size = found.size or PAGE
            return found.physical, size - (address & size - 1)
        for virtual, physical, length in self._segments:
            if virtual <= address < virtual + length:
                self._tell()
                return physical + address - virtual, virtual + length - address
        raise IndexError(f"{address:#x}: {found.fault or 'no such address without paging'}")

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            self._log("the guest has no page tables for its own addresses yet: they are taken from the kernel file's headers")

    def pieces(self, vcpu: int, address: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (physical address, length) for each part of a range that lies in one page. Raises IndexError."""
        while length > 0:
            physical, most = self.translate(vcpu, address & WRAP)
            part = min(length, most)
            yield physical, part
            address, length = address + part, length - part

    def read(self, vcpu: int, address: int, length: int) -> bytes:
        """Return memory, as far as it can be read. Raises IndexError where not a byte can."""
        out = bytearray()
        try:
            for physical, part in self.pieces(vcpu, address, length):
                out += self._clean(physical, bytes(self._bytes_at(physical, part)))
        except IndexError:
            if not out:
                raise
        return bytes(out)

    def _clean(self, physical: int, data: bytes) -> bytes:
        """Return bytes as the guest has them, where breakpoints lie among them."""
        inside = [at for at in self.patched if physical <= at < physical + len(data)]
        if not inside:
            return data
        copy = bytearray(data)
        for at in inside:
            copy[at - physical] = self.patched[at]
        return bytes(copy)

    def write(self, vcpu: int, address: int, data: bytes) -> None:
        """Change memory; under a breakpoint, what will be there after it. Raises IndexError, with nothing changed."""
        pieces = [(at, part, self._bytes_at(at, part)) for at, part in self.pieces(vcpu, address, len(data))]
        for physical, part, view in pieces:
            for place in range(part):
                if physical + place in self.patched:
                    self.patched[physical + place] = data[place]
                else:
                    view[place] = data[place]
            data = data[part:]

    def patch(self, places: list[int], code: bytes) -> None:
        """Put a breakpoint's bytes into memory. Raises IndexError, with nothing changed.

        Args:
            places: the physical address of each byte: they may lie in two pages that are no neighbours.
        """
        views = [self._bytes_at(physical, 1) for physical in places]
        for physical, view, byte in zip(places, views, code, strict=True):
            self.patched.setdefault(physical, view[0])
            view[0] = byte

    def restore(self, places: list[int]) -> None:
        """Take a breakpoint's bytes out again."""
        for physical in places:
            if physical in self.patched:
                self._bytes_at(physical, 1)[0] = self.patched.pop(physical)

    def snapshot(self, pieces: list[tuple[int, int]]) -> bytes:
        """Return the bytes at physical pieces."""
        return b"".join(bytes(self._bytes_at(physical, length)) for physical, length in pieces)
