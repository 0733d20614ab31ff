"""A bundle made for one test, and what a container of it sees: for the tests of `minirt.oci`."""

from __future__ import annotations

import copy
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from minirt.linux.userns import write_maps
from minirt.oci import parent
from minirt.oci.compile import compile_plan
from minirt.oci.spec import default_spec
from minirt.oci.step import Context
from minirt.plan.birth import Birth

APPLETS = "sh cat ls stat mkdir echo touch readlink id grep mount umount ln rm sleep chmod ip hostname head cut dd true"
MAPS = [{"containerID": 0, "hostID": 100000, "size": 65536}]


class Line(NamedTuple):
    """One line of /proc/self/mountinfo (man 5 proc_pid_mountinfo)."""

    id: str
    above: str  # the id of the mount that it is mounted in
    root: str
    target: str
    options: set[str]
    spread: str  # "shared:N", "master:N", both, "unbindable", or nothing: private
    kind: str
    source: str
    system: set[str]  # options of the file system itself


def mountinfo(text: str) -> list[Line]:
    """Return the mounts that a mountinfo lists."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        at = words.index("-")
        spread = " ".join(words[6:at])
        system = set(words[at + 3].split(","))
        lines.append(Line(*words[:2], *words[3:5], set(words[5].split(",")), spread, *words[at + 1 : at + 3], system))
    return lines


def stacked(text: str, target: str) -> list[Line]:
    """Return the mounts at a target, the one that covers the others last; lines that are no mountinfo are skipped."""
    lines = [line for line in mountinfo("\n".join(x for x in text.splitlines() if " - " in x)) if line.target == target]
    for i, lower in enumerate(lines):  # put in order: each is mounted in the one before it
        for j in range(i + 1, len(lines)):
            if lower.above == lines[j].id:
                lines[i], lines[j] = lines[j], lines[i]
                lower = lines[i]
    return lines


def mounted(text: str, target: str) -> Line:
    """Return the topmost mount at a target."""
    return stacked(text, target)[-1]


class Bundle:
    """A directory with a rootfs of busybox and a config.json, as data to change.

    Args:
        path: an empty directory that every user may enter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rootfs = path / "rootfs"
        (self.rootfs / "bin").mkdir(parents=True)
        busybox = shutil.which("busybox")
        assert busybox
        shutil.copy(busybox, self.rootfs / "bin" / "busybox")
        for name in APPLETS.split():
            (self.rootfs / "bin" / name).symlink_to("busybox")
        self.config: dict[str, Any] = copy.deepcopy(default_spec())
        self.config["process"]["env"] = ["PATH=/bin", "HOME=/"]
        self.state = {"ociVersion": "1.3.0", "id": "test", "status": "creating", "bundle": str(path)}

    @property
    def linux(self) -> dict[str, Any]:
        return self.config["linux"]

    def mount(self, destination: str, source: object = "", *options: str, type: str = "none", **more: Any) -> None:
        """Add an entry to config.json's mounts."""
        entry = {"destination": destination, "type": type, "source": str(source), "options": list(options), **more}
        self.config["mounts"].append(entry)

    def drop(self, *targets: str) -> None:
        """Remove the default entries at these targets."""
        self.config["mounts"] = [m for m in self.config["mounts"] if m["destination"] not in targets]

    def share(self, *kinds: str) -> None:
        """Share namespaces with the host."""
        self.linux["namespaces"] = [ns for ns in self.linux["namespaces"] if ns["type"] not in kinds]

    def user_namespace(self) -> None:
        """Give the container a user namespace, and its files to the root of that."""
        self.linux["namespaces"].append({"type": "user"})
        self.linux["uidMappings"] = self.linux["gidMappings"] = MAPS
        for folder, _, files in os.walk(self.rootfs):
            for name in [folder, *(os.path.join(folder, file) for file in files)]:
                os.chown(name, 100000, 100000, follow_symlinks=False)

    def context(self, script: str = "true", **more: Any) -> Context:
        """Return what a plan is compiled from."""
        self.config["process"]["args"] = ["/bin/sh", "-ec", script]
        return Context(self.config, str(self.path), **more)

    def run(
        self,
        script: str,
        at: Callable[[str, Birth], object] | None = None,
        status: int = 0,
        stdin: object = "/dev/null",
        **more: Any,
    ) -> str:
        """Run a script in a container; return what it printed.

        Args:
            at: is called at each barrier, before what the barrier is for.
            status: that the script must end with.
            stdin: path of the script's standard input.
            more: for Context.
        """
        context = self.context(script, **more)
        plan = compile_plan(context)
        out = os.memfd_create("output")
        null = os.open(str(stdin), os.O_RDONLY)
        try:
            with Birth(plan, (null, out, out)) as birth:
                for name in birth.barriers():
                    if at is not None:
                        at(name, birth)
                    if name == "idmaps":
                        write_maps(birth.pid, self.linux["uidMappings"], self.linux["gidMappings"])
                    else:
                        parent.at(name, birth, context, self.state)
                ended = birth.wait()
            text = os.pread(out, 1 << 20, 0).decode()
        finally:
            os.close(out)
            os.close(null)
        assert ended == status, text
        return text

    def mountinfo(self, **more: Any) -> str:
        """Return the container's mountinfo."""
        return self.run("cat /proc/self/mountinfo", **more)


def mount(*words: object) -> None:
    """Run mount(8) on the host, which must succeed."""
    subprocess.run(["mount", *map(str, words)], check=True, timeout=20)
