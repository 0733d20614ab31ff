"""Who is who in a user namespace: its id maps, written from outside (man 7 user_namespaces)."""

from __future__ import annotations

import os

from minirt.errors import KernelError
from minirt.plan.events import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.plan.events import Sink

__all__ = ["map_text", "outside", "write_maps"]

# One line of a map as config.json has it: {"containerID": 0, "hostID": 100000, "size": 65536}.


def map_text(mappings: Sequence[dict[str, int]]) -> str:
    """Return the lines of uid_map or gid_map: inside, outside, how many."""
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def outside(mappings: Sequence[dict[str, int]], inside: int) -> int:
    """Return the host's id for one of the namespace's. Raises ValueError where it has none."""
    for m in mappings:
        if m["containerID"] <= inside < m["containerID"] + m["size"]:
            return m["hostID"] + inside - m["containerID"]
    raise ValueError(f"id {inside} is not in the map {map_text(mappings)!r}")


def write_maps(
    pid: int, uids: Sequence[dict[str, int]], gids: Sequence[dict[str, int]], sink: Sink | None = None
) -> None:
    """Write the maps of a process's user namespace; each can be written once.

    Without privilege one may map oneself alone, and groups only after giving up setgroups(2) there: else a
    process could drop a group that takes rights away.

    Args:
        pid: a process in the namespace.
        uids, gids: config.json's linux.uidMappings and gidMappings.
        sink: gets each write as an event.

    Raises: KernelError.
    """
    if os.geteuid() != 0:
        _write(pid, "setgroups", "deny", "without privilege groups can be mapped only where none can be dropped", sink)
    _write(pid, "gid_map", map_text(gids), "groups: inside, outside, how many", sink)
    _write(pid, "uid_map", map_text(uids), "users: inside, outside, how many", sink)


def _write(pid: int, name: str, text: str, why: str, sink: Sink | None) -> None:
    path = f"/proc/{pid}/{name}"
    errno = 0
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, text.encode())  # in one write: the kernel takes no second
        finally:
            os.close(fd)
    except OSError as error:
        errno = error.errno or 0
    args = (path, '"' + text.replace("\n", "\\n") + '"')
    if sink is not None:
        result = -1 if errno else len(text)
        sink(Event("write", args, step="userns", why=why, result=result, errno=errno))
    if errno:
        cause = " (a map may only name ids that the writer may use: see /etc/subuid)" if name != "setgroups" else ""
        raise KernelError(errno, f"write({path}, {args[1]}): {os.strerror(errno)}{cause}")
