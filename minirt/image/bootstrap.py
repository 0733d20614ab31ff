"""A distribution's root file system as an image, made from its signed archive: Debian's, by mmdebstrap.

What mmdebstrap makes is kept as a tar in the cache, under a hash of the command that makes it, so the second time is an import.
It is made under another name and renamed when whole, one at a time (man 2 flock).
"""

from __future__ import annotations

import os

from minirt.image.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.image.store import Image, Store

__all__ = ["bootstrap", "command"]

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# As docker's Debian images have it: no service is started by its package, and no archive that was installed stays. mmdebstrap
# has a policy of its own while it installs, and removes the file in the end: so it is told to leave that to ours.
POLICY = 'printf "#!/bin/sh\\nexit 101\\n" > "$1/usr/sbin/policy-rc.d"; chmod 755 "$1/usr/sbin/policy-rc.d"'
CLEAN = (
    'printf \'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb || true"; };\\nDir::Cache::pkgcache "";\\n'
    'Dir::Cache::srcpkgcache "";\\n\' > "$1/etc/apt/apt.conf.d/container-clean"'
)


def command(suite: str, include: list[str], variant: str, mirror: str) -> list[str]:
    """Return mmdebstrap's words, without the output and the mirror. Args: include, packages beside the variant's."""
    words = ["mmdebstrap", "--quiet", f"--mode={'root' if os.geteuid() == 0 else 'unshare'}", f"--variant={variant}"]
    words += ["--format=tar", '--aptopt=Acquire::Languages "none"', f"--customize-hook={CLEAN}"]
    words += [f"--extract-hook={POLICY}", "--skip=chroot/policy-rc.d"]
    if os.path.exists(KEYRING):
        words.append(f"--keyring={KEYRING}")
    if include:
        words.append(f"--include={','.join(include)}")
    return [*words, suite, *([mirror] if mirror else [])]


def bootstrap(
    store: Store, name: str, *, suite: str = "bookworm", include: list[str] | None = None, variant: str = "minbase",
    mirror: str = "", cache: str, refresh: bool = False, progress: Callable[[int], object] | None = None,
    begins: Callable[[], object] = lambda: None,
) -> Image:  # fmt: skip
    """Make an image of Debian.

    Args: name, for the image; suite, a release's name; include, packages beside the variant's; mirror, a URL, by default
    deb.debian.org with the security updates; cache, directory for what mmdebstrap makes; refresh, make it again; progress, as
    in import_rootfs; begins, called before mmdebstrap is, which takes a while.
    Returns the image. Raises ImageError.
    """
    from minirt.image.importer import import_rootfs

    path = _root(command(suite, include or [], variant, mirror), cache, refresh, begins)
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        changes = ['CMD ["bash"]', "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        message = f"Debian {suite} by mmdebstrap, variant {variant}"
        return import_rootfs(store, fd, name, origin=f"debian {suite}", changes=changes, message=message, progress=progress)
    finally:
        os.close(fd)


def _root(words: list[str], cache: str, refresh: bool, begins: Callable[[], object]) -> str:
    """Return the path of the tar that a command makes, made now if it is not there."""
    import fcntl
    import hashlib
    import shutil

    key = "\0".join([*words, os.environ.get("SOURCE_DATE_EPOCH", "")])
    final = os.path.join(cache, hashlib.sha256(key.encode()).hexdigest()[:16] + ".tar")
    if os.path.exists(final) and not refresh:
        return final
    if shutil.which(words[0]) is None:
        raise ImageError("mmdebstrap is not installed: apt-get install mmdebstrap debian-archive-keyring")
    os.makedirs(cache, exist_ok=True)
    with open(os.path.join(cache, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if refresh or not os.path.exists(final):  # else another made it while we waited
            begins()
            _make(words, final)
    return final


def _make(words: list[str], final: str) -> None:
    import subprocess

    part = f"{final}.part"
    suite = next(i for i, word in enumerate(words) if i and not word.startswith("-"))
    line = [*words[: suite + 1], part, *words[suite + 1 :]]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        if os.path.exists(part):
            os.unlink(part)
        last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
        raise ImageError(f"mmdebstrap failed ({done.returncode}): {last[-300:]}")
    os.rename(part, final)
