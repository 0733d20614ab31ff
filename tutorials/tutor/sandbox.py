"""The sandbox of a submission: a container made with minirt, in which the learner's minirt or minivm runs.

For containers: root of a user namespace of its own, with all capabilities there and none outside; it makes containers in
the container, and cgroups below its own where a lesson is of them. For machines: a process without capabilities, with /dev/kvm.
The host's system and this tree are there to be read; the observer is outside, sees the processes by their pids on the host, and
nothing of it is to be found inside: no file, no process, no descriptor.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tutorials.tutor.lessons import TOP, Lesson

__all__ = ["BEGUN", "ROOT", "enclosed", "kind_for"]

BEGUN = "the sandbox waits"
ROOT = 100000  # the user that is root in there, as `--userns auto` has it
# All mounts shared, as on most hosts: a wrong answer then does to the sandbox what it would do to a host.
SHARED = f'mount --make-rshared / && echo "{BEGUN}" && read -r _ && exec "$@"'
# A group of processes' own first: what hands controllers down holds none itself (man 7 cgroups).
GROUPED = f"mkdir /sys/fs/cgroup/own && echo $$ >/sys/fs/cgroup/own/cgroup.procs && {SHARED}"
PLAIN = f'echo "{BEGUN}" && read -r _ && exec "$@"'


def kind_for(lesson: Lesson) -> str:
    """Return which sandbox a lesson's submissions get."""
    return "cgroup2" if "cgroup2" in lesson.needs else "root" if "root" in lesson.needs else "kvm"


def enclosed(kind: str, words: list[str], answer: str, directory: Path, env: dict[str, str]) -> list[str]:
    """Return the command that runs words in a sandbox: it says BEGUN, and begins when it reads a line.

    Args:
        kind: root, cgroup2 or kvm.
        words: the command.
        answer: a file that is shown to it.
        directory: the observation's, shown too.
        env: variables for it.
    """
    shown = [path for path in ("/usr", "/lib", "/lib64", "/etc/alternatives", str(TOP), sys.base_prefix) if os.path.isdir(path)]
    shown = [path for path in dict.fromkeys(shown) if path == "/usr" or not path.startswith("/usr/")]
    binds = [word for path in shown for word in ("-v", f"{path}:{path}:ro")]
    binds += ["-v", f"{directory}:{directory}"] + (["-v", f"{answer}:{answer}:ro"] if answer else [])
    env = {"PYTHONPATH": str(TOP), "NO_COLOR": "1", "MINIRT_ROOT": "/m", "PYTHONDONTWRITEBYTECODE": "1", **env}
    variables = [word for name, value in env.items() for word in ("-e", f"{name}={value}")]
    run = [sys.executable, "-m", "minirt", "run", "-i", "--rm", "--tmpfs", "/m:mode=755", *variables, *binds]
    if kind == "root":
        return [*run, "--privileged", "--userns", "auto", "busybox", "sh", "-c", SHARED, "sh", *words]
    if kind == "cgroup2":  # a group that has the controllers, and belongs to the sandbox's root
        everything = ["--memory", "1g", "--cpu-weight", "100", "--cpuset-cpus", f"0-{(os.cpu_count() or 1) - 1}"]
        return [*run, *everything, "--privileged", "--userns", "auto", "busybox", "sh", "-c", GROUPED, "sh", *words]
    status = os.stat("/dev/kvm")  # where it is root's alone, root without a capability may open it
    user = f"65534:{status.st_gid}" if status.st_mode & 0o060 == 0o060 else "0"
    rights = ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "-u", user]
    return [*run, "--device", "/dev/kvm", *rights, "busybox", "sh", "-c", PLAIN, "sh", *words]
