"""Which way of starting a kernel file wants: the names that --boot takes, and how to guess."""

from __future__ import annotations

import os
import stat

from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Start

__all__ = ["FORMATS", "default_kernel", "detect", "prepare", "read_kernel"]

# name -> what --help says of it; `prepare` below knows the rest
FORMATS = {
    "elf64": "an x86-64 ELF executable, entered in long mode",
    "flat16": "raw 16-bit code, entered in real mode at 0x7c00",
}


def default_kernel() -> str:
    """Return the path of the in-tree guest (csrc/guest), built next to this file.

    Raises BootError where it has not been built.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.elf")
    if not os.path.exists(path):
        raise BootError(f"the in-tree guest is not built ({path} is missing): run `make`, or name a kernel")
    return path


def read_kernel(path: str) -> bytes:
    """Return the bytes of a kernel file. Raises BootError that says why it cannot be read."""
    try:
        with open(path, "rb") as file:
            if os.path.isfile(path) or stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                return file.read()
    except OSError as error:
        raise BootError(f"cannot read kernel {path!r}: {error.strerror}") from None
    raise BootError(f"cannot read kernel {path!r}: not a file")  # a device may have no end


def detect(image: bytes) -> str:
    """Return the name of the format that the bytes show, or raise BootError that tells what to say instead."""
    if image[:4] == b"\x7fELF":
        return "elf64"
    from minivm.boot.flat import is_boot_sector

    if is_boot_sector(image):
        return "flat16"
    if image[0x202:0x206] == b"HdrS":
        raise BootError("a Linux bzImage, which minivm cannot start yet")
    raise BootError("no kernel format that minivm knows (it is no ELF); for raw 16-bit code say --boot flat16")


def prepare(image: bytes, boot: str, memory: int, cmdline: str) -> Start:
    """Say how to start a kernel.

    Args:
        image: the file's bytes.
        boot: a key of FORMATS, or "auto" to look at the bytes.
        memory: bytes of RAM.
        cmdline: the kernel's command line.

    Returns a Start whose pieces fit into memory. Raises BootError.
    """
    from minivm.boot.layout import check_fit

    if boot == "auto":
        boot = detect(image)
    if boot == "flat16":
        from minivm.boot.flat import prepare16

        start = prepare16(image, memory, cmdline)
    else:
        from minivm.boot.elf import prepare as prepare_elf

        start = prepare_elf(image, memory, cmdline)
    check_fit(start.pieces, memory)
    return start
