"""What a qcow2 file stands on: its base, that one's base, and so on, each a file that the image's maker chose by its name.

That name may be any of this host's: an image from elsewhere with /etc/shadow, or a key, as its base would show that to its guest.
So nothing is followed that does not lie beside the image, or in our cache, or was named by whoever starts the machine
(`--disk FILE,base=BASE`). What is followed is told to QEMU file by file: it looks for none by itself, neither for bases in other
forms that name more files yet.

    0   magic "QFI\\xfb" | 4 version | 8 where the base's name is (8) | 16 its length (4) | ...
    72  from version 3 on: incompatible features (8), of which bit 2 is: the data is in another file | ...  100 length of all this
    and behind it extensions: type (4) | length (4) | data, up to a multiple of 8; type 0xe2792aca is the base's format

QEMU docs/interop/qcow2.
"""

from __future__ import annotations

import os
from stat import S_ISBLK, S_ISREG
from struct import unpack_from

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["block", "chain"]

MAGIC = b"QFI\xfb"
EXTERNAL_DATA, BASE_FORMAT = 1 << 2, 0xE2792ACA
HEAD = 4096  # bytes in which header, extensions and the base's name are looked for first
LONGEST_NAME = 1023
DEEPEST = 64  # bases; QEMU's own limit is its stack


def block(path: str, *, base: str = "", read_only: bool = False) -> dict[str, Any]:
    """Return what QEMU is to open, as a BlockdevOptions (QEMU QMP reference) that names each file.

    Args:
        path: of a file that is to be qcow2; whether it is, QEMU says.
        base: a file, or a directory with files, that the user named as a base.
        read_only: whether the image itself is only to be read; its bases always are.

    Raises MinivmError for a base that is not to be followed.
    """
    made: dict[str, Any] | None = None
    for number, (file, driver) in reversed(list(enumerate(chain(path, base)))):
        how = {"discard": "unmap"} if number == 0 and not read_only else {"read-only": True}
        made = {"driver": driver, "file": {"driver": "file", "filename": file, **how}, **how} | (
            {"backing": made} if driver == "qcow2" else {}
        )
    assert made is not None
    return made


def chain(path: str, base: str = "") -> list[tuple[str, str]]:
    """Return (file, form) of an image and of what it stands on, the image first. Raises as `block`."""
    found = [(path, "qcow2")]
    while found[-1][1] == "qcow2" and (below := _below(found[-1][0])):
        file, form = below
        if not _is_allowed(found[-1][0], file, base):
            raise MinivmError(
                f"{found[-1][0]!r} stands on {file!r}, which does not lie beside it: if you trust it, --disk {path},base={file}"
            )
        found.append((file, form or _guess(file)))
        if len(found) > DEEPEST:
            raise MinivmError(f"{path!r} stands on more than {DEEPEST} files, or on itself")
    return found


def _below(path: str) -> tuple[str, str] | None:
    """Return the path and the form of an image's base, "" for a form that is not said; None without one."""
    head = _read(path, 0, HEAD)
    if head[:4] != MAGIC or len(head) < 72:
        return None
    version, place, length = unpack_from(">IQI", head, 4)
    extended = version >= 3 and len(head) >= 104  # of version 3 QEMU opens no shorter one
    if extended and unpack_from(">Q", head, 72)[0] & EXTERNAL_DATA:
        raise MinivmError(f"{path!r} has its data in another file, which is not followed: qemu-img convert makes one of both")
    if not place:
        return None
    if length > LONGEST_NAME or place >= 1 << 62:
        raise MinivmError(f"{path!r} is damaged: its base's name is {length} bytes long")
    name = os.fsdecode(_read(path, place, length))
    if not name or "\0" in name or ":" in name.partition("/")[0]:  # as QEMU tells a protocol, nbd: or json:
        raise MinivmError(f"{path!r} stands on {name!r}, which is no file: qemu-img convert makes a disk that stands alone")
    form = _form(path, head, unpack_from(">I", head, 100)[0] if extended else 72)
    return os.path.join(os.path.dirname(path), name), form


def _form(path: str, head: bytes, place: int) -> str:
    """Return the base's form, as the image says it."""
    while place + 8 <= len(head):
        kind, length = unpack_from(">II", head, place)
        if kind == 0:
            break
        if kind == BASE_FORMAT:
            form = head[place + 8 : place + 8 + length].decode(errors="replace")
            if form not in ("raw", "qcow2"):
                raise MinivmError(f"{path!r} stands on a file of the form {form!r}, not raw or qcow2: use qemu-img convert")
            return form
        place += 8 + -(-length // 8) * 8
    return ""


def _is_allowed(image: str, file: str, base: str) -> bool:
    """Say whether a base may be followed, wherever links lead."""
    from minirt.paths import cache_root

    real, beside = os.path.realpath(file), os.path.dirname(os.path.realpath(image))
    if base and (_is_inside(real, os.path.realpath(base)) or real == os.path.realpath(base)):
        return True
    # what is hidden there, as ~/.ssh is, nobody laid beside an image
    hidden = any(part.startswith(".") for part in os.path.relpath(real, beside).split("/"))
    return (_is_inside(real, beside) and not hidden) or _is_inside(real, os.path.realpath(cache_root()))


def _is_inside(path: str, directory: str) -> bool:
    return path.startswith(directory.rstrip("/") + "/")


def _guess(path: str) -> str:
    """Return the form of a base of which the image does not say it, as QEMU does: by how it begins."""
    return "qcow2" if _read(path, 0, 4) == MAGIC else "raw"


def _read(path: str, place: int, length: int) -> bytes:
    """Return bytes of a file; fewer, or none, where it ends before. Raises MinivmError."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(fd).st_mode
            if not (S_ISREG(mode) or S_ISBLK(mode)):
                raise MinivmError(f"disk {path!r} is no file")
            return os.pread(fd, length, place)
        finally:
            os.close(fd)
    except OSError as error:
        raise MinivmError(f"cannot read disk {path!r}: {error.strerror}") from None
