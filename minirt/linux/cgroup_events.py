"""Wait for what happens to a group: the out-of-memory killer, and its end.

    with OomWatch(group.path) as watch:
        while (event := watch.wait(1000)) != "gone":
            if event == "oom": ...

The kernel announces a change of memory.events and of cgroup.events by POLLPRI, so nothing is asked in between.
`runc events` prints "oom" from the same two files.

Source: Documentation/admin-guide/cgroup-v2.rst, memory.events, cgroup.events
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    import select

__all__ = ["OomWatch"]


class OomWatch:
    """A watch over one group. Where memory is not counted it tells of the group's end only."""

    def __init__(self, directory: str) -> None:
        """directory: the group's. Raises: OSError where there is none."""
        import select

        self._poll: select.poll = select.poll()
        self._files: dict[str, int] = {"cgroup.events": self._open(directory, "cgroup.events")}
        try:
            self._files["memory.events"] = self._open(directory, "memory.events")
        except FileNotFoundError:
            pass
        self._kills = self._read("memory.events").get("oom_kill", 0)

    def _open(self, directory: str, name: str) -> int:
        import select

        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
        self._poll.register(fd, select.POLLPRI)
        return fd

    def _read(self, name: str) -> dict[str, int]:
        if name not in self._files:
            return {}
        try:
            text = os.pread(self._files[name], 4096, 0).decode()
        except OSError:  # ENODEV: the group was removed
            return {}
        return {key: int(value) for key, value in (line.split() for line in text.splitlines())}

    def wait(self, milliseconds: int) -> str:
        """Return "oom" (processes were killed since the last call), "gone" (no process is left), or "" after the time.

        An empty text may also come early: something else changed.
        """
        event = self._look()
        if event or not milliseconds:
            return event
        self._poll.poll(milliseconds)
        return self._look()

    def _look(self) -> str:
        kills = self._read("memory.events").get("oom_kill", self._kills)
        if kills > self._kills:
            self._kills = kills
            return "oom"
        return "" if self._read("cgroup.events").get("populated") else "gone"

    def close(self) -> None:
        """Close the descriptors."""
        while self._files:
            os.close(self._files.popitem()[1])

    def __enter__(self) -> OomWatch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
