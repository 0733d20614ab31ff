"""A machine's life: started, paused, resumed, stopped, killed. Each is one call; none needs a daemon."""

from __future__ import annotations

import os
import signal
import sys

from minivm.manager.client import request
from minivm.manager.log import opened
from minivm.manager.machines import MachineError, NamedMachine

__all__ = ["pause", "resume", "start", "stop"]

GRACE = 5.0  # seconds between SIGTERM, at which its process writes down how it ended, and SIGKILL


def start(machine: NamedMachine) -> None:
    """Start a machine's process, and return when the guest runs. Raises MachineError with what went wrong."""
    with machine.lock():
        lock = machine.take()
        machine.save(status="starting")
        heard, ready = os.pipe2(os.O_CLOEXEC)
        try:
            pid = _spawn(machine, lock, ready)
        finally:
            os.close(lock)
            os.close(ready)
        text = _read_line(heard)
    if text == "\n":
        return
    _reap(pid)
    raise MachineError(text.strip() or f"machine {machine.name}: its process died as it started: see {machine.file('vmm.log')}")


def _spawn(machine: NamedMachine, lock: int, ready: int) -> int:
    """Make the process, in a session of its own and with no terminal; it holds `lock` from its birth. man 3 posix_spawn."""
    words = [sys.executable, "-m", "minivm.manager.vmm", machine.name, str(lock), str(ready)]
    log = opened(machine.file("vmm.log"))
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.set_inheritable(lock, True)
    os.set_inheritable(ready, True)
    try:
        streams = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        return os.posix_spawn(
            sys.executable, words, _environment(), file_actions=streams, setsid=True,
            setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGHUP], setsigmask=[],
        )  # fmt: skip
    finally:
        os.close(log)
        os.close(null)


def _environment() -> dict[str, str]:
    """Return this process's environment, with the directory that minivm is imported from: it starts in another one."""
    import minivm

    here = os.path.dirname(os.path.dirname(os.path.abspath(minivm.__file__)))
    paths = [here, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    if "MINIRT_ROOT" in environment:
        environment["MINIRT_ROOT"] = os.path.abspath(environment["MINIRT_ROOT"])
    return environment


def _read_line(fd: int) -> str:
    with open(fd, encoding="utf-8", errors="replace") as file:
        return file.readline()


def _reap(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass


def pause(machine: NamedMachine) -> None:
    """Let no processor of it run. Raises MachineError."""
    request(machine, "PATCH", "/vm", {"state": "Paused"})


def resume(machine: NamedMachine) -> None:
    """Let them run again. Raises MachineError."""
    request(machine, "PATCH", "/vm", {"state": "Resumed"})


def stop(machine: NamedMachine, seconds: float) -> bool:
    """Press the power button, wait, then end the process: first by SIGTERM, then by SIGKILL.

    Args:
        seconds: for the guest to switch itself off; 0 does not ask it.

    Returns True where the guest did it itself. Raises MachineError where the machine does not run.
    """
    if not machine.runs():
        raise MachineError(f"machine {machine.name} is not running")
    if seconds > 0:
        try:
            request(machine, "PUT", "/actions", {"action_type": "PowerButton"})
        except MachineError:
            seconds = 0  # paused, or it does not answer
        if machine.wait(seconds):
            return True
    for number, patience in ((signal.SIGTERM, GRACE), (signal.SIGKILL, None)):
        _signal(machine, number)
        if machine.wait(patience):
            break
    return False


def _signal(machine: NamedMachine, number: int) -> None:
    """Send a signal to the machine's process: the one that holds vmm.lock, not one that got its number since."""
    pid = machine.state().get("pid")
    if not pid:
        return
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if machine.runs() and machine.state().get("pid") == pid:  # it lived after the pidfd was opened: it is the one
            signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(pidfd)

