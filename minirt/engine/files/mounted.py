"""The root of a container that does not run, mounted for as long as we need it.

The plan of its birth is run up to the barrier at which all is mounted, and no further: so the same records decide what is
where, and its program never begins. The process that waits there has namespaces of its own, and dies with us.
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager

from minirt.engine.asked import load_options
from minirt.engine.container import Container, ContainerError
from minirt.engine.context import make_context, prepare
from minirt.engine.session import Session
from minirt.engine.spec import make_spec
from minirt.engine.start import take
from minirt.linux.rmtree import remove_tree
from minirt.oci.compile import compile_plan
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["mounted"]

WAIT = 10.0  # s for another who has it for a moment
KEPT = ("mount", "pid", "user")  # namespaces; what a network is has nothing to do with files


@contextmanager
def mounted(container: Container) -> Iterator[tuple[int, dict[str, Any]]]:
    """Mount a container's root; gives the pid of a process that has it, and config.json. Raises: ContainerError, MinirtError."""
    from minirt.image.store import Store
    from minirt.plan.birth import Birth, PlanFailed

    if not take(container, WAIT):
        raise ContainerError(f"container {container.label} is being started, or is ending: try again")
    with ExitStack() as undo:
        undo.callback(container.close)
        image = Store(os.path.join(data_root(), "image")).held(container.id)
        options = options_of(container, image)
        if options.mounts:
            from minirt.engine import volumes

            undo.callback(volumes.detach, container)
            volumes.attach(container, options)
        spec = spec_of(container, options, image)
        context = make_context(options, image, container.path, spec, None)
        aside = Aside(container)
        prepare(aside, context, image, options)
        undo.callback(aside.clear)
        session = Session(options, context, container, image, None)
        try:
            birth = undo.enter_context(Birth(compile_plan(context), (0, 1, 2)))
            for name in birth.barriers():
                if name == "resolve":
                    yield birth.pid, spec
                    return
                session.stand(name, birth)
        except PlanFailed as failure:
            raise session.verdict(failure) from None
        raise ContainerError(f"container {container.label} cannot be mounted: its plan has no such barrier")


def options_of(container: Container, image: Image) -> RunOptions:
    """Return what the container was made with, as far as its files are concerned: no network, no terminal, nothing joined."""
    from minirt.engine.options import RunOptions

    try:
        options = load_options(container)
    except ContainerError:  # it was run in the foreground
        options = RunOptions(str(container.state.get("image")), container.state.get("command") or ["/"])
        options.mounts = container.state.get("mounts") or []
    options.network, options.networks, options.publish, options.publish_all, options.network_alias = "none", [], [], False, []
    options.ip, options.ip6, options.mac_address = "", "", ""
    options.pid = options.ipc = options.uts = options.cgroupns = "private"
    options.tty, options.init, options.sysctl, options.device = False, False, [], []
    options.command = options.command or ["/"]
    return options


def spec_of(container: Container, options: RunOptions, image: Image) -> dict[str, Any]:
    """Return config.json for the mounts: as it was made for it before, where it has run; without what is gone from the host."""
    try:
        with open(f"{container.path}/config.json", encoding="utf-8") as file:
            spec: dict[str, Any] = json.load(file)
        own = (container.path + "/", "/proc", "/sys")
        spec["mounts"] = [m for m in spec["mounts"] if not m.get("source", "").startswith(own)]
    except FileNotFoundError:
        spec = make_spec(options, image.config.get("config") or {}, container.id)
    linux = spec["linux"]
    linux["namespaces"] = [{"type": n["type"]} for n in linux["namespaces"] if n["type"] in KEPT]
    if not any(n["type"] == "pid" for n in linux["namespaces"]):
        linux["namespaces"].append({"type": "pid"})
    for key in ("resources", "sysctl", "devices", "netDevices", "cgroupsPath", "seccomp", "maskedPaths", "readonlyPaths"):
        linux.pop(key, None)
    for key in ("hostname", "domainname"):
        spec[key] = ""
    spec["mounts"] = [m for m in spec["mounts"] if is_files(m)]
    spec["process"]["terminal"] = False
    return spec


def is_files(mount: dict[str, Any]) -> bool:
    """Say whether a mount is of files that `cp` is about, and its source still there."""
    if mount.get("type") in ("proc", "sysfs", "cgroup", "mqueue"):
        return False
    bound = mount.get("type") == "bind" or {"bind", "rbind"} & set(mount.get("options") or ())
    return not bound or os.path.exists(os.path.join(mount["source"], mount.get("subpath", "")))


class Aside(Container):
    """A container whose files for a birth are written beside its own, which stay as they are: nobody is born."""

    __slots__ = ("place",)

    def __init__(self, container: Container) -> None:
        super().__init__(container.state)
        self.place = os.path.join(container.path, "aside")  # one that a killed minirt has left is written over

    def write(self, name: str, text: str) -> str:
        """Write a file there."""
        os.makedirs(self.place, exist_ok=True)
        path = os.path.join(self.place, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def clear(self) -> None:
        """Remove them."""
        remove_tree(self.place)
