"""What the kernel says of lesson 2's containers: which namespaces are their own, and who is renamed."""

from __future__ import annotations

from collections.abc import Iterator

from tutorials.tutor.world import World

STORY = ("minirt", "run", "--rm", "--userns", "auto", "--hostname", "box", "busybox", "true")
KINDS = ("mnt", "uts", "ipc", "pid", "net", "user", "cgroup")


def observe(world: World) -> Iterator[tuple[str, object]]:
    with world.box("--hostname", world.secret("name"), config={"domainname": world.secret("domain")}) as box:
        yield "new-namespaces", [f"{kind}: {box.namespace(kind)}" for kind in KINDS]
        numbers = box.read("status").split("NSpid:")[1].splitlines()[0].split()
        yield "first-process", f"process {numbers[-1]} of its namespace"
        yield "renamed", world.host.enter(box.pid, "uts", "uname", "-n")
        yield "domain", world.host.enter(box.pid, "uts", "cat", "/proc/sys/kernel/domainname")
    with world.box("--pid", "host", "--ipc", "host", "--net", "host", "--cgroupns", "host") as box:
        yield "shared-namespaces", [f"{kind}: {box.namespace(kind)}" for kind in KINDS]
    with world.box("--uts", "host", config={"hostname": world.secret("other")}) as box:
        yield "shared-name", not world.host.renamed()
    if not world.sandbox:  # in which there are not ids enough for another user namespace
        with world.box("--userns", "auto") as box:
            yield "user-namespace", [f"{kind}: {box.namespace(kind)}" for kind in KINDS]
