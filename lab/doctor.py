"""What the host must have for the lab, and what to install where it lacks it."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from lab.image import KEYRING, Image
from lab.machine import accelerators

__all__ = ["missing", "report"]

# program or file -> Debian and Ubuntu package
TO_RUN = {"qemu-system-x86_64": "qemu-system-x86", "setpriv": "util-linux"}
TO_BUILD = {
    "mmdebstrap": "mmdebstrap",
    KEYRING: "debian-archive-keyring",
    "mkfs.ext4": "e2fsprogs",
    "resize2fs": "e2fsprogs",
}
UNPRIVILEGED = {"newuidmap": "uidmap"}  # mmdebstrap then builds in a user namespace


def missing(built: bool) -> list[str]:
    """Return one line for each thing that the host lacks, with what to do; `built`: the image is there."""
    if platform.machine() != "x86_64":
        return ["the lab is an x86_64 machine; this host is not one"]
    wanted = dict(TO_RUN)
    if not built:
        wanted |= TO_BUILD
        wanted |= UNPRIVILEGED if os.geteuid() else {}
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lines = []
    for name, package in wanted.items():
        found = Path(name).exists() if name.startswith("/") else shutil.which(name, path=path)
        if not found:
            lines.append(f"{name} is missing: apt-get install --no-install-recommends {package}")
    if os.geteuid() and not built and not has_subordinate_ids():
        ids = "100000-165535"
        lines.append(f"no subordinate ids to build it with: sudo usermod --add-subuids {ids} --add-subgids {ids} $USER")
    return lines


def has_subordinate_ids(directory: Path = Path("/etc")) -> bool:
    """Say whether this user has ranges of ids for a user namespace (man 5 subuid: a line `NAME or UID:FIRST:COUNT`)."""
    import pwd

    try:
        names = {str(os.geteuid()), pwd.getpwuid(os.geteuid()).pw_name}
    except KeyError:
        names = {str(os.geteuid())}
    for file in ("subuid", "subgid"):
        try:
            owners = {line.split(":")[0] for line in (directory / file).read_text().splitlines()}
        except OSError:
            return False
        if not names & owners:
            return False
    return True


def report(cache: Path, image: Image | None) -> list[str]:
    """Return what `--check` prints: what is missing, else how the lab would run."""
    lines = missing(image is not None)
    how = "the host's KVM, nested" if accelerators(cache)[0] == "kvm" else "emulation (no KVM here that nests)"
    state = str(image.directory) if image else "not built yet: the first run builds it in about a minute"
    return [*lines, f"processor: {how}", f"image: {state}"]
