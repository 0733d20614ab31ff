"""What the test of crash needs of Debian's archive: crash itself, and vmlinux with debug symbols of the kernels that boot.

Fetched once, by apt, which verifies it, and kept beside the lab's inputs: 1.2 GB of packages, of which two files stay.
crash is Debian 13's, with its own libraries: Debian 12's (8.0.2) lists but the running tasks of today's 6.1, of QEMU's dumps too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from minivm.kernels.cache import Kernel

MIRROR = os.environ.get("LAB_MIRROR", "http://deb.debian.org/debian")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirt" / "crash"
LIMIT = 900  # seconds for one program
LOADER, LIBRARIES = "lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu"


def crash() -> list[str]:
    """Return the words that start crash: by its own loader, for the host's C library may be older."""
    final = CACHE / "trixie"
    if not final.exists():
        with directory() as place:
            words = ["mmdebstrap", "-q", "--variant=extract", "--include=crash", f"--keyring={KEYRING}"]
            run(*words, f"--mode={'root' if os.geteuid() == 0 else 'unshare'}", "trixie", f"{place}/root", MIRROR)
            Path(place, "root").rename(final)
    loader = next(path for path in (final / "usr" / LOADER, final / LIBRARIES / Path(LOADER).name) if path.exists())
    return [str(loader), "--library-path", str(final / LIBRARIES), str(final / "usr/bin/crash")]


def vmlinux(kernel: Kernel) -> Path:
    """Return the kernel's file with its debug symbols, of the same build."""
    final = CACHE / f"{kernel['name']}-{kernel.release}-{kernel['version']}"
    if not final.exists():
        with directory() as place:
            sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []
            package = f"linux-image-{kernel.release}-dbg={kernel['version']}"
            run("apt-get", "-qq", *sandbox, "download", package, cwd=place)
            (deb,) = Path(place).glob("*.deb")
            inside = f"./usr/lib/debug/boot/vmlinux-{kernel.release}"
            with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as archive:
                run("tar", "-x", "-C", place, inside, stdin=archive.stdout)
            Path(place, inside).rename(final)
        for other in CACHE.glob(f"{kernel['name']}-[0-9]*"):
            if other != final:
                other.unlink()  # of an older build
    return final


def directory() -> tempfile.TemporaryDirectory[str]:
    """Return a directory on the cache's file system, gone afterwards."""
    CACHE.mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=CACHE)


def run(*words: object, **more: object) -> None:
    """Run a program; its complaint is the test's."""
    assert shutil.which(str(words[0])), f"{words[0]} is not installed"
    done = subprocess.run([str(word) for word in words], stderr=subprocess.PIPE, timeout=LIMIT, check=False, **more)
    assert done.returncode == 0, (words, done.stderr.decode(errors="replace"))
