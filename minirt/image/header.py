"""One entry of a tar, out of its header block and the extended records before it (man 5 tar; POSIX pax).

Nothing here is to be trusted: a name may be any bytes, a number any number.
"""

from __future__ import annotations

from minirt.image.errors import BadArchive

__all__ = ["GNU_LONG", "GNU_SPARSE", "KINDS", "Entry", "Header", "apply_pax", "decimal", "number", "pax_records"]

KINDS = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file", b"1": "hardlink", b"2": "symlink", b"3": "char", b"4": "block",
    b"5": "directory", b"6": "fifo",
}  # fmt: skip
GNU_SPARSE = b"S"
GNU_LONG = {b"L": b"path", b"K": b"linkpath"}
_XATTR = b"SCHILY.xattr."


class Entry:
    """One thing in an archive."""

    __slots__ = (
        "device", "gid", "kind", "link", "mode", "mtime", "name", "segments", "size", "stored", "uid", "xattrs",
    )  # fmt: skip

    def __init__(self, name: bytes, kind: str) -> None:
        self.name = name  # as it stands in the archive: not to be trusted
        self.kind = kind  # file, directory, symlink, hardlink, char, block, fifo
        self.mode = 0o644  # permission bits, setuid, setgid, sticky
        self.uid = 0
        self.gid = 0
        self.mtime = 0  # ns since the epoch
        self.size = 0  # bytes as seen by stat
        self.stored = 0  # bytes of data in the archive: fewer where the file is sparse
        self.segments: list[tuple[int, int]] | None = None  # (offset, bytes) of a sparse file's data
        self.link = b""  # a symbolic link's text, or the name that a hard link is another of
        self.device = (0, 0)  # major, minor
        self.xattrs: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name!r}>"


class Header:
    """The fields of a header block. Raises ValueError where the checksum is wrong, BadArchive where a number is none."""

    __slots__ = ("block", "name", "size", "type")

    def __init__(self, block: bytes) -> None:
        have = number(block[148:156])
        total = sum(block) - sum(block[148:156]) + 8 * 32
        if have != total and have != total - 256 * sum(byte > 127 for byte in block[:148] + block[156:]):
            raise ValueError("checksum")  # the second sum is of signed bytes, as some old tars had it
        self.block = block
        self.type = block[156:157]
        self.size = number(block[124:136])
        self.name = _text(block[:100])
        prefix = _text(block[345:500])
        if prefix and self.type not in (*GNU_LONG, GNU_SPARSE):
            self.name = prefix + b"/" + self.name

    def entry(self, kind: str) -> Entry:
        """Return the entry that the block alone describes."""
        block = self.block
        entry = Entry(self.name, kind)
        entry.mode = number(block[100:108]) & 0o7777
        entry.uid, entry.gid = number(block[108:116]), number(block[116:124])
        entry.mtime = number(block[136:148]) * 10**9
        entry.link = _text(block[157:257])
        if kind in ("char", "block"):
            entry.device = (number(block[329:337]), number(block[337:345]))
        return entry


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """Parse `LENGTH KEY=VALUE newline` records, LENGTH counting the whole record (man 5 tar, pax). Raises BadArchive."""
    records = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 20)
        length = decimal(data[at:space]) if space > at else 0
        record = data[space + 1 : at + length]
        key, equals, value = record.partition(b"=")
        if space < 0 or at + length > len(data) or record[-1:] != b"\n" or not equals:
            raise BadArchive("an extended header is malformed")
        records.append((key, value[:-1]))
        at += length
    return records


def apply_pax(entry: Entry, pax: dict[bytes, bytes]) -> None:
    """Let extended records replace what the header block says. Raises BadArchive."""
    for key, value in pax.items():
        if key == b"path":
            if b"GNU.sparse.name" not in pax:  # else it is a made-up name for tars that know no sparse files
                entry.name = value
        elif key == b"GNU.sparse.name":
            entry.name = value
        elif key == b"linkpath":
            entry.link = value
        elif key == b"size":
            entry.stored = decimal(value) if entry.kind == "file" else 0
        elif key == b"uid":
            entry.uid = decimal(value)
        elif key == b"gid":
            entry.gid = decimal(value)
        elif key == b"mtime":
            entry.mtime = _nanoseconds(value)
        elif key.startswith(_XATTR):
            entry.xattrs[key[len(_XATTR) :].decode("utf-8", "surrogateescape")] = value


def decimal(text: bytes) -> int:
    """Return the number that decimal digits are. Raises BadArchive."""
    if not text.isdigit() or len(text) > 20:
        raise BadArchive(f"{text[:30]!r} stands where a number should")
    return int(text)


def number(field: bytes) -> int:
    """Return the number in a header field: octal text, or base 256 after a byte 0x80, which 0xff makes negative.

    Raises BadArchive.
    """
    if field[0] in (0x80, 0xFF):
        return int.from_bytes(field[1:], "big") - (1 << 8 * (len(field) - 1) if field[0] == 0xFF else 0)
    text = _text(field).strip()
    try:
        return int(text or b"0", 8)
    except ValueError:
        raise BadArchive(f"{text!r} stands where an octal number should") from None


def _nanoseconds(text: bytes) -> int:
    """Seconds as a decimal fraction, exactly: a float has not enough digits for nanoseconds."""
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    value = decimal(whole or b"0") * 10**9 + decimal((fraction + b"0" * 9)[:9])
    return -value if text.startswith(b"-") else value
