"""What KVM counts of a machine that another process runs, by a copy of its descriptor: nothing it prints need be believed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from minirt.linux.seccomp.listener import fetch
from minivm.kvm import read_stats
from tutorials.tutor.world import NotBorn, World, raised

__all__ = ["counted"]

NAME = "anon_inode:kvm-vcpu-stats"  # virt/kvm/kvm_main.c, kvm_vcpu_ioctl_get_stats_fd


def counted(world: World, line: str, *command: str) -> tuple[dict[str, int], subprocess.CompletedProcess[str]]:
    """Run `minivm run --stats ...` until its guest prints a line, and return what KVM has counted until then; then end it.

    Args:
        line: what the guest prints when it is done; it then makes no exits any more.
        command: `minivm` and its words.

    Returns the counts, and what the command said. Raises: Raised, NotBorn where the line does not come.
    """
    pipe = subprocess.PIPE
    words = world.words(*command)
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, text=True, errors="replace", env=world.env) as process:
        assert process.stdin is not None and process.stdout is not None
        if world.sandbox:
            process.stdin.write("go\n")
        process.stdin.close()
        process.stdin = None
        said: list[str] = []
        for text in process.stdout:
            said.append(text)
            if text.strip() == line:
                break
        found = statistics(process.pid) if said and said[-1].strip() == line else {}
        process.send_signal(signal.SIGTERM)
        rest, stderr = process.communicate()
    raised(process.returncode, stderr)
    if not found:
        raise NotBorn((stderr.strip().splitlines() or ["the guest does not come to its end"])[-1])
    return found, subprocess.CompletedProcess(command, process.returncode, "".join(said) + rest, stderr)


def statistics(pid: int) -> dict[str, int]:
    """Return what KVM counts of the first vCPU that a process, or one below it, has a descriptor of; {} where none has."""
    for one in family(pid):
        for entry in links(one):
            with suppress(OSError):
                if os.readlink(entry).startswith(NAME):
                    return copied(one, int(entry.name))
    return {}


def copied(pid: int, number: int) -> dict[str, int]:
    """Read another process's descriptor."""
    pidfd = os.pidfd_open(pid)
    try:
        fd = fetch(pidfd, number)
        try:
            return read_stats(fd)
        finally:
            os.close(fd)
    finally:
        os.close(pidfd)


def family(pid: int) -> Iterator[int]:
    """Yield a process and all below it."""
    yield pid
    with suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def links(pid: int) -> list[Path]:
    """Return a process's descriptors in /proc."""
    try:
        return list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return []
