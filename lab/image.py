"""The machine's disk and kernel: built once from Debian packages, kept outside the tree.

They live in ~/.cache/minirt/lab/KEY, where KEY is a hash of everything that they are made from: the
suite, the package list and the two scripts that build. Change one and the next run builds anew.
A build happens under another name and is renamed when whole, one at a time (man 2 flock).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Image", "LabError", "cache_directory", "find", "find_or_build"]

# Debian 13: kernel 6.12 and C library 2.41, newer than those of any supported host, so that programs
# built on the host run there. Its Python differs from the host's: payload.py makes it a .venv.
SUITE = "trixie"
MIRROR = os.environ.get("LAB_MIRROR", "http://deb.debian.org/debian")  # apt verifies signatures
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = [
    *("busybox-static", "kmod", "procps", "util-linux", "mount", "zstd", "less", "nano", "strace", "gdb"),
    "e2fsprogs",  # mke2fs makes the root disks of minivm's machines
    *("iproute2", "nftables", "iputils-ping", "iperf3"),
    *("crun", "runc", "qemu-system-x86"),  # peers to compare with
    *("virtiofsd", "passt"),  # serves the directories that minivm's machines share; their network in user mode
    *("criu", "systemd-sysv", "libpam-systemd", "dbus"),  # what a runtime asks to save processes, and for a unit of its own
    *("passwd", "uidmap"),  # users, and what maps their subordinate ids
    *("python3", "python3-cffi-backend", "python3-prctl", "python3-pyroute2", "python3-zstandard"),
    *("python3-yaml", "python3-jsonschema", "python3-h11"),
    *("python3-pytest", "python3-pytest-timeout", "python3-hypothesis"),
]
DISK_SIZE = 8 << 30  # bytes, sparse
BUILD_LIMIT = 1800  # seconds
UNUSED_LIMIT = 30 * 86400  # seconds after which an image of another key is removed


class LabError(Exception):
    """The lab cannot run; the text is one line for the person who asked."""


class Image:
    """What a boot needs, as paths."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.disk = directory / "disk.ext4"
        self.kernel = directory / "vmlinux"
        self.busybox = directory / "busybox"
        self.virtio_blk = directory / "virtio_blk.ko"

    def python(self) -> str:
        """Return the name of its Python, such as python3.13."""
        return (self.directory / "release").read_text().strip()


def cache_directory() -> Path:
    """Return where images are kept, by the XDG base directory specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "minirt" / "lab"


def key(more: Sequence[str] = ()) -> str:
    """Return the hash of all that an image is built from; `more`: packages beside the usual ones."""
    here = Path(__file__).parent
    parts = [SUITE, *PACKAGES, *sorted(more), str(DISK_SIZE)]
    parts += [(here / name).read_text() for name in ("build-image", "extract_vmlinux.py")]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def find(more: Sequence[str] = ()) -> Image | None:
    """Return the image that these sources make, None where it is not built."""
    directory = cache_directory() / key(more)
    if not directory.exists():
        return None
    os.utime(directory)  # when it was last used
    return Image(directory)


def find_or_build(more: Sequence[str] = ()) -> Image:
    """Return the image, building it first where there is none. Raises LabError."""
    cache = cache_directory()
    final = cache / key(more)
    if not final.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "lock", "w") as lock:
            if not _try_lock(lock.fileno()):
                _say("another process is building the machine; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                _remove_leftovers(cache)
                _build(cache / f"{final.name}.part", final, more)
    return Image(final)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _remove_leftovers(cache: Path) -> None:
    """Remove half-built images (we hold the lock) and those that nobody used for long."""
    for entry in cache.iterdir():
        old = entry.is_dir() and time.time() - entry.stat().st_mtime > UNUSED_LIMIT
        if old or entry.suffix == ".part":
            shutil.rmtree(entry, ignore_errors=True)


def _build(part: Path, final: Path, more: Sequence[str]) -> None:
    begin = time.monotonic()
    _say(f"building the machine from Debian {SUITE}, once; this takes about a minute")
    part.mkdir()
    _bootstrap(part, begin, more)
    disk = part / "disk.ext4"
    os.truncate(disk, DISK_SIZE)
    _run(["resize2fs", str(disk)], part / "build.log")
    part.rename(final)
    _say(f"[{time.monotonic() - begin:3.0f} s] ready: {final}")


def _bootstrap(part: Path, begin: float, more: Sequence[str]) -> None:
    """Run mmdebstrap, a progress line for each of its phases, everything else into build.log."""
    here = Path(__file__).parent
    command = ["mmdebstrap", "--variant=apt", "--format=null", "--architectures=amd64"]
    command += [
        f"--keyring={KEYRING}",
        '--aptopt=Acquire::Languages "none"',
        f"--include={','.join([*PACKAGES, *more])}",
    ]
    command += [f"--customize-hook='{here}/build-image' \"$1\" '{here}'"]
    # `download` is done by mmdebstrap outside of the namespace where an unprivileged build happens
    for name in ("disk.ext4", "vmlinux", "busybox", "virtio_blk.ko", "release"):
        command += [f"--customize-hook=download /lab-out/{name} {part}/{name}"]
    command += [SUITE, "/dev/null", MIRROR]
    log = part / "build.log"
    with (
        open(log, "w") as record,
        subprocess.Popen(
            ["timeout", "--signal=TERM", str(BUILD_LIMIT), *command],
            stdin=subprocess.DEVNULL,
            stdout=record,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stderr
        try:
            for line in process.stderr:
                record.write(line)
                record.flush()
                if line.startswith("I: ") and "hook" not in line:
                    _say(f"[{time.monotonic() - begin:3.0f} s] {line[3:].strip()}")
                elif "build-image" in line:
                    _say(f"[{time.monotonic() - begin:3.0f} s] making kernel and disk...")
        except BaseException:
            process.terminate()  # mmdebstrap takes its directory away
            raise
    if process.returncode:
        raise LabError(f"the machine could not be built (mmdebstrap: {process.returncode}); see {log}")


def _run(command: list[str], log: Path) -> None:
    environment = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/sbin"}
    with open(log, "a") as record:
        status = subprocess.run(command, stdout=record, stderr=record, env=environment, timeout=300).returncode
    if status:
        raise LabError(f"the machine could not be built ({command[0]}: {status}); see {log}")


def _say(text: str) -> None:
    print(f"lab: {text}", file=sys.stderr, flush=True)
