"""A layer is a tar, alone or through gzip or zstd (image-spec layer.md#distributable-format).

A reader here is anything with `read(n)`: up to n bytes, none only at the end. Each wraps another, so an
import is one pass: file -> hash and blob -> gunzip -> hash -> entries.
"""

from __future__ import annotations

import zlib

from minirt.image.errors import BadArchive, Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Reader(Protocol):
        def read(self, size: int, /) -> bytes: ...


__all__ = ["Bounded", "FdReader", "Tap", "compression_of", "decompressed", "media_type", "open_archive", "sniff"]

PIECE = 64 << 10  # bytes moved at a time: hash and zlib leave the interpreter lock; malloc does not mmap
LITTLE = 512  # bytes of zstd: at most 16 MiB of zeros

_SUFFIX = {"": "", "gzip": "+gzip", "zstd": "+zstd"}
_FOREIGN = {b"\xfd7zXZ\0": "xz", b"BZh": "bzip2", b"LZIP": "lzip"}


def media_type(compression: str) -> str:
    """Return a layer's media type; compression is "", "gzip" or "zstd"."""
    return "application/vnd.oci.image.layer.v1.tar" + _SUFFIX[compression]


def compression_of(media: str) -> str:
    """Return the compression that a layer's media type names. Raises Damaged for what is no layer."""
    for compression in _SUFFIX:
        if media == media_type(compression):
            return compression
    docker = "application/vnd.docker.image.rootfs.diff.tar"
    if media in (docker, docker + ".gzip"):
        return "gzip" if media.endswith("gzip") else ""
    raise Damaged(f"{media!r} is not the media type of a layer")


def sniff(first: bytes) -> str:
    """Return the compression that the first bytes show.

    Raises BadArchive for one that layers do not have, with the command that helps.
    """
    if first.startswith(b"\x1f\x8b"):
        return "gzip"
    if first.startswith(b"\x28\xb5\x2f\xfd"):
        return "zstd"
    for magic, program in _FOREIGN.items():
        if first.startswith(magic):
            raise BadArchive(f"it is {program}-compressed: `{program} -dc FILE | minirt image import - NAME`")
    return ""


def decompressed(compression: str, source: Reader) -> Reader:
    """Return a reader of the tar inside. Reading raises BadArchive where the compressed data is bad."""
    if compression == "gzip":
        return _Gunzip(source)
    if compression == "zstd":
        return _unzstd(source)
    return source


class FdReader:
    """A file descriptor as a reader; `first` is what was read from it already."""

    def __init__(self, fd: int, first: bytes = b"") -> None:
        self._fd = fd
        self._first = first

    def read(self, size: int, /) -> bytes:
        import os

        if self._first:
            data, self._first = self._first[:size], self._first[size:]
            return data
        return os.read(self._fd, size)


class Tap:
    """Passes data on and shows it to others: a hash, a blob being written, a progress bar."""

    def __init__(self, source: Reader, *seen_by: Callable[[bytes], object]) -> None:
        self._source = source
        self._seen_by = seen_by

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        for see in self._seen_by:
            see(data)
        return data


def open_archive(fd: int) -> tuple[str, FdReader]:
    """Begin to read what may be packed. Returns its compression, and a reader of all of it. Raises BadArchive as `sniff` does."""
    import os

    first = os.read(fd, 512)
    while 0 < len(first) < 8 and (more := os.read(fd, 512)):  # a pipe may give a byte at a time
        first += more
    return sniff(first), FdReader(fd, first)


class Bounded:
    """Refuses to go on past a limit (bytes): a few kilobytes of gzip can be terabytes of zeros. Args: what, of which it is one."""

    def __init__(self, source: Reader, limit: int, what: str = "a layer") -> None:
        self._source = source
        self._limit = self._left = limit
        self._what = what

    def read(self, size: int, /) -> bytes:
        data = self._source.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadArchive(f"it unpacks to more than {self._limit >> 20} MiB, the limit for {self._what}")
        return data


class _Gunzip:
    """gzip (RFC 1952), of any number of members; what it returns at a time never exceeds what was asked."""

    def __init__(self, source: Reader) -> None:
        self._source = source
        self._machine = zlib.decompressobj(31)  # 31: gzip's header and checksum, the largest window
        self._begun = False  # inside a member

    def read(self, size: int, /) -> bytes:
        while True:
            packed = self._machine.unconsumed_tail or self._machine.unused_data
            if self._machine.eof:
                packed = packed.lstrip(b"\0")  # padding after a member, as of a tape
                self._machine, self._begun = zlib.decompressobj(31), False
            packed = packed or self._source.read(PIECE)
            if not packed:
                if self._begun:
                    raise BadArchive("its gzip data is truncated")
                return b""
            if not self._begun:
                packed = packed.lstrip(b"\0")
                self._begun = bool(packed)
            try:
                data = self._machine.decompress(packed, size)
            except zlib.error as error:
                raise BadArchive(f"its gzip data is damaged ({error})") from None
            if data:
                return data


def _unzstd(source: Reader) -> Reader:
    try:
        import zstandard
    except ImportError:
        raise BadArchive("it is zstd-compressed, and the Python package zstandard is not installed") from None
    machine = zstandard.ZstdDecompressor(max_window_size=128 << 20)
    return _Unzstd(source, machine.decompressobj, zstandard.ZstdError)


class _Unzstd:
    """zstd (RFC 8878), of any number of frames.

    Not the package's stream_reader: to that a frame cut short is the end. Its decompressobj knows where a frame ends,
    but returns at once all that it was given holds; so it is given little.
    """

    def __init__(self, source: Reader, machine: Callable[[], Any], error: type[Exception]) -> None:
        self._source = source
        self._new, self._error = machine, error
        self._machine = machine()
        self._begun = False  # inside a frame
        self._packed = memoryview(b"")
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            if self._machine.eof:
                self._machine, self._begun = self._new(), False
            self._packed = self._packed or memoryview(self._source.read(PIECE))
            if not self._packed:
                if self._begun:
                    raise BadArchive("its zstd data is truncated")
                return b""
            self._ready = memoryview(self._step())
        data, self._ready = self._ready[:size], self._ready[size:]
        return bytes(data)

    def _step(self) -> bytes:
        """Decompress a little of what is there."""
        packed, self._begun = self._packed, True
        try:
            data: bytes = self._machine.decompress(packed[:LITTLE])
        except self._error as error:
            raise BadArchive(f"its zstd data is damaged ({error})") from None
        left = len(self._machine.unused_data) if self._machine.eof else 0  # the next frame's
        self._packed = packed[len(packed[:LITTLE]) - left :]
        return data
