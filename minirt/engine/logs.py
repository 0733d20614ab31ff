"""What a detached container wrote: its log files, read as one, and followed while they grow.

Each line is a JSON object of Docker's json-file driver (csrc/monitor/log.c). `log` is the newest file; `log.1` is older.
"""

from __future__ import annotations

import json
import os
import time
from collections import deque
from datetime import UTC

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import IO

    from minirt.engine.container import Container

__all__ = ["Line", "check_kept", "details", "lines", "moment", "seconds"]

LOOK = 0.05  # s between two looks whether there is more
UNITS = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


class Line:
    """A line, or a piece of a long one."""

    __slots__ = ("stream", "text", "time")

    def __init__(self, text: str, stream: str, time: str) -> None:
        self.text = text  # with its "\n", if it has one
        self.stream = stream  # stdout or stderr
        self.time = time  # RFC 3339, UTC, nanoseconds: such texts sort as the moments do


def lines(
    container: Container, tail: int | None = None, since: str = "", until: str = "", follow: bool = False,
    wanted: Callable[[], bool] = lambda: True,
) -> Iterator[Line]:  # fmt: skip
    """Yield the lines of a container's log.

    Raises: ContainerError where it is kept nowhere.

    Args:
        container: whose.
        tail: only so many from the end, and what comes after them.
        since, until: only those of this time and later, before this time; as `moment` gives them.
        follow: wait for more until the container has ended.
        wanted: asked meanwhile whether anybody is still there to read them.
    """
    check_kept(container)
    reader = Reader(container.path)
    old = (line for line in reader.read() if line.time >= since and (not until or line.time < until))
    yield from old if tail is None else deque(old, tail)
    while follow and not reader.ended and wanted():
        over = not still_written(container)  # asked before: what was written until then is read now
        over = over or bool(until and until <= moment(str(time.time())))
        for line in reader.read():
            if until and line.time >= until:
                return
            if line.time >= since:
                yield line
        if over:
            return
        time.sleep(LOOK)


def check_kept(container: Container) -> None:
    """Refuse a container whose output nobody keeps. Raises: ContainerError."""
    from minirt.engine.asked import load_options
    from minirt.engine.container import ContainerError

    try:
        driver = load_options(container).log_driver
    except ContainerError:
        raise ContainerError(f"container {container.label} was run in the foreground: its output went there") from None
    if driver == "none":
        raise ContainerError(f"container {container.label} keeps no log (--log-driver none)")


def details(container: Container) -> str:
    """Return what `logs --details` says of each line: the labels and variables that --log-opt labels=... and env=... name."""
    from minirt.engine.asked import load_options
    from minirt.engine.inspect import load

    process = load(f"{container.path}/config.json").get("process") or {}
    environment = dict(item.partition("=")[::2] for item in process.get("env", ()))
    found: dict[str, str] = {}
    for text in load_options(container).log_opt:
        key, _, names = text.partition("=")
        source = {"labels": container.state["labels"], "env": environment}.get(key, {})
        found |= {name: source[name] for name in names.split(",") if name in source}
    return ",".join(f"{name}={value}" for name, value in sorted(found.items()))


def still_written(container: Container) -> bool:
    """Say whether a monitor is with the container: also while it waits to start it anew."""
    from minirt.engine import owner

    fd = owner.take(container.path)
    if fd >= 0:
        os.close(fd)
    return fd < 0 and os.path.isdir(container.path)


class Reader:
    """Reads what is there, and each time it is asked what has come since; the files may be moved on meanwhile.

    Args:
        folder: the container's directory.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.inode = 0  # of the file that was read last
        self.at = 0  # how far
        self.held: IO[bytes] | None = None  # that file, so that a container's removal takes no line from who follows
        self.ended = False

    def files(self) -> list[str]:
        """Return the paths of the files, the oldest first."""
        names = [name for name in os.listdir(self.folder) if name.startswith("log.") and name[4:].isdigit()]
        return [f"{self.folder}/{name}" for name in sorted(names, key=lambda name: -int(name[4:]))] + [f"{self.folder}/log"]

    def read(self) -> Iterator[Line]:
        """Yield the whole lines that were not read yet."""
        try:
            opened = [open(path, "rb") for path in self.files() if os.path.exists(path)]
        except FileNotFoundError:
            opened, self.ended = [], True  # the container was removed
        inodes = [os.fstat(file.fileno()).st_ino for file in opened]
        if self.held is not None and self.inode not in inodes:
            yield from self.rest(self.held)  # it has no name any more, and its last lines are still there
        first = inodes.index(self.inode) if self.inode in inodes else 0
        for i, file in enumerate(opened):
            if i >= first:
                if inodes[i] != self.inode:
                    self.inode, self.at = inodes[i], 0
                yield from self.rest(file)
            if file is not opened[-1]:
                file.close()
                continue
            if self.held is not None:
                self.held.close()
            self.held = file

    def rest(self, file: IO[bytes]) -> Iterator[Line]:
        """Yield the whole lines of a file that were not read yet."""
        file.seek(self.at)
        for text in file:
            if not text.endswith(b"\n"):
                break  # it is being written
            self.at += len(text)
            try:
                entry = json.loads(text)
                line = Line(entry["log"], entry["stream"], entry["time"])
            except (ValueError, KeyError, TypeError):
                continue  # what a killed monitor, or a machine that lost its power, has left of one
            yield line


def moment(text: str) -> str:
    """Return a time as `Line` has it, nothing for nothing; given as for `seconds`, to the nanosecond. Raises: UsageError."""
    from datetime import datetime

    if not text:
        return ""
    whole, dot, rest = text.partition(".")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    exact = bool(dot and digits) and duration(text) is None
    try:
        when = datetime.fromtimestamp(seconds(whole + rest[len(digits) :] if exact else text), UTC)
    except (OverflowError, ValueError, OSError):
        raise UsageError(f"time {text!r}: beyond the years that there are") from None
    return f"{when:%Y-%m-%dT%H:%M:%S}.{digits[:9].ljust(9, '0') if exact else f'{when.microsecond:06d}000'}Z"


def seconds(text: str) -> float:
    """Return seconds since 1970; given so, as RFC 3339, or as how long ago it was (10m, 1h30m). Raises: UsageError."""
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        ago = duration(text)
    if ago is not None:
        return time.time() - ago
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(f"time {text!r}: write 2026-11-25T12:00:00Z, seconds since 1970, or 10m for so long ago") from None


def duration(text: str) -> float | None:
    """Return the seconds of a duration as Go writes it (1h2m3.5s); None where it is none."""
    total, number, rest = 0.0, "", text
    while rest:
        if rest[0].isdigit() or rest[0] == ".":
            number, rest = number + rest[0], rest[1:]
            continue
        unit = next((unit for unit in ("ns", "us", "ms", "h", "m", "s") if rest.startswith(unit)), "")
        if not unit or not number or number.count(".") > 1 or number == ".":
            return None
        total += float(number) * UNITS[unit]
        number, rest = "", rest[len(unit) :]
    return total if text and not number else None
