"""What the kernel says of lesson 3's containers: who hears of their mounts, and what is read-only."""

from __future__ import annotations

from collections.abc import Iterator

from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "--read-only", "busybox", "true")
POINTS = ("/", "/proc", "/volume")


def observe(world: World) -> Iterator[tuple[str, object]]:
    volume = ("-v", f"{world.file('shared/file', world.secret()).parent}:/volume")
    writes = "for at in / /volume /tmp /dev; do touch $at/made 2>/dev/null && echo $at; done"
    with world.box("--read-only", "--tmpfs", "/tmp", *volume, script=writes) as box:
        yield "read-only", [f"{point}: {box.mountinfo()[point][5].split(',')[0]}" for point in ("/", "/volume", "/tmp", "/proc")]
        yield "written", box.said.split()
        yield "private", [f"{point}: {box.propagation(point)}" for point in POINTS]
    for wanted in ("shared", "rshared", "unbindable"):
        with world.box(*volume, script="touch /made && echo /", config={"linux": {"rootfsPropagation": wanted}}) as box:
            yield wanted, [f"{point}: {box.propagation(point)}" for point in POINTS]
            yield f"{wanted}-written", box.said.split()
