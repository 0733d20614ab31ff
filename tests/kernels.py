"""Small kernel files of Linux's formats, written by hand."""

from __future__ import annotations

import struct

from minivm.boot import bzimage

MIB = 1 << 20
KERNEL = bytes(range(256)) * 16


def make_bzimage(payload: bytes = b"", **changes: int) -> bytes:
    """Write a bzImage of protocol 2.15 with one sector of setup code, and the payload 0x300 bytes into the kernel."""
    fields = {name: 0 for name, _ in bzimage.FIELDS}
    fields |= {"setup_sects": 1, "boot_flag": 0xAA55, "jump": 0x6AEB, "header": b"HdrS", "version": 0x20F}
    fields |= {"initrd_addr_max": 0x7FFF_FFFF, "kernel_alignment": 2 * MIB, "relocatable_kernel": 1, "xloadflags": 3}
    fields |= {"cmdline_size": 2047, "payload_offset": 0x300, "payload_length": len(payload)}
    fields |= {"pref_address": 16 * MIB, "init_size": 8 * MIB} | changes
    head = bytearray(1024)
    struct.pack_into(bzimage.FORMAT, head, bzimage.HEADER_START, *fields.values())
    return bytes(head) + KERNEL[:0x300] + payload + b"\0" * 64


def make_pvh(entry: int = MIB + 4, note: bytes | None = None, name: bytes = b"Xen\0") -> bytes:
    """Write an ELF file with one segment to load and one of notes."""
    note = struct.pack("<III", len(name), 4, 18) + name + struct.pack("<I", entry) if note is None else note
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, MIB, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, 176, MIB, MIB, 16, 4096, 4096)
    head += struct.pack("<IIQQQQQQ", 4, 4, 192, 0, 0, len(note), len(note), 4)
    return head + b"\x90" * 16 + note
