"""Compiled filters on disk, so that a container start need not compile.

One file a filter, named by a digest of all that it was made from: the profile, the architecture,
and the sources of the compiler itself. A file is written under another name and renamed, so that it is
whole or not there; it says its key and a checksum, so that what is read is what was meant. A filter decides
what a container may do: a file that another user could have written is not read.

A cache that cannot be read or written costs time and nothing else: no function here raises for it.
"""

from __future__ import annotations

import marshal
import os
import stat
import struct

try:
    from _blake2 import blake2b  # what hashlib.blake2b is; hashlib itself would load OpenSSL, 2 ms
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["key_of", "load", "store"]

MAGIC = b"minirt-seccomp-1"
HEAD = struct.Struct("=16s32s16sII")  # magic, key, checksum of the rest, flags, bytes of program
SOURCES = ("bpf.py", "compiler.py", "profile.py", "engines.py", "tables.py", "syscalls.tbl", "default.json")

_version: bytes | None = None


def _compiler_version() -> bytes:
    """Return size and time of each source: an edit or an upgrade must not meet the old program."""
    global _version
    if _version is None:
        marks = []
        folder = os.path.dirname(__file__)
        for name in SOURCES:
            try:
                found = os.stat(os.path.join(folder, name))
                marks += [found.st_size, found.st_mtime_ns]
            except OSError:
                marks += [0, 0]
        _version = repr(marks).encode()
    return _version


def key_of(*inputs: Any) -> bytes:
    """Return the digest (32 bytes) of what a filter is made from: plain JSON values.

    marshal in version 2 writes equal values equally (later versions depend on how often an object is
    referred to), and in a tenth of the time of json.
    """
    return blake2b(marshal.dumps(inputs, 2) + _compiler_version(), digest_size=32).digest()


def load(folder: str, key: bytes) -> tuple[bytes, int, tuple[str, ...]] | None:
    """Return the program, flags and skipped names stored under `key`, or None.

    folder: the cache's directory; key: from key_of.
    """
    try:
        # O_NOFOLLOW: a link would let whoever may write here choose among files that root owns
        fd = os.open(os.path.join(folder, key.hex()), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_mode & 0o022 or found.st_uid not in (0, os.geteuid()):
            return None
        data = os.read(fd, 1 << 20)
    except OSError:
        return None
    finally:
        os.close(fd)
    if len(data) < HEAD.size:
        return None
    magic, stored, checksum, flags, size = HEAD.unpack_from(data)
    rest = data[HEAD.size - 8 :]  # the checksum covers flags and size too
    if magic != MAGIC or stored != key or checksum != blake2b(rest, digest_size=16).digest():
        return None
    program, names = rest[8 : 8 + size], rest[8 + size :]
    if len(program) != size or size % 8 or not size:
        return None
    return program, flags, tuple(names.decode("utf-8", "surrogatepass").split("\0")) if names else ()


def store(folder: str, key: bytes, program: bytes, flags: int, skipped: tuple[str, ...]) -> bool:
    """Keep a compiled filter under `key`; return whether that worked."""
    rest = struct.pack("=II", flags, len(program)) + program + "\0".join(skipped).encode("utf-8", "surrogatepass")
    head = HEAD.pack(MAGIC, key, blake2b(rest, digest_size=16).digest(), 0, 0)[:-8]
    final = os.path.join(folder, key.hex())
    temporary = f"{final}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            written = os.write(fd, head + rest)
        finally:
            os.close(fd)
        if written == len(head) + len(rest):
            os.rename(temporary, final)
            return True
    except OSError:
        pass
    try:
        os.unlink(temporary)
    except OSError:
        pass
    return False
