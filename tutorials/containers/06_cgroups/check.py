"""What the kernel says of lesson 6's groups: each file of them, and who was killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "--memory", "32m", "--cpu-shares", "512", "--cpus", "0.5", "busybox", "true")
TREE = Path("/sys/fs/cgroup")
MIB = 1 << 20
LIMITS = ("memory.max", "memory.swap.max", "memory.low", "cpu.weight", "cpu.idle", "cpu.max", "cpu.max.burst", "cpuset.cpus",
          "cpuset.mems")  # fmt: skip


def observe(world: World) -> Iterator[tuple[str, object]]:
    limit, more, low = (MIB * world.number(name, 100, 200) for name in ("limit", "more", "low"))
    quota, burst, period = (1000 * world.number(name, *span) for name, span in
                            {"quota": (60, 90), "burst": (30, 50), "period": (100, 300)}.items())  # fmt: skip
    shares = world.number("shares", 100, 9000)
    found = made(world, {
        "weight": [{"cpu": {"shares": shares}}],
        "least": [{"cpu": {"shares": 1}}],
        "most": [{"cpu": {"shares": 300000}}],
        "quota": [{"cpu": {"quota": quota}}],
        "period": [{"cpu": {"period": period}}],
        "burst": [{"cpu": {"quota": 20000}}, {"cpu": {"quota": quota, "period": period, "burst": burst}}],
        "idle": [{"cpu": {"shares": shares, "idle": 1}}],
        "awake": [{"cpu": {"idle": 1}}, {"cpu": {"shares": shares, "idle": 0}}],
        "cpuset": [{"cpu": {"cpus": "0", "mems": "0"}}],
        "memory": [{"memory": {"limit": limit, "reservation": low}}],
        "swap": [{"memory": {"limit": limit, "swap": limit + more}}],
        "no-limit": [{"memory": {"limit": limit, "swap": limit + more}}, {"memory": {"limit": -1}}],
    })  # fmt: skip
    yield from found.items()
    if found["memory"][:1] != [f"memory.max {limit}"]:
        return  # nothing would keep the container from taking all that there is
    options = ("--memory", "8m", "--memory-swap", "8m", "--cpu-shares", str(shares), "--cpus", "0.5")
    with world.box(*options, script="tail -c 12m /dev/zero >/dev/null; echo status $?") as box:
        yield "container", said(TREE / box.read("cgroup").strip().removeprefix("0::/"), "memory", "cpu")
        yield "killed", box.said.rpartition("\n")[2]


def made(world: World, wanted: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Let minirt make groups, one after the other; returns what their files say, or why there is none."""
    top = f"{world.secret('top')}-{os.getpid()}"  # another answer may be observed meanwhile
    words = [f"{name}={json.dumps(resources)}" for name, several in wanted.items() for resources in several]
    try:
        with world.waiting(Path(__file__).with_name("groups.py"), top, *words) as groups:
            refused = dict(line.split("=", 1) for line in groups.lines if "=" in line)
            tree = world.host.path(str(TREE)) / top
            there = {name: said(tree / name, *several[0]) for name, several in wanted.items()}
            return {name: [refused[name]] if name in refused else found for name, found in there.items()}
    finally:
        remove(TREE / top)


def remove(top: Path) -> None:
    with suppress(OSError):
        for path in top.iterdir():
            if path.is_dir():
                path.rmdir()
        top.rmdir()


def said(group: Path, *controllers: str) -> list[str]:
    """Return what the files of a group say, of some controllers."""
    wanted = [name for name in LIMITS if name.startswith(controllers) and (group / name).exists()]
    return [f"{name} {(group / name).read_text().strip() or '(nothing)'}" for name in wanted]
