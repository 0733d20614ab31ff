"""Containers that run: ended, killed, held still, waited for, renamed. None of these owns the container; its monitor does."""

from __future__ import annotations

import os
import signal
from contextlib import suppress

from minirt.engine import owner
from minirt.engine.asked import load_options
from minirt.engine.container import Conflict, Container, ContainerError, check_name
from minirt.engine.exits import read_exit
from minirt.engine.removal import KILLED, no_more, running, take_over, while_running
from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.linux.cgroup_group import Cgroup

__all__ = ["kill", "pause", "rename", "restart", "signal_number", "stop", "unpause", "wait"]



def signal_number(text: str) -> int:
    """Return a signal by its name (TERM, SIGTERM) or number. Raises: UsageError."""
    if text.isdigit() and 0 < int(text) < signal.NSIG:
        return int(text)
    name = text.upper().removeprefix("SIG")
    if name.startswith("RTMIN+") and name[6:].isdigit():
        return int(signal.SIGRTMIN) + int(name[6:])
    number = getattr(signal, f"SIG{name}", None)
    if not isinstance(number, signal.Signals):
        raise UsageError(f"no signal {text!r}: write a name as TERM or a number (man 7 signal)")
    return int(number)


def kill(container: Container, number: int) -> None:
    """Send a container's first process a signal; one that ends it is not undone by --restart, as its end is wanted.

    Raises: Conflict where it does not run.
    """
    pidfd = running(container)
    try:
        if number in (signal.SIGKILL, stop_signal(container)):
            no_more(container)
        send(container, pidfd, number)
    except ProcessLookupError:  # it has ended meanwhile
        raise Conflict(f"container {container.label} is not running") from None
    finally:
        os.close(pidfd)


def stop_signal(container: Container) -> int:
    """Return the signal that asks a container to end; SIGTERM for one that was run in the foreground."""
    try:
        return signal_number(load_options(container).stop_signal or "TERM")
    except ContainerError:
        return signal.SIGTERM


def stop_timeout(container: Container) -> float:
    """Return how long a container has to end when it is asked to, in s; docker's 10 for one that was run in the foreground."""
    try:
        return load_options(container).stop_timeout
    except ContainerError:
        return 10


def send(container: Container, pidfd: int, number: int) -> None:
    """Send its first process a signal, and say so: before, as its end is told as soon as it comes. Raises: ProcessLookupError."""
    container.tell("kill", signal=str(int(number)))
    signal.pidfd_send_signal(pidfd, number)


def stop(container: Container, seconds: float | None = None, number: int | None = None) -> None:
    """End a container: its stop signal, and SIGKILL if it has not ended after so many seconds; wait until all is tidied up.

    Args:
        container: one that does not run stays as it is, and is not started again; one that is just being started is ended.
        seconds: by default what it was created with; negative: for ever.
        number: of the signal; by default what it was created with, or TERM.
    """
    import select

    if seconds is None:
        seconds = stop_timeout(container)
    while True:
        no_more(container)  # each time: a start takes that back
        try:
            pidfd = running(container)
            break
        except ContainerError:
            if not comes(container):
                return
    try:
        send(container, pidfd, number or stop_signal(container))
        if container.paused:
            with suppress(MinirtError):  # SIGKILL ends it, still or not
                unpause(container)
        if not select.select([pidfd], [], [], None if seconds < 0 else seconds)[0]:
            send(container, pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], KILLED)
    except ProcessLookupError:
        pass  # it has ended meanwhile
    finally:
        os.close(pidfd)
    settle(container)
    container.tell("stop")


def comes(container: Container) -> bool:
    """Wait until nobody is with a container that does not run; say whether it has been started instead. Its state is read anew."""
    fd = take_over(container)
    if fd < 0:
        return container.running
    os.close(fd)
    container.state = (Container.load(container.id) or container).state
    return False


def settle(container: Container) -> None:
    """Wait until its monitor has tidied up, and read its state anew."""
    fd = owner.wait(container.path, KILLED)
    if fd >= 0:
        os.close(fd)
    fresh = Container.load(container.id)
    if fresh is not None:
        container.state = fresh.state


def restart(container: Container, seconds: float | None = None, number: int | None = None) -> None:
    """Stop a container as `stop` does, and start it; one that does not run is started. Raises: MinirtError."""
    from minirt.engine.start import start

    load_options(container)  # one that cannot be started again is not stopped
    rm = container.state["rm"]
    if rm:
        container.save(rm=False)  # this end is not the one that --rm means
    try:
        stop(container, seconds, number)
        start(container)
    finally:
        if rm:
            container.save(rm=True)
    container.tell("restart")


def pause(container: Container) -> None:
    """Hold all processes of a container still. Raises: ContainerError, Conflict where they are held already; CgroupError."""
    if container.paused:
        raise Conflict(f"container {container.label} is paused already")
    hold(container, lambda group: group.freeze())
    container.tell("pause")


def unpause(container: Container) -> None:
    """Let them go on. Raises: ContainerError, Conflict where nothing holds them; CgroupError."""
    if container.running and not container.paused:
        raise Conflict(f"container {container.label} is not paused")
    hold(container, lambda group: group.thaw())
    container.tell("unpause")


def hold(container: Container, do: Callable[[Cgroup], None]) -> None:
    """Freeze or thaw. Raises: ContainerError, CgroupError."""
    with while_running(container):
        do(group_of(container))


def group_of(container: Container) -> Cgroup:
    """Return the cgroup of a container that runs. Raises: ContainerError."""
    os.close(running(container))
    group = container.cgroup
    if group is None:
        raise ContainerError(f"container {container.label} has no cgroup: this host has no cgroup v2 for it")
    return group


def wait(container: Container) -> int:
    """Wait until a container has ended and all is tidied up. Returns its exit code."""
    import select

    try:
        pidfd = running(container)
        select.select([pidfd], [], [])
        os.close(pidfd)
        settle(container)
    except ContainerError:
        pass
    ended = read_exit(container) or (container.state.get("exit_code"), 0.0)
    return container.exit_code if ended[0] is None else ended[0]


def rename(container: Container, name: str) -> None:
    """Give a container another name. Raises: UsageError; NameTaken where another has it."""
    check_name(name)
    container.save([("rename", {"oldName": f"/{container.label}"})], name=name)
    from minirt.engine.networks import renamed

    renamed(container)
