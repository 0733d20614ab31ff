"""A guest's memory and registers as an ELF core file, which gdb, crash and `minivm walk` open.

    header | program headers: PT_NOTE, PT_LOAD ... | notes | memory of the first range | of the next ...

    PT_LOAD   p_paddr: guest-physical address; p_vaddr: where the kernel has it mapped, for gdb. A page that is mapped twice
              has two headers and lies in the file once. What is mapped nowhere has p_vaddr 0, for crash.
    notes     per processor: NT_PRSTATUS by "CORE" (struct elf_prstatus: the general registers as ptrace gives them), and one by
              "QEMU" (include/hw/core/cpu and target/i386/arch_dump.c there): control registers and segments. crash finds
              the kernel's page tables and offset by it, and so do we. Of Linux also "VMCOREINFO" (vmcoreinfo.py), by which
              crash, drgn and makedumpfile know the kernel's release, its random offset and the layout of its memory.

Pages of zeroes are holes in the file. man 5 elf, man 5 core.
"""

from __future__ import annotations

import contextlib
import os
from struct import calcsize, pack, unpack_from

from minivm import kvm
from minivm.errors import MinivmError
from minivm.inspect.mappings import mappings
from minivm.inspect.paging import Modes
from minivm.inspect.vmcoreinfo import NAME, code_at, vmcoreinfo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any, BinaryIO

    Memory = Sequence[tuple[int, memoryview]]  # (guest-physical address, bytes) of each range of RAM

__all__ = ["Core", "open_core", "write_core"]

HEADER, PROGRAM = 64, 56  # bytes of each
CORE_FILE, LOAD, NOTE, X86_64 = 4, 1, 4, 62
PAGE = 0x1000
CHUNK = 1 << 20
MOST_NOTES = 1 << 24  # bytes that are read of a file that may be damaged
MOST_HEADERS = 0xFFF0  # e_phnum has 16 bits, and 0xffff means something else
PRSTATUS, PRSTATUS_SIZE, REGISTERS_AT, PID_AT = 1, 336, 112, 32  # struct elf_prstatus of <sys/procfs.h>
ORDER = ("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi")
QEMU_REGISTERS = ("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", *(f"r{n}" for n in range(8, 16)), "rip", "rflags")
QEMU_SEGMENTS = ("cs", "ds", "es", "fs", "gs", "ss", "ldt", "tr", "gdt", "idt")
SEGMENT = "<IIIIQ"  # selector, limit, flags, padding, base
QEMU_SIZE = 8 + 8 * 18 + calcsize(SEGMENT) * 10 + 8 * 5 + 8
CONTROL_AT = 8 + 8 * 18 + calcsize(SEGMENT) * 10


def write_core(path: str, memory: Memory, vcpus: Sequence[int], file: BinaryIO | None = None) -> int:
    """Write the file.

    Args:
        memory: the RAM.
        vcpus: file descriptors of the processors, which stand still; the first one's page tables say what is mapped.
        file: of that path, where it is open already; stays the caller's.

    Returns how many bytes of it are not holes. Raises MinivmError.
    """
    modes, read = Modes.of(kvm.get_sregs(vcpus[0])), _reader(memory)
    notes = b"".join(_notes(number, fd) for number, fd in enumerate(vcpus))
    about = vmcoreinfo(memory, modes, read)
    notes += _note(NAME, 0, about) if about else b""
    segments = _segments(memory, modes, read)
    start = -(-(HEADER + PROGRAM * (1 + len(segments)) + len(notes)) // PAGE) * PAGE
    places, place = [], start
    for base, view in memory:
        places.append((base, len(view), place))
        place += len(view)
    try:
        with open(path, "wb") if file is None else contextlib.nullcontext(file) as file:
            file.truncate(0)  # so that what is not written is a hole
            file.write(_headers(segments, places, len(notes)) + notes)
            written = sum(_write_sparse(file, view, where) for (_, view), (_, _, where) in zip(memory, places, strict=True))
            file.truncate(place)
            file.flush()
            return written
    except OSError as error:
        raise MinivmError(f"cannot write dump {path!r}: {error.strerror}") from None


def _reader(memory: Memory) -> Callable[[int, int], memoryview]:
    """Return what reads guest-physical memory, as the walks want it."""

    def read(address: int, length: int) -> memoryview:
        for base, view in memory:
            if base <= address <= address + length <= base + len(view):
                return view[address - base : address - base + length]
        raise IndexError(address)

    return read


def _segments(memory: Memory, modes: Modes, read: Callable[[int, int], memoryview]) -> list[tuple[int, int, int]]:
    """Return (virtual address, physical address, bytes) of what each PT_LOAD says; 0 is a virtual address for "none"."""
    ranges = [(base, len(view)) for base, view in memory]
    mapped = [
        part for virtual, physical, length in mappings(modes, read) for part in _inside(virtual, physical, length, ranges)
    ]
    mapped.sort(key=lambda item: -item[2])
    return sorted(mapped[: MOST_HEADERS - len(ranges)]) + [(0, base, length) for base, length in ranges]


def _inside(virtual: int, physical: int, length: int, ranges: list[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """Yield the parts of a mapping that lead to RAM."""
    for base, size in ranges:
        first, last = max(physical, base), min(physical + length, base + size)
        if first < last:
            yield virtual + first - physical, first, last - first


def _headers(segments: list[tuple[int, int, int]], places: list[tuple[int, int, int]], notes: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    count = 1 + len(segments)
    out = ident + pack("<HHIQQQIHHHHHH", CORE_FILE, X86_64, 1, 0, HEADER, 0, 0, HEADER, PROGRAM, count, 0, 0, 0)
    out += pack("<IIQQQQQQ", NOTE, 0, HEADER + PROGRAM * count, 0, 0, notes, notes, 0)
    for virtual, physical, length in segments:
        offset = next(place + physical - base for base, size, place in places if base <= physical < base + size)
        out += pack("<IIQQQQQQ", LOAD, 7, offset, virtual, physical, length, length, 0)
    return out


def _write_sparse(file: BinaryIO, view: memoryview, place: int) -> int:
    """Write memory at a place of the file, leaving out what is zero. Returns the bytes written."""
    zero, zeroes, written = bytes(PAGE), bytes(CHUNK), 0
    for start in range(0, len(view), CHUNK):
        chunk = view[start : start + CHUNK]
        if chunk == zeroes[: len(chunk)]:
            continue
        for inside in range(0, len(chunk), PAGE):
            page = chunk[inside : inside + PAGE]
            if page != zero[: len(page)]:
                written += os.pwrite(file.fileno(), page, place + start + inside)
    return written


# --- notes ---


def _notes(number: int, vcpu: int) -> bytes:
    regs, sregs = kvm.get_regs(vcpu), kvm.get_sregs(vcpu)
    return _note(b"CORE", PRSTATUS, _prstatus(number, regs, sregs)) + _note(b"QEMU", 0, _qemu(vcpu, regs, sregs))


def _note(name: bytes, kind: int, data: bytes) -> bytes:
    """Return a note: name and contents are padded to 4 bytes."""
    name += b"\0"
    padded = [part.ljust(-(-len(part) // 4) * 4, b"\0") for part in (name, data)]
    return pack("<III", len(name), len(data), kind) + b"".join(padded)


def _prstatus(number: int, regs: Any, sregs: Any) -> bytes:
    """Return struct elf_prstatus: the thread's number, and struct user_regs_struct (sys/user.h)."""
    values = [getattr(regs, name) for name in ORDER]
    values += [(1 << 64) - 1, regs.rip, sregs.cs.selector, regs.rflags, regs.rsp, sregs.ss.selector]
    values += [sregs.fs.base, sregs.gs.base, sregs.ds.selector, sregs.es.selector, sregs.fs.selector, sregs.gs.selector]
    out = bytearray(PRSTATUS_SIZE)
    out[PID_AT : PID_AT + 4] = pack("<I", number + 1)
    out[REGISTERS_AT : REGISTERS_AT + 8 * len(values)] = pack(f"<{len(values)}Q", *values)
    return bytes(out)


def _qemu(vcpu: int, regs: Any, sregs: Any) -> bytes:
    """Return QEMUCPUState (target/i386/arch_dump.c): version, size, registers, segments, CR0 to CR4, kernel_gs_base."""
    out = pack("<II", 1, QEMU_SIZE) + pack("<18Q", *(getattr(regs, name) for name in QEMU_REGISTERS))
    for name in QEMU_SEGMENTS:
        segment = getattr(sregs, name)
        out += pack(SEGMENT, getattr(segment, "selector", 0), segment.limit, _flags(segment), 0, segment.base)
    out += pack("<5Q", sregs.cr0, 0, sregs.cr2, sregs.cr3, sregs.cr4)
    return out + pack("<Q", kvm.get_msr(vcpu, 0xC0000102) or 0)


def _flags(segment: Any) -> int:
    """Return a segment's attributes where the second word of its descriptor has them; none for GDT and IDT."""
    if not hasattr(segment, "dpl"):
        return 0
    low = segment.type | segment.s << 4 | segment.dpl << 5 | segment.present << 7
    return int(low << 8 | segment.avl << 20 | segment.l << 21 | segment.db << 22 | segment.g << 23)


# --- reading it back ---


class Core:
    """A core file of a guest.

    Args:
        fd: of the file, which stays the caller's.

    Raises ValueError where it is none.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        header = os.pread(fd, HEADER, 0)
        if len(header) < HEADER or header[:5] != b"\x7fELF\x02" or unpack_from("<H", header, 16)[0] != CORE_FILE:
            raise ValueError("no core file of 64 bits")
        (table,), (count,) = unpack_from("<Q", header, 32), unpack_from("<H", header, 56)
        data = self._read(table, PROGRAM * count)
        headers = [unpack_from("<IIQQQQQQ", data, PROGRAM * number) for number in range(count)]
        self._ranges = sorted({(physical, offset, size) for kind, _, offset, _, physical, size, _, _ in headers if kind == LOAD})
        self.modes: list[Modes] = []  # of each processor
        self.code: int | None = None  # where Linux says that its code is (vmcoreinfo.py)
        for kind, _, offset, _, _, size, _, _ in headers:
            if kind == NOTE:
                self._read_notes(self._read(offset, min(size, MOST_NOTES)))
        if not self.modes:
            raise ValueError("it has no note about control registers: not a guest's, or not written by minivm or QEMU")

    def _read(self, offset: int, length: int) -> bytes:
        data = os.pread(self._fd, length, offset) if offset < 1 << 63 else b""
        if len(data) < length:
            raise ValueError(f"it is cut off: {length} bytes at {offset:#x} are missing")
        return data

    def _read_notes(self, notes: bytes) -> None:
        place = 0
        while place + 12 <= len(notes):
            name_size, size, _ = unpack_from("<III", notes, place)
            start = place + 12 + -(-name_size // 4) * 4
            state = notes[start : start + size]
            if notes[place + 12 : place + 12 + name_size] == b"QEMU\0" and len(state) >= QEMU_SIZE - 8:
                self.modes.append(_modes(state))
            if notes[place + 12 : place + 12 + name_size] == NAME + b"\0":
                self.code = code_at(state)
            place = start + -(-size // 4) * 4

    def bytes_at(self, address: int, length: int) -> bytes:
        """Return guest-physical memory. Raises IndexError where the dump has none."""
        for physical, offset, size in self._ranges:
            if physical <= address and address + length <= physical + size:
                try:
                    return self._read(offset + address - physical, length)
                except ValueError as error:
                    raise IndexError(str(error)) from None
        raise IndexError(f"{address:#x} is not in the dump")


def _modes(state: bytes) -> Modes:
    """Return the paging modes of a QEMUCPUState, which lacks EFER: LMA is what a 64-bit code segment, or PAE with paging, tells."""
    cr0, _, _, cr3, cr4 = unpack_from("<5Q", state, CONTROL_AT)
    (cs_flags,) = unpack_from("<I", state, 8 + 8 * 18 + 8)
    long_mode = cs_flags >> 21 & 1
    return Modes(cr0, cr3, cr4, 0x500 if long_mode else 0)


@contextlib.contextmanager
def open_core(path: str) -> Iterator[Core]:
    """Open a core file. Raises MinivmError that says why it is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            yield Core(file.fileno())
    except OSError as error:
        raise MinivmError(f"cannot read dump {path!r}: {error.strerror}") from None
    except ValueError as error:
        raise MinivmError(f"{path!r}: {error}") from None
