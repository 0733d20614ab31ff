"""Fetch a kernel from Debian's archive: by apt-get, which verifies it, and dpkg-deb, which unpacks it.

linux-image-cloud-amd64 and linux-image-amd64 are empty packages that depend on the newest kernel's. That one is
downloaded and unpacked, not installed: nothing on the host changes but the cache, and no root is needed. man 8 apt-get
(download), man 1 dpkg-deb.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from minivm.errors import MinivmError
from minivm.kernels.cache import Kernel, directory, find, scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "fetch"]

# name -> (the package that depends on the newest, what it is)
NAMES = {
    "debian-cloud": ("linux-image-cloud-amd64", "for virtual machines: few drivers, starts fast"),
    "debian": ("linux-image-amd64", "for any machine"),
}
VMLINUZ = re.compile(r"vmlinuz-([0-9][0-9A-Za-z._+~-]*)")  # and its release, which becomes a directory's name
LIMIT = 900  # seconds for one of the programs


def fetch(name: str, deb: str = "", say: Callable[[str], None] = lambda text: None) -> Kernel:
    """Download a kernel's package and keep what is in it; nothing is done where the newest is kept already.

    Args:
        name: a key of NAMES.
        deb: a package file that is at hand; nothing is downloaded then.
        say: told what is being done.

    Raises MinivmError.
    """
    path, fd = scratch().directory()
    try:
        if not deb:
            package = newest(NAMES[name][0])
            kept = find(package.removeprefix("linux-image-"))
            if kept and kept["name"] == name and kept["version"] == available(package):
                return kept
            say(f"downloading {package} by apt-get")
            deb = _download(package, path)
        say(f"unpacking {os.path.basename(deb)}")
        return _keep(name, deb, f"{path}/root")
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(fd)


def newest(meta: str) -> str:
    """Return the package that an empty one depends on, as apt's lists say. Raises MinivmError."""
    text = _run(["apt-cache", "depends", meta], f"apt knows no {meta}: it is Debian's; run `apt-get update`, or give --deb FILE")
    match = re.search(r"Depends: (linux-image-\d\S*)", text)
    if not match:
        raise MinivmError(f"apt does not say which package {meta} means: run `apt-get update`, or give --deb FILE")
    return match[1]


def available(package: str) -> str:
    """Return the version that would be downloaded."""
    match = re.search(r"Candidate: (\S+)", _run(["apt-cache", "policy", package], "apt-cache failed"))
    return match[1] if match else ""


def _download(package: str, path: str) -> str:
    """Download a package file into a directory and return its path."""
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []  # apt's own user may not enter `path`
    _run(["apt-get", "-qq", *sandbox, "download", package], f"cannot download {package}", cwd=path)
    return next(f"{path}/{name}" for name in os.listdir(path) if name.endswith(".deb"))


def _keep(name: str, deb: str, root: str) -> Kernel:
    """Unpack a package and move the kernel in it into the cache.

    A package may hold links to anywhere. So what is wanted is moved out of it into a directory that is ours: regular files, and
    directories that are reached by no link.
    """
    import json

    package = f"{root}.package"
    os.mkdir(package)
    _run(["dpkg-deb", "-x", os.path.abspath(deb), package], f"cannot unpack {deb!r}")
    fields = _run(["dpkg-deb", "-f", os.path.abspath(deb), "Package", "Version"], f"cannot read {deb!r}")
    about = dict(re.findall(r"^(Package|Version): (.*)$", fields, re.M))
    files = _files(f"{package}/boot")
    found = [match[1] for file in files if (match := VMLINUZ.fullmatch(file))]
    if len(found) != 1:
        raise MinivmError(f"{deb!r} is no package of a kernel: it has {len(found)} files boot/vmlinuz-RELEASE")
    release = found[0]
    os.makedirs(f"{root}/boot")
    os.makedirs(f"{root}/lib/modules")
    for file in files:
        os.rename(f"{package}/boot/{file}", f"{root}/boot/{file}")
    for modules in ("usr/lib/modules", "lib/modules"):  # newer packages have everything below /usr
        if _is_inside(package, f"{modules}/{release}/kernel"):
            os.rename(f"{package}/{modules}/{release}", f"{root}/lib/modules/{release}")
            break
    Kernel(release, root, {}).unpack()
    with open(f"{root}/kernel.json", "w", encoding="utf-8") as stream:
        json.dump({"name": name, "package": about.get("Package", ""), "version": about.get("Version", "")}, stream)
    return _publish(root, release)


def _files(path: str) -> list[str]:
    """Return the names of the regular files in a directory; none in what is none, or a link."""
    if not _is_inside(*os.path.split(path)):
        return []
    return [entry.name for entry in os.scandir(path) if entry.is_file(follow_symlinks=False)]


def _is_inside(root: str, path: str) -> bool:
    """Say whether a directory is below another, by no link."""
    for name in path.split("/"):
        root = os.path.join(root, name)
        if os.path.islink(root) or not os.path.isdir(root):
            return False
    return True


def _publish(root: str, release: str) -> Kernel:
    """Give the directory its name, in place of an older one of the same release; or of one that another fetched just now."""
    import errno

    final = os.path.join(directory(), release)
    for number in range(100):
        try:
            os.rename(root, final)
            break
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
        try:
            os.rename(final, f"{root}.old{number}")
        except FileNotFoundError:
            pass  # another did it
    kept = find(release)
    if kept is None:
        raise MinivmError(f"kernel {release} was removed as it was fetched")
    return kept


def _run(words: list[str], failure: str, cwd: str | None = None) -> str:
    """Run a program and return what it printed. Raises MinivmError with its last complaint."""
    try:
        done = subprocess.run(
            words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT, check=False,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    except FileNotFoundError:
        raise MinivmError(f"{words[0]} is missing: kernels are fetched on Debian and its relatives") from None
    except subprocess.TimeoutExpired:
        raise MinivmError(f"{failure}: {words[0]} took more than {LIMIT} s") from None
    if done.returncode:
        complaints = [line for line in done.stderr.splitlines() if line.startswith(("E:", "N:", "dpkg-deb:"))]
        raise MinivmError(f"{failure}{': ' + complaints[0] if complaints else ''}")
    return done.stdout
