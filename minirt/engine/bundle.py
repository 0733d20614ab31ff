"""`minirt run --as-oci DIR`: the container as a bundle for any OCI runtime, and nothing of it is run.

    DIR/config.json   what minirt itself would compile its plan from, with the filter of system calls written out
        rootfs/       the image's files, as one tree
"""

from __future__ import annotations

import json
import os

from minirt.engine.attachments import network_of
from minirt.engine.images import find_image
from minirt.engine.spec import make_spec, security_options
from minirt.errors import UsageError
from minirt.oci import lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions

__all__ = ["write_bundle"]


def write_bundle(options: RunOptions, path: str) -> None:
    """Write the bundle of a container.

    Args:
        options: what was asked for; a network and limits of the engine's own (`--network NAME`) have no place in it.
        path: a directory that is not there yet.

    Raises: UsageError, ImageError; the directory is not there then.
    """
    from minirt.linux.rmtree import remove_tree

    if network_of(options):
        raise UsageError(f"--as-oci: --network {options.network}: a bundle cannot say it: give none or host")
    image = find_image(options.image)
    own_mounts(options, image.config.get("config") or {})
    spec = make_spec(options, image.config.get("config") or {}, os.path.basename(os.path.abspath(path)))
    spec["root"]["path"] = "rootfs"
    spec["process"]["terminal"] = options.tty
    filter_of(options, spec)
    try:
        os.mkdir(path, 0o755)
    except OSError as error:
        raise UsageError(f"--as-oci {path}: {error.strerror}: name a directory that is not there yet") from None
    try:
        write_root(f"{path}/rootfs", image.layers())
        say_user(options, spec, f"{path}/rootfs", (image.config.get("config") or {}).get("User") or "")
        with open(f"{path}/config.json", "w", encoding="utf-8") as file:
            json.dump(spec, file, indent=2)
    except BaseException:
        remove_tree(path)
        raise


def own_mounts(options: RunOptions, image: dict[str, Any]) -> None:
    """Make what is bound, where it is missing. What the image's VOLUMEs and `-v /PATH` want stays in the bundle's own root."""
    from minirt.engine.mounts import requests
    from minirt.engine.volumes import create

    wanted = [request for request in requests(options, image) if not request.anonymous]
    for request in wanted:
        if request.kind == "volume":
            create(request.source, request.labels, request.driver_options)
        elif request.make:
            os.makedirs(request.source, exist_ok=True)
        if request.subpath:
            raise UsageError(f"--as-oci: {request.where}: a bundle cannot say volume-subpath")
    options.mounts = [request.as_dict() for request in wanted]


def filter_of(options: RunOptions, spec: dict[str, Any]) -> None:
    """Put the filter of system calls into config.json, as the specification has it. Raises: UsageError, SeccompError."""
    wanted = security_options(options)[1]
    if wanted == "unconfined":
        return
    from minirt.engine.context import read_profile
    from minirt.linux import seccomp

    profile = seccomp.default_profile() if wanted == "default" else read_profile(wanted)[0]
    spec["linux"]["seccomp"] = seccomp.resolve(profile, spec["process"]["capabilities"]["bounding"])


def write_root(path: str, layers: list[str]) -> None:
    """Write the tree that layers make into a new directory."""
    from minirt.image.export import export
    from minirt.image.layer import unpack
    from minirt.image.pack import Pieces

    os.mkdir(path, 0o755)
    unpack(Pieces(export(layers)), path)


def say_user(options: RunOptions, spec: dict[str, Any], root: str, inherited: str) -> None:
    """Say in numbers who the program runs as, and where that user is at home. Raises: MinirtError."""
    fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        user = lookup.find_user(fd, options.user or inherited, options.group_add)
    finally:
        os.close(fd)
    process = spec["process"]
    process["user"] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
    if not any(item.startswith("HOME=") for item in process["env"]):
        process["env"].append(f"HOME={user.home}")
