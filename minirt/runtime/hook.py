"""One hook's process: what it gets, where it runs, and its end (hooks.py says when).

Few containers have hooks, so this is loaded where there is one.
"""

from __future__ import annotations

import os
import select

from minirt.documents import dumps
from minirt.errors import MinirtError
from minirt.runtime.container import RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from minirt.runtime.hooks import Hook
else:
    import _signal  # the C half: see minirt.terminal.wait

__all__ = ["run_inside", "run_outside"]

OUTPUT = 4096  # bytes of a failed hook's standard error that are told


def run_outside(what: str, hook: Hook, state: dict[str, Any]) -> None:
    """Run a hook on the host. Raises: RuntimeFailure, which begins with `what`."""
    with Pipes(state) as pipes:
        actions = [(os.POSIX_SPAWN_DUP2, pipes.stdin, 0), (os.POSIX_SPAWN_DUP2, pipes.error[1], 2)]
        try:
            pid = os.posix_spawn(
                hook["path"], hook.get("args") or [hook["path"]], environment(hook), file_actions=actions, setsigmask=(),
                setsigdef=(_signal.SIGPIPE, _signal.SIGXFSZ),
            )  # fmt: skip
        except OSError as error:
            raise RuntimeFailure(f"{what}: {hook['path']}: {error.strerror}") from None
        wait(what, hook, pid, os.pidfd_open(pid), pipes)


def run_inside(what: str, hook: Hook, state: dict[str, Any], pid: int) -> None:
    """Run a hook in the namespaces of the process `pid`. Raises: RuntimeFailure, which begins with `what`."""
    from minirt.plan.birth import Birth

    with Pipes(state) as pipes:
        birth = Birth(inside(hook, pid), (pipes.stdin, 1, pipes.error[1]))
        try:
            for _ in birth.barriers():
                pass
            wait(what, hook, birth.pid, birth.pidfd, pipes, close=False)
            birth.reaped()
        except RuntimeFailure:
            birth.reaped()
            raise
        except MinirtError as error:
            raise RuntimeFailure(f"{what}: {error}") from None
        finally:
            birth.close()


def inside(hook: Hook, pid: int) -> Any:
    """Return the plan of a hook's process in the namespaces of another."""
    from minirt.linux import constants as k
    from minirt.oci.join import namespace_flags
    from minirt.plan import Memory, Plan, Slot

    plan, fd = Plan(), Slot("container")
    plan.rt_sigaction(k.SIGPIPE, Memory(bytes(32)))
    plan.rt_sigaction(k.SIGXFSZ, Memory(bytes(32)))
    plan.rt_sigprocmask(k.SIG_SETMASK, Memory(bytes(8)))
    plan.pidfd_open(pid, 0, store=fd)
    flags = namespace_flags(pid)
    if flags:
        plan.setns(fd, flags)
    plan.close(fd)
    plan.clone3(k.CLONE_PARENT)
    if flags & k.CLONE_NEWUSER:
        plan.setresgid(0, 0, 0).setresuid(0, 0, 0)
    plan.execve(hook["path"], hook.get("args") or [hook["path"]], list(hook.get("env") or ()))
    return plan


def environment(hook: Hook) -> dict[str, str]:
    """Return a hook's environment; nothing of ours is in it."""
    return dict(item.partition("=")[::2] for item in hook.get("env") or ())


class Pipes:
    """The state, ready to be read, and what the hook says on standard error."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.stdin = os.memfd_create("state", os.MFD_CLOEXEC)  # a pipe would block beyond 64 KiB
        os.write(self.stdin, dumps(state).encode())
        os.lseek(self.stdin, 0, 0)
        self.error = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.error[1], True)

    def __enter__(self) -> Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        for fd in (self.stdin, *self.error):
            os.close(fd)


def wait(what: str, hook: Hook, pid: int, pidfd: int, pipes: Pipes, close: bool = True) -> None:
    """Wait for a hook's end, no longer than its timeout. Raises: RuntimeFailure."""
    import time

    timeout = hook.get("timeout")
    end = time.monotonic() + timeout if timeout else None
    said = b""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(pipes.error[0], select.POLLIN)
    late = False
    while True:
        left = None if end is None else max(0.0, end - time.monotonic()) * 1000
        ready = [fd for fd, _ in poll.poll(left)]
        if pipes.error[0] in ready:
            said = (said + os.read(pipes.error[0], OUTPUT))[-OUTPUT:]
        if pidfd in ready:
            break
        if not ready:
            late = True
            os.kill(pid, _signal.SIGKILL)
            end = None
    _, status = os.waitpid(pid, 0)
    if close:
        os.close(pidfd)
    try:
        said = (said + os.read(pipes.error[0], OUTPUT))[-OUTPUT:]
    except BlockingIOError:
        pass
    if late:
        raise RuntimeFailure(f"{what}: {hook['path']}: not done after its timeout of {timeout} s, killed")
    if status:
        code = os.waitstatus_to_exitcode(status)
        how = f"exit status {code}" if code >= 0 else f"signal {-code}"
        text = said.decode(errors="replace").strip().replace("\n", " ")
        raise RuntimeFailure(f"{what}: {hook['path']}: {how}" + (f": {text}" if text else ""))
