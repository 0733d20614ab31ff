"""`python tests/lab/inputs.py`: a disk with Debian's kernels, memtest86+ and a mirror, for the tests in the lab; prints its path.

The lab has no network. So what its tests need of Debian's archive beside its own system is fetched here, by apt, once, and
given to it by `lab/run --disk`: both kernels that `minivm kernel fetch` knows, with the modules that a virtual machine
needs, memtest86+, and a repository of one package, `hello`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from minivm.boot.modules import Modules
from minivm.errors import MinivmError
from minivm.kernels.cache import Kernel
from minivm.kernels.debian import fetch

MODULES = [
    "virtio_mmio", "virtio_blk", "virtio_net", "virtio_rng", "virtio_console", "ext4", "overlay", "button", "evdev",
    "virtiofs", "virtio_mem", "wdat_wdt",
]  # fmt: skip
SIZE = "192M"
VERSION = "3"  # of what is on the disk


def main() -> int:
    """Make the disk where it is not there, and print its path. Returns 0."""
    kernels = [fetch_updated(name) for name in ("debian-cloud", "debian")]
    words = [Path(__file__).read_text(), *(f"{kernel.release} {kernel['version']}" for kernel in kernels)]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirt" / "lab-inputs"
    final = cache / f"{hashlib.sha256(''.join(words).encode()).hexdigest()[:16]}.ext4"
    if not final.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as directory:
            root = Path(directory) / "root"
            for kernel in kernels:
                add_kernel(root / kernel["name"], kernel)
            add_memtest(root, Path(directory))
            add_mirror(root, Path(directory))
            disk = Path(directory) / "disk"
            mke2fs = shutil.which("mke2fs", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "mke2fs"
            words = [mke2fs, "-q", "-t", "ext4", "-O", "^has_journal", "-d", root, disk, SIZE]
            subprocess.run(words, check=True, stdout=sys.stderr)  # it may speak in spite of -q
            disk.rename(final)
    print(final)
    return 0


def fetch_updated(name: str) -> Kernel:
    """Fetch a kernel; where apt knows none its lists may be missing."""

    def say(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        return fetch(name, say=say)
    except MinivmError:
        subprocess.run(["apt-get", "-qq", "update"], check=True, stdout=sys.stderr)
        return fetch(name, say=say)


def add_kernel(root: Path, kernel: Kernel) -> None:
    """Lay a kernel out as Debian does, its modules uncompressed."""
    (root / "boot").mkdir(parents=True)
    shutil.copy(kernel.vmlinuz, root / "boot")
    shutil.copy(kernel.vmlinux, root / "boot")
    modules = Modules(kernel.modules)
    place = root / "lib" / "modules" / kernel.release
    (place / "kernel").mkdir(parents=True)
    for name, data in modules.closure([name for name in MODULES if modules.has(name)]).items():
        (place / "kernel" / f"{name}.ko").write_bytes(data)
    shutil.copy(Path(kernel.modules) / "modules.builtin", place)


def add_memtest(root: Path, directory: Path) -> None:
    """Take memtest86+ out of its package."""
    subprocess.run(["dpkg-deb", "-x", download("memtest86+", directory), directory / "memtest"], check=True)
    shutil.copy(directory / "memtest" / "boot" / "memtest86+x64.bin", root)


def add_mirror(root: Path, directory: Path) -> None:
    """Make a repository with no suites: a directory of packages, and the index that apt reads (man 5 sources.list)."""
    mirror = root / "mirror"
    mirror.mkdir()
    package = Path(shutil.copy(download("hello", directory), mirror))
    fields = subprocess.run(["dpkg-deb", "-f", package], check=True, capture_output=True, text=True).stdout
    sums = f"Size: {package.stat().st_size}\nSHA256: {hashlib.sha256(package.read_bytes()).hexdigest()}\n"
    (mirror / "Packages").write_text(f"{fields}Filename: ./{package.name}\n{sums}\n")


def download(name: str, directory: Path) -> Path:
    """Have apt download a package, and return the file."""
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
    subprocess.run(["apt-get", "-qq", *sandbox, "download", name], cwd=directory, check=True, stdout=sys.stderr)
    (deb,) = directory.glob(f"{name}_*.deb")
    return deb


if __name__ == "__main__":
    sys.exit(main())
