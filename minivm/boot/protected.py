"""Protected mode: 32 bits, paging off. What a Multiboot loader and Xen's PVH leave a kernel in.

The same segments as in longmode.py, with 32-bit code instead of 64-bit; an address is physical from the first
instruction on. Intel SDM volume 3A, 3.4.5 "Segment descriptors" and 9.8.1.
"""

from __future__ import annotations

from struct import pack

from minivm.boot.longmode import CODE, CR0_ET, CR0_PE, DATA, TSS_BUSY, Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Registers

__all__ = ["gdt32", "special_registers32"]

CODE32 = Segment(0x08, CODE)
DATA32 = Segment(0x10, DATA)
VECTORS = 256  # of real mode, 4 bytes each


def gdt32() -> bytes:
    """Return a GDT: the null descriptor, code and data of 4 GiB from address 0."""
    return pack("<3Q", 0, CODE32.descriptor(), DATA32.descriptor())


def special_registers32(gdt_address: int, gdt_size: int) -> Registers:
    """Return the fields of struct kvm_sregs for 32-bit code in ring 0 without paging.

    Args:
        gdt_address, gdt_size: where the GDT lies; bytes.
    """
    data = DATA32.register()
    return {
        "cs": CODE32.register(),
        "ds": data,
        "es": data,
        "fs": data,
        "gs": data,
        "ss": data,
        "tr": {"base": 0, "limit": 0x67, "selector": 0, "type": TSS_BUSY, "present": 1, "s": 0},
        "gdt": {"base": gdt_address, "limit": gdt_size - 1},
        "idt": {"base": 0, "limit": VECTORS * 4 - 1},  # as a BIOS leaves it: a kernel may go on in real mode with no LIDT
        "cr0": CR0_PE | CR0_ET,  # ET is always 1 on processors since the 486
        "cr4": 0,
        "efer": 0,
    }
