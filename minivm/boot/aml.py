"""AML: the byte code in which ACPI describes devices, as far as a description with hardly any code needs it.

Each function returns the bytes of one term; a program is terms one behind the other. ACPI Specification 6.5, section
20.2 "AML Grammar Definition" names the opcodes, 6.4 the resource descriptors. What ASL, the source language, would
say stands at each function.
"""

from __future__ import annotations

from struct import pack

__all__ = [
    "buffer",
    "device",
    "eisa_id",
    "integer",
    "interrupt",
    "io_ports",
    "memory32",
    "method",
    "name",
    "notify",
    "package",
    "resources",
    "scope",
    "string",
]


def integer(value: int) -> bytes:
    """A number, in the shortest form: Zero, One, or a prefix with 1, 2, 4 or 8 bytes (20.2.3)."""
    if value < 2:
        return bytes((value,))
    for prefix, size in ((0x0A, 1), (0x0B, 2), (0x0C, 4)):
        if value < 1 << 8 * size:
            return bytes((prefix,)) + value.to_bytes(size, "little")
    return b"\x0e" + value.to_bytes(8, "little")


def string(text: str) -> bytes:
    """A string of ASCII: "text"."""
    return b"\x0d" + text.encode("ascii") + b"\0"


def eisa_id(text: str) -> bytes:
    """A Plug and Play id as a number: EisaId("PNP0501"). Three letters of 5 bits, four hexadecimal digits, big-endian."""
    letters = (ord(text[0]) - 0x40) << 10 | (ord(text[1]) - 0x40) << 5 | ord(text[2]) - 0x40
    return b"\x0c" + pack(">HH", letters, int(text[3:], 16))


def path(text: str) -> bytes:
    r"""Names of up to four letters with a dot between, each padded with _; `\` before them begins at the root (20.2.2)."""
    root, names = (b"\\", text[1:]) if text.startswith("\\") else (b"", text)
    segments = [segment.ljust(4, "_").encode("ascii") for segment in names.split(".")]
    if len(segments) > 2:
        raise ValueError(f"{text!r}: one name or two")
    return root + (b"\x2e" if len(segments) == 2 else b"") + b"".join(segments)


def name(where: str, value: bytes) -> bytes:
    """Name (where, value)."""
    return b"\x08" + path(where) + value


def package(*elements: bytes) -> bytes:
    """Package () { elements }."""
    return b"\x12" + _sized(bytes((len(elements),)) + b"".join(elements))


def buffer(data: bytes) -> bytes:
    """Buffer () { data }."""
    return b"\x11" + _sized(integer(len(data)) + data)


def scope(where: str, *terms: bytes) -> bytes:
    """Scope (where) { terms }."""
    return b"\x10" + _sized(path(where) + b"".join(terms))


def device(where: str, *terms: bytes) -> bytes:
    """Device (where) { terms }."""
    return b"\x5b\x82" + _sized(path(where) + b"".join(terms))


def method(where: str, arguments: int, *terms: bytes) -> bytes:
    """Method (where, arguments, Serialized) { terms }: what the kernel runs (20.2.5.2)."""
    return b"\x14" + _sized(path(where) + bytes((arguments | 1 << 3,)) + b"".join(terms))


def notify(what: str, value: int) -> bytes:
    """Notify (what, value): tell the driver of a device that something happened to it (20.2.5.3)."""
    return b"\x86" + path(what) + integer(value)


def resources(*descriptors: bytes) -> bytes:
    """ResourceTemplate () { descriptors }; a checksum of 0 in the end tag means that there is none (6.4.2.9)."""
    return buffer(b"".join(descriptors) + b"\x79\0")


def io_ports(first: int, count: int) -> bytes:
    """IO (Decode16, first, first, 0, count)  (6.4.2.5)."""
    return pack("<BBHHBB", 0x47, 1, first, first, 0, count)


def memory32(address: int, size: int) -> bytes:
    """Memory32Fixed (ReadWrite, address, size)  (6.4.3.4)."""
    return pack("<BHBII", 0x86, 9, 1, address, size)


def interrupt(number: int) -> bytes:
    """Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { number }, a global system interrupt (6.4.3.6)."""
    return pack("<BHBBI", 0x89, 6, 0b11, 1, number)


def _sized(body: bytes) -> bytes:
    """Return PkgLength and body: the length counts its own bytes too, one to four of them (20.2.4)."""
    for more in range(4):
        length = len(body) + 1 + more
        if length < (1 << 6 if not more else 1 << 4 + 8 * more):
            break
    else:
        raise ValueError(f"{len(body)} bytes are too long for an AML package")
    if not more:
        return bytes((length,)) + body
    return bytes((more << 6 | length & 0xF,)) + (length >> 4).to_bytes(more, "little") + body
