"""--systemd-cgroup: a container's group is the scope that systemd makes for it.

A scope is made with a process in it, so at the plan's barrier `scope` it gets the executor, which then makes the
container's process by clone3: that is born in the group, its limits set. runc moves its waiting process there instead.

`create` notes the unit's name for the commands after it when systemd has made it. Should it be killed just before that,
nothing is left either: the executor ends with it, and a scope ends with its last process.
"""

from __future__ import annotations

import os

from minirt.linux import cgroup2, cgroup_owner, device_filter
from minirt.linux.cgroup_tree import Place, find_mount
from minirt.linux.systemd import Manager
from minirt.linux.systemd_limits import device_properties, of_files, properties
from minirt.linux.systemd_unit import from_annotations, unit_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.linux.cgroup_group import Cgroup
    from minirt.runtime.container import Container

    Warn = Callable[[str], None]

__all__ = ["JoinScope", "Scope", "stop", "update"]

PATIENCE = 10_000  # ms for killed processes to be gone


class Scope:
    """The scope of a container that is being made.

    Args:
        container: whose state is told of it.
        config: config.json.
        warn: gets a sentence for each limit that version 2 does not know.

    Raises: CgroupError where no systemd answers, or linux.cgroupsPath or a limit cannot be.
    """

    def __init__(self, container: Container, config: dict[str, Any], warn: Warn) -> None:
        linux = config.get("linux") or {}
        self.container = container
        self.warn = warn
        self.resources: dict[str, Any] = linux.get("resources") or {}
        self.unit = unit_of(container.id, linux.get("cgroupsPath") or "")
        self.properties = [*device_properties(self.resources.get("devices")), *properties(self.resources, warn),
                           *from_annotations(config.get("annotations"))]  # fmt: skip
        self.owner = cgroup_owner.owner_of(config)
        self.systemd = Manager.find()

    def enter(self, pid: int) -> str:
        """Let systemd make it around a process, and set what systemd does not. Returns its directory. Raises: CgroupError.

        Simplified: for a moment there are two processes, so pids.limit 1 fails with EAGAIN (runc's own init needs more).
        """
        directory = self.systemd.start(self.unit, pid, self.properties)
        self.container.save(cgroup=directory, unit=self.unit.name, unit_user=self.systemd.user)
        mount = find_mount()
        place = Place(self.container.id, directory[len(mount.rstrip("/")) :], mount)
        cgroup2.create(self.container.id, self.resources, None, place.directory, every=True, warn=lambda _: None,
                       place=place, inhabited=True)  # fmt: skip
        device_filter.attach(directory, self.resources.get("devices"))
        cgroup_owner.give(directory, self.owner)
        return directory

    def remove(self) -> None:
        """Kill what is in it, and let systemd forget it."""
        self.systemd.bus.close()
        if self.container.state.get("unit"):  # else it was not made; one of the name is another's
            stop(self.container)


class JoinScope:
    """The scope of a container that one more process joins, as its user, who may not move processes there."""

    def __init__(self, container: Container) -> None:
        self.container = container

    def enter(self, pid: int) -> str:
        """Let systemd move a process there; what that makes is born there. Raises: CgroupError."""
        unit: str = self.container.state["unit"]
        with Manager.find(user=True) as systemd:
            systemd.attach(unit, pid)
        return self.container.state.get("cgroup") or ""


def stop(container: Container) -> None:
    """End a container's scope. Its processes are killed first: systemd would ask them with SIGTERM, and wait for 90 s.

    Raises: CgroupError.
    """
    group = container.cgroup()
    if group is not None:
        try:
            group.kill()
            group.wait_empty(PATIENCE)
        except OSError:
            pass  # systemd has removed it already, as it was empty
    with Manager.find(user=container.state.get("unit_user")) as systemd:
        systemd.stop(container.state["unit"])
    if group is not None and os.path.isdir(group.path):
        group.made = [group.path]
        group.remove()  # systemd leaves one in which the container has made more


def update(container: Container, group: Cgroup, resources: dict[str, Any], warn: Warn) -> None:
    """Change the limits of a container: those of its group, and what systemd knows of them. Raises: CgroupError.

    The files come first, as they refuse what cannot be, and once more in the end: systemd's quota is in whole per cents.
    """
    from minirt.linux.cgroup_limits import limits
    from minirt.linux.cgroup_update import complete

    group.update(resources, warn)
    changed = of_files(limits(complete(group, resources), lambda _: None))
    if changed:
        with Manager.find(user=container.state.get("unit_user")) as systemd:
            systemd.set(container.state["unit"], changed)
        group.update(resources, lambda _: None)
