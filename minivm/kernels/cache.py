"""The kernels that are kept, each below the release that it calls itself, laid out as on a Debian system.

    kernels/6.1.0-9-cloud-amd64/boot/vmlinuz-6.1.0-9-cloud-amd64    as the package has it
                                boot/vmlinux-6.1.0-9-cloud-amd64    taken out of it: to start by PVH, unpacked already
                                boot/System.map-...                 where the package has one
                                lib/modules/6.1.0-9-cloud-amd64/
                                kernel.json                         the name that it was fetched by, its package

A directory appears whole, by a rename; what a killed fetch leaves in `tmp/` goes with the next one.
"""

from __future__ import annotations

import os
import re

from minirt.image.scratch import Scratch, remove_tree
from minirt.paths import cache_root
from minivm.errors import BootError, MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Kernel", "directory", "find", "kernels", "remove", "scratch", "version_key"]


def directory() -> str:
    """Return the directory that holds one directory a kernel."""
    return os.path.join(cache_root(), "kernels")


def scratch() -> Scratch:
    """Return where an unfinished one lies; made if absent."""
    os.makedirs(directory() + "/tmp", exist_ok=True)
    return Scratch(directory() + "/tmp")


class Kernel:
    """A kept kernel."""

    __slots__ = ("about", "path", "release")

    def __init__(self, release: str, path: str, about: dict[str, Any]) -> None:
        self.release = release  # as uname -r would say
        self.path = path
        self.about = about  # name, package, version

    def __getitem__(self, name: str) -> str:
        """Return what kernel.json says: `name`, `package`, `version`."""
        return str(self.about.get(name, ""))

    @property
    def vmlinuz(self) -> str:
        """The bzImage."""
        return f"{self.path}/boot/vmlinuz-{self.release}"

    @property
    def vmlinux(self) -> str:
        """The ELF file, which may not be there; see `unpack`."""
        return f"{self.path}/boot/vmlinux-{self.release}"

    @property
    def system_map(self) -> str:
        """The table of symbols, or "" where the package has none (Debian's have a note in its place)."""
        path = f"{self.path}/boot/System.map-{self.release}"
        return path if os.path.exists(path) and os.path.getsize(path) > 4096 else ""

    @property
    def modules(self) -> str:
        """The directory of its modules."""
        return f"{self.path}/lib/modules/{self.release}"

    def file(self, boot: str) -> str:
        """Return the file to start: the vmlinux, but for a start as "bzimage" the vmlinuz."""
        return self.vmlinuz if boot == "bzimage" else self.unpack()

    def unpack(self) -> str:
        """Return the path of the vmlinux, taken out of the vmlinuz now if it was not; the vmlinuz where that cannot be."""
        if os.path.exists(self.vmlinux):
            return self.vmlinux
        from minivm.boot.extract import extract
        from minivm.boot.formats import ELF, read_kernel

        try:
            data = extract(read_kernel(self.vmlinuz))
            if data[:4] != ELF:
                return self.vmlinuz
            _appear(self.vmlinux, data)
        except (BootError, OSError):  # no library for its compression; another's cache
            return self.vmlinuz
        return self.vmlinux


def _appear(path: str, data: bytes) -> None:
    """Write a file that appears whole, whoever else writes it now."""
    from minirt.image.index import replace_file

    place, fd = scratch().directory()
    try:
        replace_file(f"{place}/file", data)
        os.rename(f"{place}/file", path)
    finally:
        remove_tree(place)
        os.close(fd)


def kernels() -> list[Kernel]:
    """Return what is kept, the newest release of each name first."""
    import json

    found = []
    try:
        names = os.listdir(directory())
    except FileNotFoundError:
        return []
    for name in names:
        path = os.path.join(directory(), name)
        try:
            with open(f"{path}/kernel.json", encoding="utf-8") as file:
                about = json.load(file)
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(about, dict):
            found.append(Kernel(name, path, about))
    found.sort(key=lambda kernel: version_key(kernel.release), reverse=True)
    return sorted(found, key=lambda kernel: kernel["name"])


def find(text: str) -> Kernel | None:
    """Return the newest kernel of a name as `debian-cloud`, or the one of a release; None where there is none."""
    return next((kernel for kernel in kernels() if text in (kernel["name"], kernel.release)), None)


def remove(text: str) -> list[str]:
    """Remove the kernel of a release, or all of a name. Returns their releases. Raises MinivmError for none."""
    gone = [kernel for kernel in kernels() if text in (kernel["name"], kernel.release)]
    if not gone:
        raise MinivmError(f"no kernel {text!r} is kept: `minivm kernel ls` lists them")
    for kernel in gone:
        path, fd = scratch().directory()
        try:
            os.rename(kernel.path, f"{path}/kernel")  # its name goes at once: a kill leaves no half kernel
            remove_tree(path)
        finally:
            os.close(fd)
    return [kernel.release for kernel in gone]


def version_key(text: str) -> list[tuple[int, str]]:
    """Return a key by which 6.1.0-9 comes before 6.1.0-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"[^0-9a-zA-Z]+", text)]
