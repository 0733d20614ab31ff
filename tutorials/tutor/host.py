"""The host of an answer's containers, which must stay as it was: its mounts and its name, and what /proc says of its processes.

All is read by a descriptor of /proc that was opened before anything else could be mounted over it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["Host"]


class Host:
    """A host that is looked at; with a sandbox it is the container in which the answer runs.

    Args:
        sandboxed: whether there is a sandbox; `look_at` then says which process it is.

    Attributes:
        pid: of a process whose namespaces are the host's; "self" without a sandbox.
        appeared, gone: the mount points that have come and gone, as `compare` noted them.
    """

    def __init__(self, sandboxed: bool) -> None:
        self.sandboxed = sandboxed
        self.proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
        self.appeared: list[str] = []
        self.gone: list[str] = []
        self.look_at("self")

    def look_at(self, pid: str) -> None:
        """Say whose namespaces are the host's, and how they are before anything is done there."""
        self.pid = pid
        self.table = open("mountinfo", opener=lambda name, flags: os.open(f"{pid}/{name}", flags, dir_fd=self.proc))
        self.before = self.mounts()
        self.first_name = self.name()

    def close(self) -> None:
        """Give the descriptors back."""
        self.table.close()
        os.close(self.proc)

    def name(self) -> str:
        """Return what the host calls itself."""
        return self.enter(self.pid, "uts", "uname", "-n") if self.pid != "self" else os.uname().nodename

    def renamed(self) -> bool:
        """Say whether it calls itself otherwise than at first."""
        return self.name() != self.first_name

    def path(self, path: str) -> Path:
        """Return where a path of the host is seen by the observer."""
        return Path(f"/proc/{self.pid}/root{path}") if self.sandboxed else Path(path)

    def compare(self) -> None:
        """Note which mounts have come or gone."""
        now = self.mounts()
        self.appeared += [point for id, point in now.items() if id not in self.before and point not in self.appeared]
        gone = [point for id, point in self.before.items() if id not in now and point not in self.gone]
        # A mount whose directory somebody removes goes in all namespaces (kernel 3.18, detach_mounts): that was not the answer.
        self.gone += [point for point in gone if self.pid != "self" or os.path.lexists(point)]

    def mounts(self) -> dict[str, str]:
        """Return the mounts of its namespace: id -> mount point (man 5 proc_pid_mountinfo)."""
        try:
            self.table.seek(0)
            return {line.split()[0]: line.split()[4] for line in self.table}
        except OSError:  # the sandbox has ended
            return self.before

    # -- its processes ---------------------------------------------------------------------------------------

    def first_child(self, pid: str) -> str:
        """Return the pid of a process's first child, or an empty text."""
        return (self.read(f"{pid}/task/{pid}/children").split() or [""])[0]

    def enter(self, pid: str, kind: str, *command: str) -> str:
        """Return what a program of the host prints in a namespace of a process (man 1 nsenter). Args: kind, as mnt or uts."""
        flag = {"mnt": "mount", "pid": "pid", "net": "net", "user": "user", "uts": "uts", "ipc": "ipc"}[kind]
        words = ["nsenter", f"--{flag}=/proc/self/fd/{self.proc}/{pid}/ns/{kind}", *command]
        done = subprocess.run(words, capture_output=True, text=True, pass_fds=[self.proc], check=False)
        return (done.stdout or done.stderr).strip()

    def read(self, path: str) -> str:
        """Return a file of /proc; empty where it is gone."""
        try:
            with open(path, opener=lambda name, flags: os.open(name, flags, dir_fd=self.proc)) as file:
                return file.read()
        except OSError:
            return ""

    def link(self, path: str) -> str:
        """Return what a link of /proc says."""
        return os.readlink(path, dir_fd=self.proc)

    def stat(self, path: str) -> os.stat_result:
        """Return the status of a file of /proc, as of one below PID/root."""
        return os.stat(path, dir_fd=self.proc)
