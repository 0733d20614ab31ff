"""A real distribution's root: made once by mmdebstrap from Debian's signed archive, kept outside the tree.

It lies in ~/.cache/minirt/roots/KEY.tar, where KEY is a hash of the command that makes it. It is made under another name
and renamed when whole, one at a time (man 2 flock).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

SUITE = "bookworm"
MIRROR = os.environ.get("LAB_MIRROR", "http://deb.debian.org/debian")  # apt verifies signatures
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
WORDS = ("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase")
MORE = ("--architectures=amd64", "--format=tar", f"--keyring={KEYRING}", '--aptopt=Acquire::Languages "none"')
BUILD_LIMIT = 600  # seconds
UNUSED_LIMIT = 30 * 86400  # seconds after which a root of another key is removed


def find_or_build(package: str = "python3-minimal", suite: str = SUITE) -> Path | str:
    """Return the tar's path, or in one line why there is none. Args: package, that is in it beside the minimum."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "minirt" / "roots"
    command = [*WORDS, f"--include={package}", *MORE, suite]
    final = cache / (hashlib.sha256("\0".join(command).encode()).hexdigest()[:16] + ".tar")
    if not final.exists():
        if not shutil.which("mmdebstrap"):
            return "mmdebstrap is not installed"
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists() and (problem := build(cache, final, command)):
                return problem
    os.utime(final)  # when it was last used
    return final


def build(cache: Path, final: Path, command: list[str]) -> str:
    """Make it; the caller holds the lock. Returns what went wrong, or ""."""
    for path in cache.glob("*.tar*"):
        if path.suffix == ".part" or time.time() - path.stat().st_mtime > UNUSED_LIMIT:
            path.unlink()
    part = final.with_suffix(".part")
    words = ["timeout", "--signal=TERM", str(BUILD_LIMIT), *command, part, MIRROR]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        part.unlink(missing_ok=True)
        return f"mmdebstrap made no Debian root ({done.returncode}): {' '.join(done.stderr.split())[-200:]}"
    part.rename(final)
    return ""
