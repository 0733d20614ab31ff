"""What the kernel says of lesson 4's containers: which layer wins, and where changes go."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from tutorials.tutor.box import Box
from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "busybox", "sh", "-c", "rm /bin/vi; touch /made")


def observe(world: World) -> Iterator[tuple[str, object]]:
    changes = 'echo "$SECRET" >/made; rm /bin/vi; echo x >>/etc/passwd'
    with world.box(script=changes, env={"SECRET": world.secret()}) as box:
        yield from looked_at(world, box)
    world.move("a:b,c\\d")  # what separates in the options is in the layers' paths
    with world.box(script=changes, env={"SECRET": world.secret()}) as box:
        yield from ((f"odd-{id}", value) for id, value in looked_at(world, box))
    if not world.sandbox:  # there each command has an image store of its own, and no ids for a user namespace
        world.move("layers")
        yield "top-layer-wins", top_layer(world)
        with world.box("--userns", "auto") as box:
            yield "user-attributes", "userxattr" in superblock(box)


def looked_at(world: World, box: Box) -> Iterator[tuple[str, object]]:
    options = superblock(box)
    upper, work, lower = (world.host.path(options[name][0]) for name in ("upperdir", "workdir", "lowerdir"))
    yield "directories", [upper.name, work.name, lower.parent.name]
    yield "written", (upper / "made").read_text().strip() == world.secret()
    yield "removed", kind(upper / "bin/vi")
    yield "copied-up", "root" in (upper / "etc/passwd").read_text()
    yield "layer-unchanged", [(lower / name).exists() for name in ("made", "bin/vi")]


def superblock(box: Box) -> dict[str, list[str]]:
    """Return the options of the overlay that is the container's root (man 5 proc_pid_mountinfo), each as its paths."""
    options = {}
    for word in box.mountinfo()["/"][-1].split(","):
        name, _, value = word.partition("=")
        value = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), value)
        options[name] = [re.sub(r"\\(.)", r"\1", path) for path in re.split(r"(?<!\\):", value)]
    return options


def kind(path: Path) -> str:
    """Return what a directory entry is: a whiteout is a character device 0:0."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return "nothing"
    return f"character device {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}" if stat.S_ISCHR(status.st_mode) else "a file"


def top_layer(world: World) -> str:
    """Make an image in which three layers have the same file, and say which one a container sees."""
    for number in "123":
        world.file(f"context/{number}", number)
    world.file("context/Dockerfile", "FROM busybox\nCOPY 1 /file\nCOPY 2 /file\nCOPY 3 /file\n")
    world.run("minirt", "build", "-q", "-t", "three", str(world.directory / "context"))
    with world.box(image="three", script="cat /file") as box:
        return f"that of layer {box.said}"
