"""kill, delete: signals, and the end."""

from __future__ import annotations

import os
import select

from minirt.errors import MinirtError
from minirt.runtime import hooks
from minirt.runtime.container import Container, RuntimeFailure

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable
else:
    import _signal

__all__ = ["delete", "kill", "remove", "signal_number"]

PATIENCE = 10  # seconds for a killed process to be gone, and for the command that made it to notice


def signal_number(text: str) -> int:
    """Return a signal's number: 9, KILL, SIGKILL, kill. Raises: RuntimeFailure."""
    if text.isdigit() and 0 < int(text) < 65:
        return int(text)
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    number = getattr(_signal, name, None) if name.startswith("SIG") and not name.startswith("SIG_") else None
    if isinstance(number, int):
        return number
    for base in ("SIGRTMIN", "SIGRTMAX"):
        rest = name.removeprefix(base)
        if rest != name and rest[:1] in "+-" and rest[1:].isdigit():
            number = int(getattr(_signal, base)) + int(rest)
            if _signal.SIGRTMIN <= number <= _signal.SIGRTMAX:
                return number
    raise RuntimeFailure(f"unknown signal {text!r}: a number or a name such as TERM")


def kill(root: str, id: str, signal: str, everybody: bool) -> int:
    """Send a signal to a container's first process, or to all of them. Raises: RuntimeFailure."""
    number = signal_number(signal)
    container = Container(root, id).load()
    shared = not any(ns["type"] == "pid" for ns in (container.config.get("linux") or {}).get("namespaces") or ())
    group = container.cgroup()
    # In a pid namespace of its own all end with the first; in a shared one they would live on.
    if group is not None and (everybody or (shared and number == _signal.SIGKILL)):
        if number == _signal.SIGKILL:
            group.kill()
        else:
            group.signal_all(number)
        return 0
    if everybody and not container.pid:
        return 0
    fd = container.pidfd()
    try:
        _signal.pidfd_send_signal(fd, number)
        if number == _signal.SIGKILL and group is not None and group.is_frozen():
            group.thaw()  # version 2 lets killed processes end while frozen; thaw what is left, as runc does
    except ProcessLookupError:
        raise RuntimeFailure("container not running") from None
    finally:
        os.close(fd)
    return 0


def delete(root: str, id: str, force: bool, warn: Callable[[str], None]) -> int:
    """Remove a container that has stopped, was never started, or with force any. Raises: RuntimeFailure."""
    container = Container(root, id)
    if not os.path.isdir(container.path):
        if force:
            container.remove()  # what a delete that was killed has left under another name
            return 0
        raise RuntimeFailure(f"container does not exist: {id}")
    try:
        if force:
            end_everything(container)  # before the lock: a create whose hook hangs has it
            if not container.lock(PATIENCE):
                warn(f"another command has held container {id} for {PATIENCE} s (a hook that hangs?): removed all the same")
            container.load()
        else:
            container.load(lock=True)
    except (FileNotFoundError, RuntimeFailure):
        if not force:
            raise
        container.remove()
        return 0
    status = container.status()
    if status not in ("stopped", "created") and not force:
        raise RuntimeFailure(f"cannot delete container {id} that is not stopped: {status}")
    remove(container, warn)
    return 0


def remove(container: Container, warn: Callable[[str], None]) -> None:
    """End what is left of a container, whose lock is held, and remove it. Raises: MinirtError."""
    end_everything(container)
    if container.state.get("unit"):
        from minirt.runtime.scope import stop

        stop(container)
    elif (group := container.cgroup(gone=True)) is not None:
        group.remove()
    state = container.oci_state("stopped")
    for hook in hooks.of(container.config, "poststop"):
        try:
            hooks.run_outside("poststop", [hook], state)
        except MinirtError as error:  # runtime-spec config.md#poststop: warn, and go on
            warn(str(error))
    container.remove()


def end_everything(container: Container) -> None:
    """Kill the first process and all in the cgroup, and wait until they are gone."""
    try:
        if not container.state:
            container.load()
    except RuntimeFailure:
        return
    group = container.cgroup()
    try:
        fd = container.pidfd()
    except RuntimeFailure:
        fd = -1
    if fd >= 0:
        try:
            _signal.pidfd_send_signal(fd, _signal.SIGKILL)
        except ProcessLookupError:
            pass
    if group is not None and group.all_pids():
        group.kill()
        try:
            if group.is_frozen():
                group.thaw()
        except OSError:
            pass  # a scope of systemd's goes with its last process
    if fd >= 0:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        gone = poll.poll(PATIENCE * 1000)
        os.close(fd)
        if not gone:
            raise RuntimeFailure(f"container init still running: pid {container.state['pid']} does not die")
