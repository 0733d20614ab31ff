"""What the kernel says of lesson 7's containers: who they are and what they may use, beside what config.json says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tutorials.tutor.box import Box
from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "-u", "1000:100", "--group-add", "200", "--ulimit", "nofile=100:200", "busybox", "true")
NOBODY = 65534


def observe(world: World) -> Iterator[tuple[str, object]]:
    soft, hard, seconds = world.number("soft", 100, 200), world.number("hard", 300, 400), world.number("cpu", 5000, 9000)
    ids = [world.number(name, 1000, 60000) for name in ("uid", "gid", "one", "two", "three")]
    umask = 0o100 + world.number("umask", 1, 0o77)
    config = podmans(world)
    process = config["process"]
    process["user"] = {"uid": ids[0], "gid": ids[1], "additionalGids": ids[2:], "umask": umask}
    process["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard},
                          {"type": "RLIMIT_CPU", "soft": seconds, "hard": seconds + 1000}]  # fmt: skip
    process["capabilities"] |= {kind: ["CAP_KILL"] for kind in ("permitted", "inheritable", "effective", "ambient")}
    with world.bundle(config) as box:
        yield "user", status(box, "Uid", "Gid")
        yield "groups", status(box, "Groups")
        yield "umask", status(box, "Umask")
        yield "limits", limits(box)
        yield "capabilities", status(box, "CapEff", "CapPrm", "CapAmb")
    typed = ["-u", f"{ids[0]}:{ids[1]}", "--group-add", str(ids[2]), "--ulimit", f"nofile={soft}:{hard}"]
    with world.box(*typed) as box:
        yield "typed", [*status(box, "Uid", "Gid", "Groups"), *limits(box)]
        yield "umask-unsaid", status(box, "Umask")
    if not world.sandbox:
        yield "without-root", without_root(world)


def podmans(world: World) -> dict[str, Any]:
    """Return the recorded config.json of podman, with what it binds from podman's own directory as files of ours."""
    config: dict[str, Any] = json.loads((Path(__file__).parent / "podman.json").read_text(encoding="utf-8"))
    del config["linux"]["cgroupsPath"]
    for mount in config["mounts"]:
        if mount["type"] == "bind":
            mount["source"] = str(world.file(f"podman/{os.path.basename(mount['source'])}/file", "podman's\n"))
            if mount["destination"] == "/dev/shm":
                mount["source"] = os.path.dirname(mount["source"])
    return config


def status(box: Box, *fields: str) -> list[str]:
    """Return lines of /proc/PID/status, as the container counts users (man 5 proc_pid_status)."""
    have = dict(line.split(":", 1) for line in box.read("status").splitlines())
    return [f"{field} {' '.join(inside(box, have[field].split(), field))}" for field in fields]


def inside(box: Box, words: list[str], field: str) -> list[str]:
    """Return ids as they are in the container's user namespace, sorted where they are groups."""
    if field not in ("Uid", "Gid", "Groups"):
        return words
    shift = int(box.read("uid_map" if field == "Uid" else "gid_map").split()[1])
    return [str(number) for number in sorted(int(word) - shift for word in words)]


def limits(box: Box) -> list[str]:
    """Return soft and hard of two limits (man 5 proc_pid_limits)."""
    return [" ".join(line.split()[1:-1]) for line in box.read("limits").splitlines() if re.match("Max (open files|cpu time)", line)]


def without_root(world: World) -> str:
    """Start a container as a user without rights, who may not change groups."""
    os.chmod(world.directory, 0o1777)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    env = {**world.env, "HOME": str(world.directory), "MINIRT_ROOT": str(world.directory / "rootless")}
    command = [*drop, *world.words("minirt", "run", "--rm", "busybox", "id", "-u")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    return done.stdout.strip() or done.stderr.strip()
