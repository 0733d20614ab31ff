"""`minirt commit`: a container's changes as a layer upon its image's, and the image that they make."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager, nullcontext, suppress

from minirt.build.errors import BuildError
from minirt.build.layering import add_layer, rfc3339
from minirt.build.scope import Scope
from minirt.build.state import State
from minirt.engine.container import while_there
from minirt.image import change
from minirt.image.diff import layer_of
from minirt.image.store import Store
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from minirt.engine.container import Container

__all__ = ["commit"]


def commit(
    container: Container, name: str = "", *, author: str = "", message: str = "", changes: Iterable[str] = (), pause: bool = True
) -> str:
    """Make an image of a container as it is now.

    Args:
        container: one that runs is held still meanwhile (`pause`), so that no file is half written.
        name: of the image; empty for none.
        author, message: for its history.
        changes: instructions that change its configuration (`CMD ["sh"]`).
        pause: hold it still.

    Returns: the image's ID. Raises: BuildError, ImageError, NoContainer.
    """
    with while_there(container):
        id = _committed(container, name, author, message, changes, pause)
    container.tell("commit", comment=message, imageID=id, imageRef=name)
    return id


def _committed(container: Container, name: str, author: str, message: str, changes: Iterable[str], pause: bool) -> str:
    store = Store(os.path.join(data_root(), "image"))
    image = store.held(container.id)
    state = State.of_image(image, Scope({}, {}))
    if container.state.get("command"):
        state.config["Cmd"] = container.state["command"]
    for text in changes:
        change.apply(state.config, text)
    refuse_mapped(container)
    with store.adding():  # until the image has its name: before, nothing leads to the layer
        with still(container) if pause else nullcontext():
            command = " ".join(container.state.get("command") or ())
            pieces = layer_of(f"{container.path}/upper", image.layers())
            add_layer(state, pieces, "", command or "minirt commit", rfc3339(time.time_ns()))
        state.history[-1]["comment"] = message
        if author:
            state.document["author"] = state.history[-1]["author"] = author
        descriptor = store.add_image(state.finished(), state.layers)
        if name:
            store.set_name(name, descriptor)
        store.add_nameless(descriptor)
        return store.image(descriptor).id


@contextmanager
def still(container: Container) -> Iterator[None]:
    """Hold a container still for the body, if it runs and nobody else does; one that ends meanwhile is still anyway."""
    group = container.cgroup if container.running else None
    if group is None or container.paused:
        yield
        return
    try:
        _unless_ended(container, group.freeze)
        yield
    finally:
        _unless_ended(container, group.thaw)


def _unless_ended(container: Container, do: Callable[[], object]) -> None:
    from minirt.engine.container import Conflict
    from minirt.engine.removal import while_running

    with suppress(Conflict), while_running(container):
        do()


def refuse_mapped(container: Container) -> None:
    """Refuse a container with a user namespace: its files have ids that mean others inside. Raises: BuildError."""
    from minirt.engine.inspect import load

    if (load(f"{container.path}/config.json").get("linux") or {}).get("uidMappings"):
        raise BuildError("commit of a container with a user namespace: not implemented: its files have the ids of the host's side")
