"""The vmlinux inside a bzImage: the kernel proper, unpacked here rather than by code in the guest.

The setup header says where the compressed bytes lie (payload_offset, payload_length: boot.rst, protocol 2.08), and
their first bytes say what compressed them. Most end in four bytes more, the unpacked size, which the build appends
for the code that unpacks (scripts/Makefile.lib, size_append); gzip has it in its own format.
"""

from __future__ import annotations

from struct import unpack_from

from minivm.boot.bzimage import read_header
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minivm.boot.start import Bytes

__all__ = ["UNPACK_STREAM", "compression_of", "extract"]

LZ4_LEGACY = b"\x02\x21\x4c\x18"
LZ4_BLOCK = 8 << 20  # bytes that a block of the legacy format holds unpacked, but for the last
CHUNK = 8 << 20
MAXIMUM = 1 << 30  # of an unpacked kernel: a damaged file shall not fill the host's memory

MAGICS = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ\0": "xz",
    LZ4_LEGACY: "lz4",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\x5d\0\0": "lzma",
}


def compression_of(payload: Bytes) -> str:
    """Return gzip, xz, lz4, zstd, bzip2, lzma, or "" for first bytes that are none of theirs."""
    return next((name for magic, name in MAGICS.items() if payload[: len(magic)] == magic), "")


def extract(image: Bytes) -> bytes:
    """Return the vmlinux (an ELF file) that a bzImage holds.

    Raises BootError where it is damaged, compressed in a way that is not known here, or by one whose library is not
    installed.
    """
    header = read_header(image)
    start = header.kernel_start + header["payload_offset"]
    payload = image[start : start + header["payload_length"]]
    if not payload or start + header["payload_length"] > len(image):
        raise BootError("truncated bzImage: the compressed kernel does not lie in it")
    name = compression_of(payload)
    if name not in UNPACK:
        raise BootError(f"the kernel inside the bzImage is compressed in an unknown way ({bytes(payload[:4]).hex(' ')})")
    try:
        return UNPACK[name](payload)
    except BootError:
        raise
    except ImportError as error:
        raise BootError(f"this kernel is compressed by {name}: pip install {error.name}, or start it as a bzImage") from None
    except Exception as error:  # each library has its own
        raise BootError(f"the kernel inside the bzImage is damaged ({name}: {error})") from None


def _gzip(payload: Bytes) -> bytes:
    import zlib

    return _bounded(zlib.decompressobj(wbits=31), payload)


def _xz(payload: Bytes) -> bytes:
    import lzma

    return _bounded(lzma.LZMADecompressor(), payload)


def _lzma(payload: Bytes) -> bytes:
    import lzma

    return _bounded(lzma.LZMADecompressor(lzma.FORMAT_ALONE), payload)


def _bzip2(payload: Bytes) -> bytes:
    import bz2

    return _bounded(bz2.BZ2Decompressor(), payload)


def _bounded(unpacker: object, payload: Bytes) -> bytes:
    """Unpack with one of Python's own decompressor objects, which stop where the stream ends."""
    data: bytes = unpacker.decompress(payload, MAXIMUM)  # type: ignore[attr-defined]
    if not unpacker.eof:  # type: ignore[attr-defined]
        raise ValueError("the stream does not end")
    return data


def _zstd_stream(data: Bytes, most: int = MAXIMUM) -> bytes:
    """Unpack a frame whose size need not be known before, no more than so many bytes of it."""
    import zstandard

    parts, size = [], 0
    with zstandard.ZstdDecompressor().stream_reader(bytes(data)) as reader:
        while size < most and (part := reader.read(min(CHUNK, most - size))):
            parts.append(part)
            size += len(part)
    return b"".join(parts)


def _zstd(payload: Bytes) -> bytes:
    (total,) = unpack_from("<I", payload, len(payload) - 4)
    data = _zstd_stream(payload, min(total, MAXIMUM))
    if len(data) != total:  # a frame that stops short is no error to the library
        raise ValueError(f"{len(data)} bytes unpacked, and {total} expected")
    return data


def _lz4(payload: Bytes) -> bytes:
    """The legacy frame: a magic, then blocks, each with its compressed size before it (lz4_Frame_format.md).

    The four bytes of the unpacked size at the end could be taken for another block's size: no block follows them.
    """
    import lz4.block

    (total,) = unpack_from("<I", payload, len(payload) - 4)
    parts, place, done = [], len(LZ4_LEGACY), 0
    while done < total <= MAXIMUM:
        (size,) = unpack_from("<I", payload, place)
        if not size or place + 4 + size > len(payload):
            raise ValueError("a block does not lie in the file")
        block = payload[place + 4 : place + 4 + size]
        parts.append(lz4.block.decompress(block, uncompressed_size=LZ4_BLOCK))
        place, done = place + 4 + size, done + len(parts[-1])
    if done != total:
        raise ValueError(f"{done} bytes unpacked, and {total} expected")
    return b"".join(parts)


# What has no size behind it, such as a module's file.
UNPACK_STREAM: dict[str, Callable[[Bytes], bytes]] = {"gzip": _gzip, "xz": _xz, "zstd": _zstd_stream}
UNPACK: dict[str, Callable[[Bytes], bytes]] = {
    "gzip": _gzip, "xz": _xz, "lzma": _lzma, "bzip2": _bzip2, "zstd": _zstd, "lz4": _lz4,
}  # fmt: skip
