"""A kernel's modules: where they lie, which need which, and their bytes without compression.

A distribution's kernel has most drivers as modules; those that lead to the root file system must be in the initramfs,
in an order in which each comes after those it needs. A module says what it needs itself: `depends=a,b` in its section
.modinfo (man 8 modinfo), which saves us modules.dep: that is made only when a package is installed. `softdep=pre: x` asks
for a module that is wanted, not needed for its symbols (man 5 modprobe.d): ext4's checksums come by the name crypto-crc32c.
"""

from __future__ import annotations

import os
import re

from minivm.boot.extract import UNPACK_STREAM
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Modules", "find_directory"]

DEPENDS = re.compile(rb"\0depends=([\w,-]*)\0")
SOFTDEP = re.compile(rb"\0softdep=pre: ([\w\s-]*?)(?: post:[^\0]*)?(?=\0)")
CRYPTO = "crypto_"  # what the kernel's crypto code puts before an algorithm's name when it asks for a module
FILE = re.compile(r"([\w-]+)\.ko(?:\.(xz|gz|zst))?")
KINDS = {"xz": "xz", "gz": "gzip", "zst": "zstd"}


def find_directory(kernel: str, release: str) -> str:
    """Return the directory of the modules of a kernel file: below the root in whose /boot it lies, or this host's.

    Args:
        kernel: path of the kernel's file, as /somewhere/boot/vmlinuz-6.1.0-9-amd64.
        release: what the kernel calls itself.

    Raises BootError where there is none.
    """
    roots = [os.path.dirname(os.path.dirname(os.path.abspath(kernel))), "/"]
    tried = [os.path.join(root, lib, "modules", release) for root in roots for lib in ("lib", "usr/lib")]
    for directory in tried:
        if os.path.isdir(os.path.join(directory, "kernel")):
            return directory
    raise BootError(f"no modules of kernel {release!r}: looked in {', '.join(tried)}; name their directory with --modules")


class Modules:
    """The modules of one kernel.

    Args:
        directory: as /lib/modules/6.1.0-9-amd64.

    Raises BootError where it cannot be read.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._files: dict[str, tuple[str, str]] = {}  # name -> path, ending of its compression
        for folder, _, names in os.walk(os.path.join(directory, "kernel")):
            for name in names:
                if match := FILE.fullmatch(name):
                    self._files[match[1].replace("-", "_")] = os.path.join(folder, name), match[2] or ""
        if not self._files:
            raise BootError(f"no kernel modules in {directory!r}")
        self._builtin = self._read_builtin()

    def _read_builtin(self) -> set[str]:
        try:
            with open(os.path.join(self.directory, "modules.builtin"), encoding="ascii", errors="replace") as file:
                return {os.path.basename(line.strip()).removesuffix(".ko").replace("-", "_") for line in file}
        except FileNotFoundError:
            return set()

    def has(self, name: str) -> bool:
        """Say whether there is a file of that name; what is built into the kernel has none."""
        return name in self._files

    def read(self, name: str) -> bytes:
        """Return a module's ELF file. Raises BootError, also for a link: whose file would the guest get?"""
        path, ending = self._files[name]
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                data = file.read()
        except OSError as error:
            raise BootError(f"cannot read module {path!r}: {error.strerror}") from None
        if not ending:
            return data
        try:
            return UNPACK_STREAM[KINDS[ending]](data)
        except ImportError as error:
            raise BootError(f"module {path!r} is compressed: pip install {error.name}") from None
        except Exception as error:  # each library has its own
            raise BootError(f"module {path!r} is damaged: {error}") from None

    def closure(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the modules of these names and all that they need, in an order in which they can be loaded.

        A name that is built into the kernel is left out. Raises BootError for one that there is not.
        """
        found: dict[str, bytes] = {}
        for name in names:
            self._add(name.replace("-", "_"), found, ())
        return found

    def _add(self, name: str, found: dict[str, bytes], above: tuple[str, ...]) -> None:
        if name in found or (name not in self._files and name in self._builtin):
            return
        if name not in self._files:
            raise BootError(f"{self.directory} has no module {name!r}")
        if name in above:
            raise BootError(f"modules need each other in a circle: {' '.join((*above, name))}")
        data = self.read(name)
        match = DEPENDS.search(data)
        for needed in os.fsdecode(match[1]).split(",") if match else ():
            if needed:
                self._add(needed.replace("-", "_"), found, (*above, name))
        for wanted in os.fsdecode(b" ".join(SOFTDEP.findall(data))).split():
            file = self._wanted(wanted.replace("-", "_"))
            if file and file not in (*above, name):
                self._add(file, found, (*above, name))
        found[name] = data

    def _wanted(self, name: str) -> str:
        """Return the module for a soft dependency, "" for none: it may be an alias, of which the crypto code's are known.

        Simplified: other aliases stand in each module's own .modinfo, and depmod gathers them.
        """
        plain = name.removeprefix(CRYPTO)
        return next((each for each in (name, plain, f"{plain}_generic") if each in self._files), "")
