"""create, run: a container's birth, in two halves or in one.

create   config.json ─▶ plan ─▶ a process that is all but started, and waits at a FIFO (starting.py goes on)
run      both halves, and stays until the end
"""

from __future__ import annotations

import os

from minirt.errors import MinirtError
from minirt.oci.begin import begin_plan, finish_in_parts
from minirt.oci.step import Context
from minirt.runtime import hooks
from minirt.runtime.birth import Delivery, compile_filter, descriptors, is_rootless, null_descriptors, write_pid
from minirt.runtime.console import check_terminal, send_fd, stay
from minirt.runtime.container import Container, RuntimeFailure, start_time
from minirt.runtime.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.linux.cgroup_tree import Place
    from minirt.plan.birth import Birth
    from minirt.runtime.scope import Scope

    Warn = Callable[[str], None]

__all__ = ["create", "load_bundle", "run"]


def load_bundle(bundle: str, warn: Warn) -> tuple[str, dict[str, Any]]:
    """Return a bundle's absolute directory and its configuration, which is right. Raises: MinirtError."""
    from minirt.documents import load_file
    from minirt.oci.validate import validate

    bundle = os.path.abspath(bundle or ".")
    try:
        config = load_file(f"{bundle}/config.json")
    except OSError as error:
        raise RuntimeFailure(f"{bundle}/config.json: {error.strerror}: minirt oci spec writes one") from None
    for ignored in validate(config, is_rootless()):
        warn(ignored)
    rootfs = os.path.join(bundle, config["root"]["path"])
    if not os.path.isdir(rootfs):
        raise RuntimeFailure(f"config.json: root.path: {rootfs} is no directory")
    return bundle, config


class Making:
    """One container on its way; what was made is unmade if it does not arrive."""

    def __init__(self, root: str, id: str, values: dict[str, Any], warn: Warn) -> None:
        self.values = values
        self.warn = warn
        self.bundle, self.config = load_bundle(values["bundle"], warn)
        self.process: dict[str, Any] = self.config.get("process") or {}
        if self.process and self.process.get("capabilities") is None:
            self.process["capabilities"] = {}  # none are asked for: so none are kept, as runc and crun understand it
        self.container = Container(root, id)
        self.undo = Undo()
        self.cgroup = ""
        self.scope: Scope | None = None

    def prepare(self) -> None:
        """Make the directory, write down what will be made, and make the cgroup."""
        import time

        if not self.process:
            raise RuntimeFailure("config.json: process: missing, and nothing can be started without one")
        self.container.make()
        self.undo.call(self.container.remove)
        place = self.place()
        self.container.save(
            ociVersion=self.config.get("ociVersion"), id=self.container.id, status="creating", bundle=self.bundle, pid=0,
            rootfs=os.path.join(self.bundle, (self.config.get("root") or {}).get("path") or ""), created=time.time(),
            owner=os.geteuid(), config=self.config, cgroup=place.directory if place else "",
            cgroup_mount=place.mount if place else "", cgroup_made=place.missing() if place else [],
        )  # fmt: skip
        self.undo.call(self.poststop)
        if self.values["systemd_cgroup"]:
            from minirt.runtime.scope import Scope

            self.scope = Scope(self.container, self.config, self.warn)
        else:
            self.make_cgroup(place)

    def place(self) -> Place | None:
        """Return where the cgroup will be, written down before it is made: a kill -9 may come in between."""
        from minirt.linux import cgroup2

        if self.values["systemd_cgroup"]:
            return None
        try:
            return cgroup2.locate(self.container.id, (self.config.get("linux") or {}).get("cgroupsPath") or "")
        except MinirtError:
            return None

    def make_cgroup(self, place: Place | None) -> None:
        """Make the cgroup with its limits. Raises: CgroupError."""
        from minirt.linux import cgroup2

        linux = self.config.get("linux") or {}
        resources = linux.get("resources") or {}
        path = linux.get("cgroupsPath") or ""
        group = cgroup2.create(self.container.id, resources, None, path, every=True, warn=self.warn, place=place)
        if isinstance(group, cgroup2.NoCgroup):
            self.container.save(cgroup="", cgroup_made=[])
            return
        self.undo.call(self.remove_group, group)
        self.cgroup = group.path
        mounts = self.config.get("mounts") or ()
        if any("cgroup" in (mount.get("type") or "") and "ro" not in (mount.get("options") or ()) for mount in mounts):
            from minirt.linux import cgroup_owner

            cgroup_owner.give(group.path, cgroup_owner.owner_of(self.config))

    def filter_devices(self) -> None:
        """Say which devices the cgroup's processes may use; until now there are none but that of the plan. Raises: CgroupError."""
        if self.cgroup:
            from minirt.linux import device_filter

            device_filter.attach(self.cgroup, ((self.config.get("linux") or {}).get("resources") or {}).get("devices"))

    def context(self, start_fifo: str) -> Context:
        """Return what the plan is compiled from."""
        config = {**self.config, "process": self.process}
        return Context(
            config, self.bundle, cgroup=self.cgroup, seccomp=compile_filter(config), rootless=is_rootless(),
            no_pivot=self.values["no_pivot"], null_fds=null_descriptors(), resolve=True, created=True,
            start_fifo=start_fifo, hooks=hooks.before_pivot(config), new_keyring=not self.values["no_new_keyring"],
            scope=self.scope is not None,
        )  # fmt: skip

    def deliver(self, status: str, start_fifo: str, memory: int, detach: bool) -> tuple[Birth, Delivery, Any]:
        """Give birth, up to the barrier at which all is done but the start. Returns the birth, and its barriers to go on.

        That it is there is written down by then: since the root is complete, while the child gives up its rights.
        """
        from minirt.plan.birth import Birth

        check_terminal(bool(self.process.get("terminal")), detach, self.values["console_socket"])
        fds, self.process = descriptors(self.process, self.values["preserve_fds"])
        context = self.context(start_fifo)
        birth = Birth(lambda: begin_plan(context, len(fds) - 3), fds, None, memory, finish_in_parts(context))
        self.undo.call(birth.close)
        self.filter_devices()  # while the child makes its namespaces and mounts
        delivery = Delivery(self.container, context, self.undo, self.values["console_socket"])
        if self.scope is not None:
            delivery.scope = self.scope
            self.undo.call(self.scope.remove)
        barriers = birth.barriers()
        for name in barriers:
            if name == "created":
                break
            delivery.at(name, birth)
            if name == "resolve":
                birth.meanwhile = lambda: self.container.save(status=status, pid=birth.pid, started=start_time(birth.pid))
        else:
            raise RuntimeFailure("the container's process ended before its start")
        if self.values["pidfd_socket"]:
            send_fd(self.values["pidfd_socket"], b"pidfd", birth.pidfd, "--pidfd-socket")
        if self.values["pid_file"]:
            write_pid(self.values["pid_file"], birth.pid)
        return birth, delivery, barriers

    def remove_group(self, group: Any) -> None:
        """Remove the cgroup, unless a `delete` has; another container may have the same by now."""
        if self.container.is_ours():
            group.remove()

    def poststop(self) -> None:
        """Run the hooks that tell of the end, unless a `delete` has."""
        if not self.container.is_ours():
            return
        try:
            hooks.run_outside("poststop", hooks.of(self.config, "poststop"), self.container.oci_state("stopped"))
        except MinirtError as error:
            self.warn(str(error))


def create(root: str, id: str, values: dict[str, Any], warn: Warn) -> int:
    """Create a container; its program waits for `start`. Raises: MinirtError, and then nothing is left."""
    making = Making(root, id, values, warn)
    with making.undo:
        making.prepare()
        container = making.container
        os.mkfifo(container.fifo, 0o600)
        memory = os.open(f"{container.path}/plan", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        birth, _, _ = making.deliver("created", container.fifo, memory, detach=True)
        birth.leave()
        making.undo.keep()
        birth.close()
        container.close()
        return 0


def run(root: str, id: str, values: dict[str, Any], warn: Warn) -> int:
    """Create and start a container; without --detach stay until its end and delete it. Returns its exit status."""
    making = Making(root, id, values, warn)
    detach = values["detach"]
    with making.undo:
        making.prepare()
        signals = None
        if not detach:
            from minirt.terminal.wait import Signals

            signals = Signals().__enter__()
            making.undo.call(signals.__exit__)
        birth, delivery, barriers = making.deliver("running", "", -1, detach)
        container = making.container
        config = making.config
        hooks.run_inside("startContainer", hooks.of(config, "startContainer"), container.oci_state("created"), birth.pid)
        for _ in barriers:
            pass
        hooks.run_outside("poststart", hooks.of(config, "poststart"), container.oci_state("running"))
        if detach:
            birth.reaped()
            making.undo.keep()
            birth.close()
            container.close()
            return 0
        container.unlock()
        status = stay(birth.pidfd, delivery.master, signals)
        birth.reaped()
        container.lock()  # what is undone below is undone if nobody has deleted the container meanwhile
        if values["keep"]:
            making.undo.keep()
            birth.close()
        return status
