"""What Linux says of itself for those who read its dumps: sizes, places and its own random offset, as lines of text.

    a page of the kernel's   | 11 | length | 0 | "VMCOREINFO\0", padded | OSRELEASE=6.1.0-9-amd64
                                                                        | PAGESIZE=4096
                                                                        | SYMBOL(_stext)=ffffffff81000000
                                                                        | NUMBER(phys_base)=0  KERNELOFFSET=0 ...

The kernel lays it out as an ELF note when it starts (crash_save_vmcoreinfo_init in kernel/crash_core.c, since 6.9 in
kernel/vmcore_info.c), in pages of its own: so it begins where a page does. QEMU is told where by the guest's driver of fw_cfg
(docs/specs/vmcoreinfo.rst), which few guests load: we look at every page. What the lines mean:
Documentation/admin-guide/kdump/vmcoreinfo.rst.
"""

from __future__ import annotations

import re
from struct import unpack_from

from minivm.inspect.paging import walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from minivm.inspect.paging import Memory, Modes

__all__ = ["NAME", "code_at", "vmcoreinfo"]

NAME = b"VMCOREINFO"
PAGE = 0x1000
SIZE_AT, NAME_AT, TEXT_AT = 4, 12, 24  # offsets in the note
FIRST = NAME + b"\0\0OSRELEASE="  # how name and text begin
FIRST_BYTE = re.escape(bytes([len(NAME) + 1]))
MOST = 1 << 16  # bytes of text; the kernel's is less than a page, and two on some processors
START_KERNEL_MAP = 0xFFFF_FFFF_8000_0000  # arch/x86/include/asm/page_64_types.h


def vmcoreinfo(ranges: Sequence[tuple[int, memoryview]], modes: Modes, memory: Memory) -> bytes:
    """Return the lines of the Linux that runs; nothing where there are none.

    Args:
        ranges: (guest-physical address, bytes) of each range of RAM.
        modes, memory: as for paging.walk. Of several notes (a kernel that was replaced by kexec leaves its own, and any
            program may write one) it is the one whose kernel these page tables map; where none is, the first.
    """
    found = list(_notes(ranges))
    return next((text for text in found if _is_mapped(text, modes, memory)), found[0] if found else b"")


def _notes(ranges: Sequence[tuple[int, memoryview]]) -> Iterator[bytes]:
    """Yield the text of each note at the beginning of a page."""
    for base, view in ranges:
        begin = -base % PAGE
        firsts = bytes(view[begin::PAGE])  # of millions of pages nearly none begins so
        for found in re.finditer(FIRST_BYTE, firsts):
            place = begin + found.start() * PAGE
            if view[place + NAME_AT : place + NAME_AT + len(FIRST)] == FIRST:
                name_size, size, kind = unpack_from("<3I", view, place)
                if (name_size, kind) == (len(NAME) + 1, 0) and size < MOST and place + TEXT_AT + size <= len(view):
                    yield bytes(view[place + TEXT_AT : place + TEXT_AT + size])


def _is_mapped(text: bytes, modes: Modes, memory: Memory) -> bool:
    """Say whether the kernel's code lies where the text says that it was loaded."""
    virtual = code_at(text)
    loaded = re.search(rb"^NUMBER\(phys_base\)=(-?[0-9]{1,19})$", text, re.M)
    if virtual is None or not loaded:
        return False
    return walk(virtual, modes, memory).physical == virtual - START_KERNEL_MAP + int(loaded[1])


def code_at(text: bytes) -> int | None:
    """Return the address of the kernel's code, _stext, wherever KASLR put it; None where the lines do not say."""
    found = re.search(rb"^SYMBOL\(_stext\)=([0-9a-f]{1,16})$", text, re.M)
    return int(found[1], 16) if found else None
