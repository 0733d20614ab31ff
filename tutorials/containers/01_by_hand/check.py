"""Check lesson 1's exercise: `minirt run` with the learner's three steps, and what the kernel then says.

    check.py [ANSWER.py]      by default exercise.py beside it
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TextIO

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from tutorials.checking import Failure, first_difference, grade, load, observe, transplant  # noqa: E402

NAMES = ("propagation", "pivot_root", "old_root")
# In the container: say what leads to a file of the host, and then wait for the one who looks from outside.
SCRIPT = 'cat "$0" "/..$0" "../../../../../../../..$0" 2>/dev/null; echo; echo "$1"; read -r _'


def written(answer: Path) -> None:
    """The functions are there, and append calls."""
    module = load(answer, NAMES)
    try:
        first_difference(module, NAMES)
    except NotImplementedError:
        raise Failure("blank", "three functions that append calls", "one of them is not written yet") from None
    except (TypeError, AttributeError) as error:
        raise Failure("not-a-plan", "p.CALL(arguments in the manual's order)", str(error)) from None


def kernel_agrees(answer: Path) -> None:
    """The container lives, its root is its own, and the host has not changed."""
    from minirt.engine.gc import collect

    module = load(answer, NAMES)
    with tempfile.NamedTemporaryFile("w", prefix="host-", dir="/var/tmp") as file:
        secret = secrets.token_hex(8)  # drawn anew each time: a program that prints what is expected cannot know it
        file.write(secret)
        file.flush()
        try:
            seen = observe(Path(__file__).resolve(), str(answer.resolve()), file.name)
        finally:
            collect()  # a wrong answer can keep minirt from tidying up
    difference = first_difference(module, NAMES)
    where = f"\ndiffers:  {difference}" if difference else ""
    if seen["gone"]:
        raise Failure("host-unmounted", "the host keeps its mounts", f"these are gone from the host: {seen['gone']}{where}")
    if seen["appeared"]:
        raise Failure("propagation", "nothing is mounted on the host", f"these appeared on the host: {seen['appeared']}{where}")
    if not seen["ready"]:
        raise Failure("not-born", "the container starts", f"{seen['stderr']}{where}")
    if secret in str(seen["read"]):
        raise Failure("host-files", "no path leads to the host's files", f"the container read {file.name}{where}")
    if seen["root"] != seen["namespace_root"]:
        text = "the container's root is the root of its mount namespace, with nothing over it"
        raise Failure("not-the-root", text, f"the namespace's root is another: {seen['namespace_root']}, not {seen['root']}{where}")


def look(answer: str, secret: str) -> dict[str, object]:
    """Run the container with the learner's steps, and look at it from outside. In a namespace of the check's own."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)  # of the host, though a wrong answer may cover it
    table = open("mountinfo", opener=lambda name, flags: os.open(f"self/{name}", flags, dir_fd=proc))
    before = mounts(table)
    ready = secrets.token_hex(8)
    container = [sys.executable, __file__, "--run", answer, "-i", "--rm", "busybox", "sh", "-c", SCRIPT, secret, ready]
    pipe = subprocess.PIPE
    process = subprocess.Popen(container, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdout is not None
    read = []
    for line in process.stdout:
        if line == f"{ready}\n":
            break
        read.append(line)
    child = program(process.pid, proc)
    seen: dict[str, object] = {"ready": bool(child), "read": "".join(read)}
    during = mounts(table)
    if child and during == before:
        seen["root"] = identity(f"{child}/root/.", proc)
        stat = ["nsenter", f"--mount=/proc/{child}/ns/mnt", "stat", "-c", "%d:%i", "/"]  # of what covers / there, if anything does
        seen["namespace_root"] = subprocess.run(stat, capture_output=True, text=True, check=False).stdout.strip()
    _, stderr = process.communicate("\n", timeout=30)
    seen["stderr"] = (stderr.strip().splitlines() or ["it ended at once"])[-1]
    seen["appeared"] = [point for id, point in during.items() if id not in before]
    seen["gone"] = [point for id, point in before.items() if id not in during]
    return seen


def program(pid: int, proc: int) -> str:
    """Return the pid of a process's first child, or an empty text."""
    try:
        fd = os.open(f"{pid}/task/{pid}/children", os.O_RDONLY, dir_fd=proc)
    except FileNotFoundError:
        return ""
    with open(fd) as file:
        return (file.read().split() or [""])[0]


def identity(path: str, proc: int) -> str:
    """Return which file a path below /proc is."""
    status = os.stat(path, dir_fd=proc)
    return f"{status.st_dev}:{status.st_ino}"


def mounts(table: TextIO) -> dict[str, str]:
    """Return the mounts of the namespace that the open mountinfo is of: id -> mount point (man 5 proc_pid_mountinfo)."""
    table.seek(0)
    return {line.split()[0]: line.split()[4] for line in table}


def main(words: list[str]) -> int:
    if words[:1] == ["--observe"]:
        print(json.dumps(look(*words[1:])))
        return 0
    if words[:1] == ["--run"]:
        from minirt.cli.main import main as minirt

        transplant(load(Path(words[1]), NAMES), NAMES)
        return minirt(["run", *words[2:]])
    return grade(HERE, (written, kernel_agrees), Path(words[0]) if words else HERE / "exercise.py")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
