"""Fetch a kernel from Debian's archive: by apt-get, which verifies it, and dpkg-deb, which unpacks it.

linux-image-cloud-amd64 and linux-image-amd64 are empty packages that depend on the newest kernel's. That one is
downloaded and unpacked, not installed: nothing on the host changes but the cache, and no root is needed. man 8 apt-get
(download), man 1 dpkg-deb.

    linux-image-6.1.0-9-amd64     boot/vmlinuz-6.1.0-9-amd64, lib/modules/6.1.0-9-amd64/
    linux-image-7.3.4-amd64       empty; it depends on these two:
    linux-binary-7.3.4-amd64      usr/lib/modules/7.3.4-amd64/vmlinuz
    linux-modules-7.3.4-amd64     usr/lib/modules/7.3.4-amd64/kernel/
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
    from collections.abc import Callable, Sequence

__all__ = ["NAMES", "fetch"]

# name -> (the package that depends on the newest, what it is)
NAMES = {
    "debian-cloud": ("linux-image-cloud-amd64", "for virtual machines: few drivers, starts fast"),
    "debian": ("linux-image-amd64", "for any machine"),
}
RELEASE = re.compile(r"[0-9][0-9A-Za-z._+~-]*")  # which becomes a directory's name
PARTS = re.compile(r"\blinux-(?:binary|modules)-[0-9][0-9A-Za-z.+~-]*")  # of a kernel that is several packages
MODULES = ("usr/lib/modules", "lib/modules")  # newer packages have everything below /usr
LIMIT = 900  # seconds for one of the programs


def fetch(name: str, debs: Sequence[str] = (), say: Callable[[str], None] = lambda text: None) -> Kernel:
    """Download a kernel's package and keep what is in it; nothing is done where the newest is kept already.

    Args:
        name: a key of NAMES.
        debs: the kernel's package files, where they are at hand; nothing is downloaded then.
        say: told what is being done.

    Raises MinivmError.
    """
    path, fd = scratch().directory()
    try:
        if not debs:
            package = newest(NAMES[name][0])
            kept = find(package.removeprefix("linux-image-"))
            if kept and kept["name"] == name and kept["version"] == available(package):
                return kept
            debs = _download(package, path, say)
        say(f"unpacking {', '.join(os.path.basename(deb) for deb in debs)}")
        return _keep(name, debs, f"{path}/root")
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


def _download(package: str, path: str, say: Callable[[str], None]) -> list[str]:
    """Download a kernel's package into a directory, and those that it is made of; return their paths, its own first."""
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []  # apt's own user may not enter `path`
    debs: list[str] = []
    wanted = [package]
    for name in wanted:
        say(f"downloading {name} by apt-get")
        _run(["apt-get", "-qq", *sandbox, "download", name], f"cannot download {name}", cwd=path)
        debs += [f"{path}/{file}" for file in os.listdir(path) if file.startswith(f"{name}_") and file.endswith(".deb")]
        if name == package:
            wanted += sorted(set(PARTS.findall(_run(["dpkg-deb", "-f", debs[0], "Depends"], f"cannot read {debs[0]!r}"))))
    return debs


def _keep(name: str, debs: Sequence[str], root: str) -> Kernel:
    """Unpack a kernel's packages and move what is in them into the cache; the first one's name and version are the kernel's.

    A package may hold links to anywhere. So each is unpacked by itself, and what is wanted is moved out of it into a directory
    that is ours: regular files, and directories that are reached by no link.
    """
    import json

    packages = [_unpack(deb, f"{root}.{number}") for number, deb in enumerate(debs)]
    fields = _run(["dpkg-deb", "-f", os.path.abspath(debs[0]), "Package", "Version"], f"cannot read {debs[0]!r}")
    about = dict(re.findall(r"^(Package|Version): (.*)$", fields, re.M))
    found = [kernel for package in packages for kernel in _kernels(package)]
    if len(found) != 1:
        what = f"{debs[0]!r} is no package" if len(debs) == 1 else "these are no packages"
        raise MinivmError(f"{what} of a kernel: it has {len(found)} files boot/vmlinuz-RELEASE{_parts(debs)}")
    ((release, package, image),) = found
    os.makedirs(f"{root}/boot")
    os.makedirs(f"{root}/lib/modules")
    os.rename(image, f"{root}/boot/vmlinuz-{release}")
    for file in _files(f"{package}/boot"):
        os.rename(f"{package}/boot/{file}", f"{root}/boot/{file}")
    place = next(
        (f"{one}/{modules}/{release}" for one in packages for modules in MODULES if _is_inside(one, f"{modules}/{release}/kernel")),
        "",
    )
    if place:
        os.rename(place, f"{root}/lib/modules/{release}")
    Kernel(release, root, {}).unpack()
    with open(f"{root}/kernel.json", "w", encoding="utf-8") as stream:
        json.dump({"name": name, "package": about.get("Package", ""), "version": about.get("Version", "")}, stream)
    return _publish(root, release)


def _unpack(deb: str, place: str) -> str:
    """Unpack a package into a directory that is made, and return that."""
    os.mkdir(place)
    _run(["dpkg-deb", "-x", os.path.abspath(deb), place], f"cannot unpack {deb!r}")
    return place


def _kernels(package: str) -> list[tuple[str, str, str]]:
    """Return (release, package, path of its vmlinuz) of each kernel in an unpacked package."""
    boot = [(file.removeprefix("vmlinuz-"), f"boot/{file}") for file in _files(f"{package}/boot") if file.startswith("vmlinuz-")]
    beside = [
        (release, f"{modules}/{release}/vmlinuz")
        for modules in MODULES
        if _is_inside(package, modules)
        for release in sorted(os.listdir(f"{package}/{modules}"))
        if _is_inside(package, f"{modules}/{release}") and "vmlinuz" in _files(f"{package}/{modules}/{release}")
    ]
    return [(release, package, f"{package}/{place}") for release, place in boot + beside if RELEASE.fullmatch(release)]


def _parts(debs: Sequence[str]) -> str:
    """Return in words which packages are asked for beside these."""
    wanted = PARTS.findall(_run(["dpkg-deb", "-f", os.path.abspath(debs[0]), "Depends"], f"cannot read {debs[0]!r}"))
    lacks = [name for name in wanted if not any(os.path.basename(deb).startswith(f"{name}_") for deb in debs)]
    return f"; it is made of {' and '.join(lacks)}: give --deb for each" if lacks else ""


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
