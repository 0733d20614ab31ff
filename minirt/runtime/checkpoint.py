"""checkpoint: a container's processes become files, from which `restore` brings them back (man 8 runc-checkpoint).

CRIU does it (minirt.linux.criu). What it did not find in the container, `restore` must find outside of it: the root
file system, as it is then, the bundle, and what saved.py names.
"""

from __future__ import annotations

import os
import stat

from minirt.documents import dumps
from minirt.linux import mountinfo
from minirt.linux.cgroup_tree import find_mount
from minirt.linux.criu import DUMP, PRE_DUMP, Criu, CriuError
from minirt.runtime import saved
from minirt.runtime.container import Container, RuntimeFailure
from minirt.runtime.flags import Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["FLAGS", "checkpoint"]

FLAGS = (
    *saved.BOTH,
    Flag("parent-path", "DIR of the image before this one, from --image-path: only what has changed is saved", ""),
    Flag("leave-running", "let the container go on"),
    Flag("pre-dump", "save memory alone, to have less to save when it stops; it goes on"),
    Flag("tcp-skip-in-flight", "leave out TCP connections that are being made"),
    Flag("link-remap", "with files that are open and have no name any more, but other links"),
    Flag("page-server", "ADDRESS:PORT (refused: memory goes to the image)", ""),
    Flag("status-fd", "FD (refused, as --lazy-pages is)", ""),
)
LOG = "dump.log"


def checkpoint(root: str, id: str, values: dict[str, Any], warn: Callable[[str], None]) -> int:
    """Save a container; unless it is to go on, it is deleted then. Raises: MinirtError; it goes on then as before."""
    container = Container(root, id).load(lock=True)
    status = container.status()
    if status not in ("running", "paused"):
        raise RuntimeFailure(f"container cannot be checkpointed in {status} state")
    path = os.path.abspath(values["image_path"] or "checkpoint")
    goes_on = values["leave_running"] or values["pre_dump"]
    options = saved.common(values, LOG)
    options.update(of_container(container), **of_flags(values, path))
    # In a user namespace its root is somebody else, who is to find there what was saved of it; the files say to whom they are.
    own = not any(ns["type"] == "user" for ns in (container.config.get("linux") or {}).get("namespaces") or ())
    image = saved.open_directory(path, "--image-path", make=True, mode=0o700 if own else 0o711)
    work = saved.open_directory(values["work_path"] or path, "--work-path", make=True)
    try:
        options.update(images_dir_fd=image, work_dir_fd=work)
        if not values["pre_dump"]:
            options["ext_mnt"] = outside(container)
            names = descriptors(container.pid)
            options["external"] = [*options.get("external", ()), *(name for name in names if name.startswith("file["))]
            with open(os.path.join(path, saved.DESCRIPTORS), "w", encoding="utf-8") as file:
                file.write(dumps(names))
        dump(PRE_DUMP if values["pre_dump"] else DUMP, options, values["work_path"] or path)
    finally:
        os.close(image)
        os.close(work)
    if not goes_on:
        from minirt.runtime.ending import remove

        remove(container, warn)
    return 0


def dump(kind: int, options: dict[str, Any], log_directory: str) -> None:
    """Let CRIU do it. Raises: CriuError."""
    try:
        with Criu() as criu:
            criu.ask(kind, options)
    except CriuError as error:
        raise saved.explain(error, log_directory, LOG) from None


def of_container(container: Container) -> dict[str, Any]:
    """Return the fields that follow from the container."""
    options: dict[str, Any] = {"pid": container.pid, "root": container.state["rootfs"]}
    external = []
    for namespace in (container.config.get("linux") or {}).get("namespaces") or ():
        if namespace.get("path") and namespace["type"] in saved.JOINED:
            name, key = saved.JOINED[namespace["type"]]
            external.append(f"{name}[{os.stat(namespace['path']).st_ino}]:{key}")
    if external:
        options["external"] = external
    if path := saved.settings(container.config):
        options["config_file"] = path
    group = container.cgroup()
    if group is not None and find_mount() == "/sys/fs/cgroup":  # where CRIU looks for it; else it stops them by ptrace
        options["freeze_cgroup"] = group.path
    return options


def of_flags(values: dict[str, Any], path: str) -> dict[str, Any]:
    """Return the fields that follow from the flags. Raises: RuntimeFailure."""
    options = {key: values[key] for key in ("leave_running", "tcp_skip_in_flight", "link_remap")}
    parent = values["parent_path"]
    if parent:
        if os.path.isabs(parent) or not os.path.isdir(os.path.normpath(os.path.join(path, parent))):
            raise RuntimeFailure(f"--parent-path {parent}: a directory as seen from --image-path {path}, as ../before")
        options.update(parent_img=parent, track_mem=True)
    return options


def outside(container: Container) -> list[list[tuple[int, str]]]:
    """Return ext_mount_map entries: what is mounted from outside, and the name that `restore` will give for it.

    A masked file has a null device over it. Mostly that is the container's own, and nothing to be told of; where it could
    make none (in a user namespace), it is the host's, as its other devices are.
    """
    entries = [(target, target) for target, _ in saved.bound(container.config)]
    mounts = mountinfo.read(f"/proc/{container.pid}/mountinfo")
    whole = {mount.device for mount in mounts if mount.root == "/"}
    names = {**dict.fromkeys((container.config.get("linux") or {}).get("maskedPaths") or (), "/dev/null"),
             **{path: path for path in saved.devices(container.config)}}  # fmt: skip
    entries += [(mount.point, names[mount.point]) for mount in mounts if mount.point in names and mount.device not in whole]
    return [[(1, target), (2, name)] for target, name in entries]


def descriptors(pid: int) -> list[str]:
    """Return what standard input, output and error are, by the names under which `restore` puts others in their place.

    Pipes: pipe:[INODE]. Files of the host: file[MOUNT:INODE], in hexadecimal; these CRIU must be told of on both sides.
    """
    inside = {mount.id for mount in mountinfo.read(f"/proc/{pid}/mountinfo")}
    names = []
    for fd in (0, 1, 2):
        try:
            name = os.readlink(f"/proc/{pid}/fd/{fd}")
            with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as file:
                mount = next(line.split()[1] for line in file if line.startswith("mnt_id:"))
            found = os.stat(f"/proc/{pid}/fd/{fd}")
        except OSError:
            name = ""
        if name.startswith("/") and mount not in inside and stat.S_ISREG(found.st_mode):
            name = f"file[{int(mount):x}:{found.st_ino:x}]"
        names.append(name)
    return names
