"""What the kernel says of lesson 1's container: its root is its own, and nothing leads to the host's files."""

from __future__ import annotations

from collections.abc import Iterator

from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "busybox", "true")
SCRIPT = 'cat "$FILE" "/..$FILE" "../../../../../../../..$FILE" 2>/dev/null || :'


def observe(world: World) -> Iterator[tuple[str, object]]:
    file = world.file("host", world.secret())
    with world.box(script=SCRIPT, env={"FILE": str(file)}) as box:
        yield "host-files", f"the container read {file}" if world.secret() in box.said else "not read"
        yield "not-the-root", box.root_is_the_namespaces()
        yield "working-directory", world.host.link(f"{box.pid}/cwd")
