"""Containers that are to run by --restart, and that nobody is with: begun anew by the server, as no command lives long enough.

    when it begins   `always`; and `unless-stopped` and `on-failure`, unless somebody has stopped them: after a boot, all that ran
    from then on     what lost its monitor, as soon as its program has ended too

A monitor that lives sees to its container by itself (ended.py). A program whose monitor was killed goes on, as podman has it:
docker's shim would take it along. It has no log and no other end of its streams any more, though.

Source: docs.docker.com/engine/containers/start-containers-automatically
"""

from __future__ import annotations

from minirt.engine.container import LOST, Container, containers
from minirt.engine.gc import mend
from minirt.engine.restarts import is_stopped, next_start, restart_policy
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["is_due", "restore"]


def restore(beginning: bool, say: Callable[[Container, str], object]) -> None:
    """Start what is to run, and does not. Raises: MinirtError where nothing can be looked at.

    Args:
        beginning: the server begins: not only what lost its monitor is meant.
        say: told of each that was started, with nothing, or with why it could not be.
    """
    due = [container for container in containers() if is_due(container, beginning)]
    failed = [container for container in due if not begin(container, beginning, say)]
    for container in failed if beginning else ():  # it may need one that has been started meanwhile (--network container:NAME)
        begin(container, beginning, say)


def is_due(container: Container, beginning: bool) -> bool:
    """Say whether a container is to be started; one that has lost its monitor and its program is shown as what it is."""
    if restart_policy(container.state["restart"])[0] == "no" or not mend(container):
        return False
    state = container.state
    if state["status"] != "exited" or not state["started"]:
        return False
    if beginning and state["restart"] == "always":
        return True
    if is_stopped(container) or not (beginning or state["error"] == LOST):
        return False
    return next_start(state["restart"], state["exit_code"], state["restarts"], 0, False) is not None


def begin(container: Container, beginning: bool, say: Callable[[Container, str], object]) -> bool:
    """Start a container unless another does; say whether there is nothing left to do."""
    from minirt.engine.start import start, take

    if not take(container):
        return True
    try:
        if container.running or not is_due(container, beginning):
            return True
        container.save(restarts=container.state["restarts"] + 1)
        start(container, owned=True)
    except MinirtError as error:
        container.save(error=str(error))
        say(container, str(error))
        return False
    finally:
        container.close()
    say(container, "")
    return True
