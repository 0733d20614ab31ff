"""Who is who in a user namespace: its id maps, written from outside (man 7 user_namespaces)."""

from __future__ import annotations

import os
from errno import EINVAL, EPERM

from minirt.errors import KernelError, MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.trace import Sink

__all__ = ["in_initial", "map_text", "outside", "write_maps"]

CAUSES = {
    EPERM: " (a map may only name ids that the writer may use: see /etc/subuid)",
    EINVAL: " (no two lines of a map may overlap, and it may have 340: man 7 user_namespaces)",
}
# One line of a map as config.json has it: {"containerID": 0, "hostID": 100000, "size": 65536}.

INITIAL = "user:[4026531837]"  # PROC_USER_INIT_INO, linux/proc_ns.h


def in_initial() -> bool:
    """Say whether this process is in the user namespace that the kernel started with. By its number: another may map all ids."""
    return os.readlink("/proc/self/ns/user") == INITIAL


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
    process could drop a group that takes rights away. More is given by newuidmap(1) and newgidmap(1), which have
    the privilege, and look into /etc/subuid and /etc/subgid for what root has granted.

    Args:
        pid: a process in the namespace.
        uids, gids: config.json's linux.uidMappings and gidMappings.
        sink: gets each write as an event.

    Raises: KernelError.
    """
    if os.geteuid() != 0 and not (_myself_alone(uids, os.geteuid()) and _myself_alone(gids, os.getegid())):
        _by_helper("newgidmap", pid, gids, sink)
        _by_helper("newuidmap", pid, uids, sink)
        return
    if os.geteuid() != 0:
        _write(pid, "setgroups", "deny", "without privilege groups can be mapped only where none can be dropped", sink)
    _write(pid, "gid_map", map_text(gids), "groups: inside, outside, how many", sink)
    _write(pid, "uid_map", map_text(uids), "users: inside, outside, how many", sink)


def _myself_alone(mappings: Sequence[dict[str, int]], id: int) -> bool:
    return len(mappings) == 1 and mappings[0]["size"] == 1 and mappings[0]["hostID"] == id


def _by_helper(program: str, pid: int, mappings: Sequence[dict[str, int]], sink: Sink | None) -> None:
    """Let newuidmap or newgidmap write a map (man 1 newuidmap). Raises: MinirtError."""
    numbers = [str(m[key]) for m in mappings for key in ("containerID", "hostID", "size")]
    words = (program, str(pid), *numbers)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.posix_spawnp(program, words, os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 2)])
    except FileNotFoundError:
        raise MinirtError(f"{program} is not installed, and maps more ids than one's own: apt install uidmap") from None
    finally:
        os.close(writer)
        with open(reader, "rb") as file:
            said = file.read().decode(errors="replace").strip().replace("\n", " ")
    _, status = os.waitpid(child, 0)
    if sink is not None:
        from minirt.trace import Event

        sink(Event(program, words[1:], step="userns", why="it has the privilege, and asks /etc/subuid or subgid", result=status))
    if status:
        file_name = "/etc/subuid" if program == "newuidmap" else "/etc/subgid"
        raise MinirtError(f"{' '.join(words)}: {said or 'failed'}: {file_name} says which ids are yours to give")


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
        from minirt.trace import Event

        result = -1 if errno else len(text)
        sink(Event("write", args, step="userns", why=why, result=result, errno=errno))
    if errno:
        cause = CAUSES.get(errno, "") if name != "setgroups" else ""
        raise KernelError(errno, f"write({path}, {args[1]}): {os.strerror(errno)}{cause}")
