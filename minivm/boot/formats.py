"""Which way of starting a kernel file wants: the names that --boot takes, and how to guess."""

from __future__ import annotations

import os
import stat

from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minivm.boot.start import Bytes, Piece, Start

__all__ = ["FORMATS", "default_kernel", "detect", "prepare", "read_kernel"]

MAPPED = 1 << 20  # bytes from which on a file is mapped; a mapping holds a file descriptor as long as it is used
ELF = b"\x7fELF"
LINUX = ("bzimage", "pvh")  # those that take an initrd
TOLD = (*LINUX, "multiboot")  # those that always look for a PC's tables

# name -> what --help says of it; `prepare` below knows the rest
FORMATS = {
    "elf64": "an x86-64 ELF executable, entered in long mode",
    "flat16": "raw 16-bit code, entered in real mode at 0x7c00",
    "flat32": "raw 32-bit code, entered in protected mode at 1 MiB",
    "flat64": "raw 64-bit code, entered in long mode at 1 MiB",
    "bzimage": "Linux as it is in /boot, by its 64-bit boot protocol",
    "pvh": "an ELF kernel with a PVH note, as vmlinux; of a bzImage, the vmlinux in it",
    "multiboot": "a kernel with a Multiboot 1 header, with modules",
}


def default_kernel() -> str:
    """Return the path of the in-tree guest (csrc/guest), built next to this file.

    Raises BootError where it has not been built.
    """
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "guest.elf")
    if not os.path.exists(path):
        raise BootError(f"the in-tree guest is not built ({path} is missing): run `make`, or name a kernel")
    return path


def read_kernel(path: str, what: str = "kernel") -> Bytes:
    """Return the bytes of a kernel or another file; a large one is mapped, which copies nothing.

    Raises BootError that says why it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size >= MAPPED:
                from minivm.boot.mapped import MappedFile

                return memoryview(MappedFile(file.fileno()))
            if stat.S_ISREG(status.st_mode) or stat.S_ISFIFO(status.st_mode):
                return file.read()
    except OSError as error:
        raise BootError(f"cannot read {what} {path!r}: {error.strerror}{_advice(path, what, error)}") from None
    raise BootError(f"cannot read {what} {path!r}: not a file")  # a device may have no end


def _advice(path: str, what: str, error: OSError) -> str:
    """Say what to do about a file that cannot be opened."""
    from errno import EACCES, EISDIR, ENOENT

    if error.errno == EACCES:
        return f"; `ls -l {path}` shows who may"
    if error.errno == EISDIR and what == "kernel":
        return "; a kernel is a file: `--rootfs DIR` is what a Linux has as its root"
    if error.errno != ENOENT:
        return ""
    if what != "kernel":
        return "; is the path right?"
    return "; `minivm kernel ls` lists those with a name, `minivm kernel fetch debian-cloud` gets one"


def detect(image: Bytes) -> str:
    """Return the name of the format that the bytes show, or raise BootError that tells what to say instead."""
    from minivm.boot.multiboot import find_header

    if image[:4] == ELF:
        from minivm.boot.elf import read_elf
        from minivm.boot.pvh import entry_point

        if find_header(image):
            return "multiboot"
        return "elf64" if entry_point(read_elf(image)) is None else "pvh"
    from minivm.boot.bzimage import is_bzimage
    from minivm.boot.flat import is_boot_sector

    if is_boot_sector(image):
        return "flat16"
    if is_bzimage(image):
        return "bzimage"
    if find_header(image):
        return "multiboot"
    raise BootError("no kernel format that minivm knows (it is no ELF); for raw code say --boot flat16, flat32 or flat64")


def prepare(
    image: Bytes,
    boot: str,
    memory: int,
    cmdline: str,
    *,
    initrd: Bytes = b"",
    modules: Sequence[tuple[str, Bytes]] = (),
    processors: int = 1,
    virtio: int = 0,
    watchdog: bool = False,
    name: str = "",
) -> Start:
    """Say how to start a kernel.

    Args:
        image: the file's bytes.
        boot: a key of FORMATS, or "auto" to look at the bytes.
        memory: bytes of RAM.
        cmdline: the kernel's command line.
        initrd: initial RAM file system, for Linux.
        modules: (string, contents) of each, for Multiboot.
        processors, virtio: how many processors and virtio devices the kernel is to be told of.
        watchdog: whether it is to be told of one.
        name: the kernel's file, which a Multiboot kernel is told.

    Returns a Start whose pieces fit into memory. Raises BootError.
    """
    from minivm.boot.layout import check_fit

    boot = detect(image) if boot == "auto" else boot
    if initrd and boot not in LINUX:
        raise BootError(f"a kernel of format {boot} takes no initrd")
    if modules and boot != "multiboot":
        raise BootError(f"a kernel of format {boot} takes no modules; Multiboot does")
    tables: list[Piece] = []
    rsdp = 0
    if boot in TOLD or (boot != "flat16" and (processors > 1 or virtio or watchdog)):
        tables, rsdp = _tables(processors, virtio, watchdog)
    start = _prepare(image, boot, memory, cmdline, initrd, modules, rsdp, name)
    start.pieces += tables
    check_fit(start.pieces, memory)
    return start


def _tables(processors: int, virtio: int, watchdog: bool) -> tuple[list[Piece], int]:
    """Return what firmware would leave in memory, and where the ACPI tables' root pointer is."""
    from minivm.boot import acpi, mptable, reset
    from minivm.boot.layout import virtio_slots

    pieces, rsdp = acpi.tables(processors, virtio_slots(virtio), watchdog)
    return [*pieces, *mptable.tables(processors), reset.piece()], rsdp


def _prepare(
    image: Bytes, boot: str, memory: int, cmdline: str, initrd: Bytes, modules: Sequence[tuple[str, Bytes]], rsdp: int, name: str
) -> Start:
    if boot.startswith("flat"):
        from minivm.boot import flat

        enter = {"flat16": flat.prepare16, "flat32": flat.prepare32, "flat64": flat.prepare64}[boot]
        return enter(image, memory, cmdline)
    if boot == "elf64":
        from minivm.boot.elf import prepare as prepare_elf

        return prepare_elf(image, memory, cmdline)
    if boot == "multiboot":
        from minivm.boot.multiboot import prepare as prepare_multiboot

        return prepare_multiboot(image, memory, cmdline, modules, name)
    if boot == "bzimage":
        from minivm.boot.bzimage import prepare as prepare_bzimage

        return prepare_bzimage(image, memory, cmdline, initrd, rsdp)
    from minivm.boot.pvh import prepare as prepare_pvh

    if image[:4] != ELF:
        from minivm.boot.bzimage import is_bzimage

        if is_bzimage(image):
            from minivm.boot.extract import extract

            image = memoryview(extract(image))
    return prepare_pvh(image, memory, cmdline, initrd, rsdp)
