"""The runtime killed by SIGKILL between any two of its steps: what is left, `delete --force` removes.

A step is here each call into C that touches the kernel: the interpreter tells a profile function of them before they are
made (sys.setprofile), and the process dies at the n-th.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from test_oci_runtime import Runtime, oci  # noqa: F401

from minirt.linux.cgroup2 import find_mount
from minirt.runtime.command import main

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]

KERNEL = {"posix", "fcntl", "_io", "io", "select", "_socket", "_signal"}
OURS = {"plan_spawn", "plan_send_fds", "plan_receive", "plan_syscall"}  # of csrc/plan's binding


class DieAt:
    """A profile function that ends the process at the n-th call into the kernel."""

    def __init__(self, n: int) -> None:
        self.left = n

    def __call__(self, frame: FrameType, event: str, function: Any) -> None:
        if event == "c_call" and (function.__module__ in KERNEL or function.__name__ in OURS or is_file(function)):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


def is_file(function: Any) -> bool:
    """Whether it is a method of an open file."""
    return type(getattr(function, "__self__", None)).__module__ == "_io"


def forked(runtime: Runtime, words: Sequence[object], before: Callable[[], None] = lambda: None) -> int:
    """Run a command in a fork of this process, which has all modules; return its wait status as an exit code."""
    pid = os.fork()
    if pid == 0:
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(nowhere, fd)
            before()
            code = main(["--root", str(runtime.root), *map(str, words)])
            sys.setprofile(None)
            os._exit(code)
        finally:
            os._exit(99)
    while True:
        ended, status = os.waitpid(-1, 0)  # orphans of a killed runtime, too: until they are reaped their pid namespace lives
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


@pytest.fixture(autouse=True)
def subreaper() -> Iterator[None]:
    """Get the orphans, to reap them at once (man 2 prctl, PR_SET_CHILD_SUBREAPER)."""
    libc = ctypes.CDLL(None)
    libc.prctl(36, 1, 0, 0, 0)
    yield
    libc.prctl(36, 0, 0, 0, 0)


def killed_at(runtime: Runtime, n: int, *words: object) -> bool:
    """Whether the command was killed at its n-th step, and not done before."""
    code = forked(runtime, words, lambda: sys.setprofile(DieAt(n)))
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def reap() -> None:
    """Reap the orphans that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def alive(runtime: Runtime) -> list[int]:
    """Processes that see the bundle as their root, or something of it: the container's, and helpers on their way."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            inside = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
            if inside and str(runtime.path.name) in Path(f"/proc/{pid}/mountinfo").read_text():
                found.append(int(pid))
        except OSError:
            continue
    return found


def left(runtime: Runtime) -> dict[str, list[Any]]:
    """What is there that should not be, once processes that were killed have had the time to go."""
    end = time.monotonic() + 10
    while alive(runtime) and time.monotonic() < end:
        time.sleep(0.002)
        reap()
    return {
        "state": [path.name for path in runtime.root.iterdir()] if runtime.root.exists() else [],
        "processes": alive(runtime),
        "cgroups": [str(path) for path in [Path(find_mount() or "/nowhere", "minirt", runtime.path.name)] if path.exists()],
        "mounts": [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if runtime.path.name in line],
    }


NOTHING: dict[str, list[Any]] = {"state": [], "processes": [], "cgroups": [], "mounts": []}


@pytest.fixture(params=["plain", "everything"])
def bundle(request: pytest.FixtureRequest, oci: Runtime) -> Runtime:  # noqa: F811
    """A container that sleeps; with hooks, mounts of the host and a cgroup two levels deep in the other case."""
    if request.param == "everything":
        oci.bundle.user_namespace()
        oci.group = f"minirt/{oci.path.name}/deep/down"
        oci.config["linux"]["cgroupsPath"] = f"/{oci.group}"
        kinds = ("createRuntime", "createContainer", "startContainer", "poststart", "poststop")
        oci.config["hooks"] = {kind: [{"path": "/bin/true"}] for kind in kinds}
        (oci.path / "volume").mkdir()
        oci.bundle.mount("/volume", oci.path / "volume", "bind", "idmap")
        oci.bundle.mount("/copied", type="tmpfs", source="tmpfs")
        oci.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 100}]
    oci.write()
    return oci


def prepare(runtime: Runtime, *commands: Sequence[object]) -> None:
    for words in commands:
        assert forked(runtime, words) == 0, words


def life(runtime: Runtime) -> dict[str, tuple[list[list[object]], list[object]]]:
    """Each command, and those that come before it."""
    create: list[object] = ["create", "-b", runtime.bundle.path, "box"]
    start: list[object] = ["start", "box"]
    return {
        "create": ([], create),
        "run": ([], ["run", "-d", "-b", runtime.bundle.path, "box"]),
        "start": ([create], start),
        "exec": ([create, start], ["exec", "-d", "box", "sleep", "999"]),
        "pause": ([create, start], ["pause", "box"]),
        "resume": ([create, start, ["pause", "box"]], ["resume", "box"]),
        "kill": ([create, start], ["kill", "--all", "box", "TERM"]),
        "update": ([create, start], ["update", "-r", runtime.path / "resources.json", "box"]),
        "delete": ([create], ["delete", "box"]),
        "delete of what runs": ([create, start], ["delete", "--force", "box"]),
    }


COMMANDS = ["create", "run", "start", "exec", "pause", "resume", "kill", "update", "delete", "delete of what runs"]
EVERY = [pytest.param(17, id="some"), pytest.param(1, id="all", marks=[pytest.mark.long, pytest.mark.timeout(900)])]


@pytest.mark.parametrize("stride", EVERY)
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_at_a_step_delete_force_leaves_nothing(bundle: Runtime, command: str, stride: int) -> None:
    (bundle.path / "resources.json").write_text("{}")
    before, words = life(bundle)[command]
    prepare(bundle, *before, words, ["delete", "--force", "box"])  # so that all is imported
    assert left(bundle) == NOTHING
    n = 1
    while True:
        prepare(bundle, *before)
        killed = killed_at(bundle, n, *words)
        assert forked(bundle, ["delete", "--force", "box"]) == 0, f"killed at step {n}"
        assert left(bundle) == NOTHING, f"killed at step {n}"
        if not killed:
            break
        n += stride
    assert n > 20
