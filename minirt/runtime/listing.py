"""state, list, ps: what there is."""

from __future__ import annotations

import sys

from minirt.documents import dumps, pretty
from minirt.runtime.container import Container, RuntimeFailure, all_containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["list_containers", "ps", "state"]


def describe(container: Container) -> dict[str, Any]:
    """Return what `state` prints: the specification's state, and what runc adds."""
    told = container.oci_state()
    known = container.state
    result = {key: told[key] for key in ("ociVersion", "id", "pid", "status", "bundle")}
    result.update(rootfs=known.get("rootfs", ""), created=stamp(known.get("created", 0.0)))
    if "annotations" in told:
        result["annotations"] = told["annotations"]
    result["owner"] = owner(known.get("owner", 0))
    return result


def stamp(seconds: float) -> str:
    """Return a time as RFC 3339 has it."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e9):09}Z"


def owner(uid: int) -> str:
    """Return a user's name, empty for root as runc does."""
    if uid == 0:
        return ""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


def state(root: str, id: str) -> int:
    """Print a container's state as JSON. Raises: RuntimeFailure."""
    print(pretty(describe(Container(root, id).load())))
    return 0


def list_containers(root: str, format: str, quiet: bool) -> int:
    """Print the containers below a root."""
    found = [describe(container) for container in all_containers(root)]
    if quiet:
        for item in found:
            print(item["id"])
    elif format == "json":
        print(dumps(found))
    elif format == "table":
        table([("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")] + [
            (i["id"], str(i["pid"]), i["status"], i["bundle"], i["created"], i["owner"] or "root") for i in found])  # fmt: skip
    else:
        raise RuntimeFailure(f"invalid format option {format!r}: table or json")
    return 0


def table(rows: list[tuple[str, ...]]) -> None:
    """Print rows in columns, three spaces apart, at least 12 wide: as runc does."""
    widths = [max(9, *(len(row[i]) for row in rows)) + 3 for i in range(len(rows[0]))]
    for row in rows:
        print("".join(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)) + row[-1])


def ps(root: str, id: str, format: str, words: list[str]) -> int:
    """Print a container's processes: ps(1)'s lines of them, or their numbers as JSON. Raises: RuntimeFailure."""
    container = Container(root, id).load()
    if container.status() == "stopped":
        pids = []
    else:
        group = container.cgroup()
        pids = sorted(group.all_pids()) if group is not None else [container.pid]
    if format == "json":
        print(dumps(pids))
        return 0
    if format != "table":
        raise RuntimeFailure(f"invalid format option {format!r}: table or json")
    return show_ps(set(pids), words or ["-ef"])


def show_ps(pids: set[int], words: list[str]) -> int:
    """Run ps(1) and print the lines of some processes. Raises: RuntimeFailure."""
    for line in ps_lines(pids, words):
        print(line)
    sys.stdout.flush()
    return 0


def ps_lines(pids: set[int], words: list[str]) -> list[str]:
    """Run ps(1) and return its titles, and the lines of some processes. Raises: RuntimeFailure."""
    import subprocess

    try:
        done = subprocess.run(["ps", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise RuntimeFailure("ps: not installed: apt install procps, or use --format json") from None
    if done.returncode:
        raise RuntimeFailure(f"ps {' '.join(words)}: {done.stderr.strip()}")
    lines = done.stdout.splitlines()
    titles = lines[0].split()
    if "PID" not in titles:
        raise RuntimeFailure(f"ps {' '.join(words)}: its output has no column PID")
    column = titles.index("PID")

    def is_wanted(line: str) -> bool:
        cells = line.split()[column : column + 1]
        return bool(cells) and cells[0].isdigit() and int(cells[0]) in pids

    return [lines[0], *filter(is_wanted, lines[1:])]
