"""What the kernel says of lesson 5's containers: who is who, inside and outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator

from tutorials.tutor.box import Box
from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "--userns", "auto", "busybox", "true")
NOBODY = 65534


def observe(world: World) -> Iterator[tuple[str, object]]:
    first = world.number("first", 20000, 30000)
    maps = ["--uidmap", f"0:{first}:100", "--uidmap", f"100:{first + 5000}:50", "--gidmap", f"0:{first + 7000}:300"]
    with world.box(*maps, script="touch /made; mkdir /dir; chown 120:130 /dir") as box:
        yield "uid-map", lines(box, "uid_map")
        yield "gid-map", lines(box, "gid_map")
        yield "setgroups", box.read("setgroups").strip()
        yield "root-outside", ids(box)
        yield "owner-outside", owner(world, box, "made")
        yield "other-outside", owner(world, box, "dir")
    with world.box(*maps, "-u", "101:7") as box:
        yield "user-outside", ids(box)
    if not world.sandbox:
        yield "without-root", without_root(world)


def lines(box: Box, name: str) -> list[str]:
    return [" ".join(line.split()) for line in box.read(name).splitlines()]


def ids(box: Box) -> str:
    """Return user and group of the program, as the host counts."""
    found = {line.split()[0]: line.split()[1] for line in box.read("status").splitlines() if line.startswith(("Uid:", "Gid:"))}
    return f"user {found['Uid:']}, group {found['Gid:']}"


def owner(world: World, box: Box, name: str) -> str:
    status = world.host.stat(f"{box.pid}/root/{name}")
    return f"user {status.st_uid}, group {status.st_gid}"


def without_root(world: World) -> str:
    """Start a container as a user without rights, who may map nobody but himself."""
    os.chmod(world.directory, 0o1777)
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    env = {**world.env, "HOME": str(world.directory), "MINIRT_ROOT": str(world.directory / "rootless")}
    files = [f"/proc/self/{name}" for name in ("uid_map", "gid_map", "setgroups")]
    command = [*drop, *world.words("minirt", "run", "--rm", "busybox", "cat", *files)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    return " ".join(done.stdout.split()) or done.stderr.strip()
