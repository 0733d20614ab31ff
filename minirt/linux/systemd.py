"""systemd, asked over D-Bus for a scope: a unit whose processes it did not start, and whose group is ours to divide.

On a machine that systemd runs, the tree of control groups has one writer (https://systemd.io/CGROUP_DELEGATION).
Whoever wants a part of it asks for a unit with Delegate=yes; that part is then left alone. A scope is made with a
process in it, and ends with its last one.

    with Manager.find() as systemd:
        group = systemd.start(unit, pid, [("MemoryMax", ("t", 64 << 20))])      # /sys/fs/cgroup/system.slice/...
        systemd.stop(unit.name)

Root asks the system's systemd, a user the one of its own. Each has a socket for itself, where no bus needs to run;
where that is closed to us, the way is the bus.

Sources: man 5 org.freedesktop.systemd1; man 5 systemd.scope; man 3 sd_booted
"""

from __future__ import annotations

import os

from minirt.linux.cgroup_files import CgroupError
from minirt.linux.cgroup_tree import find_mount
from minirt.linux.dbus import Bus, BusError, address_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minirt.linux.systemd_unit import Property, Unit

__all__ = ["Manager"]

NAME = "org.freedesktop.systemd1"
OBJECT = "/org/freedesktop/systemd1"
MANAGER = f"{NAME}.Manager"
BOOTED = "/run/systemd/system"  # a directory that is there where systemd is pid 1 (man 3 sd_booted)
WITHOUT = "leave the flag out, and use the engine's cgroupfs driver (podman --cgroup-manager=cgroupfs," \
          " dockerd --exec-opt native.cgroupdriver=cgroupfs)"  # fmt: skip
GONE = ("NoSuchUnit", "NotLoaded")  # ends of an error's name: there is nothing left to stop


class Manager:
    """A connection to systemd. `user`: it is a user's own."""

    def __init__(self, bus: Bus, user: bool) -> None:
        self.bus = bus
        self.user = user
        if bus.destination:
            self.ask("Subscribe")  # on a bus its signals are sent to who asked for them

    @classmethod
    def find(cls, user: bool | None = None) -> Manager:
        """Return a connection to the systemd that is ours to ask: the system's, or a user's own.

        user: which; by default the system's for root, if it lets us (root of a user namespace is nobody to it).
        Raises: CgroupError where none runs, or none answers.
        """
        if user is None and os.geteuid() == 0:
            try:
                return cls.find(user=False)
            except CgroupError:
                if not os.environ.get("XDG_RUNTIME_DIR"):
                    raise
        if not user and not os.path.isdir(BOOTED) and os.geteuid() == 0:
            raise CgroupError(f"--systemd-cgroup: systemd does not run here ({BOOTED} is missing): {WITHOUT}")
        refused = []
        for path, destination in sockets(user if user is not None else True):
            try:
                return cls(Bus(path, destination), user is not False)
            except OSError as error:
                refused.append(f"{path}: {error.strerror}")
            except BusError as error:
                refused.append(str(error))
        whose = "the system's" if user is False else "this user's"
        said = "; ".join(refused) or "XDG_RUNTIME_DIR is not set: loginctl enable-linger makes one that stays"
        raise CgroupError(f"--systemd-cgroup: {whose} systemd cannot be asked ({said}): {WITHOUT}")

    def ask(self, member: str, signature: str = "", *values: object) -> list[object]:
        """Call a method of the manager. Raises: BusError."""
        return self.bus.call(OBJECT, MANAGER, member, signature, *values)

    # -- the life of a unit ----------------------------------------------------------------------------------

    def start(self, unit: Unit, pid: int, more: Sequence[Property]) -> str:
        """Make a scope with a process in it.

        Args:
            unit: its name, its slice.
            pid: of the process, which systemd moves there.
            more: properties besides those that every container's scope has; later ones count.

        Returns: the group's absolute directory. Raises: CgroupError; there is no such unit then, or it is another's.
        """
        properties = [
            ("Description", ("s", f"libcontainer container {unit.title}")),  # as engines' tools look for it
            ("Slice", ("s", unit.slice or ("user.slice" if self.user else "system.slice"))),
            ("PIDs", ("au", [pid])),
            ("Delegate", ("b", True)),
            *((f"{kind}Accounting", ("b", True)) for kind in ("Memory", "CPU", "IO", "Tasks")),
            ("DefaultDependencies", ("b", False)),  # it ends with its engine, not before it at shutdown
            *more,
        ]
        try:
            self.start_transient(unit.name, properties)
            return find_mount() + str(self.property_of(unit.name, "ControlGroup"))
        except BusError as error:
            raise CgroupError(f"systemd does not make {unit.name}: {error}") from None

    def start_transient(self, name: str, properties: Sequence[Property]) -> None:
        """Start a unit that exists for its processes alone, and wait until it is there.

        One of that name that failed is still known, until it is reset; then it is tried once more.
        """
        asked: tuple[Any, ...] = ("ssa(sv)a(sa(sv))", name, "replace", properties, [])
        try:
            (job,) = self.ask("StartTransientUnit", *asked)
        except BusError as error:
            if not error.name.endswith("UnitExists"):
                raise
            self.reset(name)
            (job,) = self.ask("StartTransientUnit", *asked)
        result = self.result_of(job)
        if result != "done":
            self.reset(name)
            raise BusError(f"its job ended with {result!r}: journalctl -u {name} may tell why")

    def set(self, name: str, properties: Sequence[Property]) -> None:
        """Change properties of a unit, until it ends. Raises: CgroupError.

        systemd answers before it has written them to the group; at the second question it has.
        """
        try:
            self.ask("SetUnitProperties", "sba(sv)", name, True, properties)
            self.property_of(name, "ControlGroup")
        except BusError as error:
            raise CgroupError(f"systemd does not change {name}: {error}") from None

    def attach(self, name: str, pid: int) -> None:
        """Move a process into a unit's group, where we may not do it ourselves. Raises: CgroupError."""
        try:
            self.ask("AttachProcessesToUnit", "ssau", name, "", [pid])
        except BusError as error:
            raise CgroupError(f"systemd does not move pid {pid} into {name}: {error}") from None

    def stop(self, name: str) -> None:
        """End a unit, whose processes should be gone, and let systemd forget it. Raises: CgroupError."""
        try:
            (job,) = self.ask("StopUnit", "ss", name, "replace")
            self.result_of(job)
        except BusError as error:
            if not error.name.endswith(GONE):
                raise CgroupError(f"systemd does not stop {name}: {error}") from None
        self.reset(name)

    def reset(self, name: str) -> None:
        """Let systemd forget a unit that has failed, if it has."""
        try:
            self.ask("ResetFailedUnit", "s", name)
        except BusError:
            pass

    # -- questions -------------------------------------------------------------------------------------------

    def property_of(self, name: str, key: str) -> object:
        """Return a property of a scope. Raises: BusError."""
        (path,) = self.ask("GetUnit", "s", name)
        ((_, value),) = self.bus.call(str(path), "org.freedesktop.DBus.Properties", "Get", "ss", f"{NAME}.Scope", key)
        return value

    def result_of(self, job: object) -> object:
        """Wait for a job's end: done, failed, canceled, timeout, dependency, skipped."""
        return self.bus.wait_signal("JobRemoved", lambda values: values[1] == job)[3]

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self.bus.close()


def sockets(user: bool) -> list[tuple[str, str]]:
    """Return where systemd may be asked, in the order of trying: path, and the name on the bus that it leads to."""
    if not user:
        return [("/run/systemd/private", ""), ("/run/dbus/system_bus_socket", NAME)]
    found = []
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        found += [(f"{runtime}/systemd/private", ""), (f"{runtime}/bus", NAME)]
    address = address_path(os.environ.get("DBUS_SESSION_BUS_ADDRESS", ""))
    return [*found, (address, NAME)] if address else found
