"""What a container was created with: options.json in its directory, so that each start is the same."""

from __future__ import annotations

import json
from contextlib import contextmanager

from minirt.engine.container import Container, ContainerError, while_there
from minirt.engine.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["changing", "frozen", "load_options"]


def frozen(options: RunOptions) -> dict[str, Any]:
    """Return the options as a JSON object, with values in place of what they refer to here."""
    from minirt.engine import values

    chosen = {**vars(options), "env_file": [], "label_file": []}
    chosen["env"] = [f"{name}={value}" for name, value in values.parse_environment(options.env, options.env_file).items()]
    chosen["label"] = [f"{key}={value}" for key, value in values.parse_labels(options.label, options.label_file).items()]
    return chosen


def load_options(container: Container) -> RunOptions:
    """Return what a container was created with. Raises: ContainerError where it was not made to be started."""
    try:
        with open(f"{container.path}/options.json", encoding="utf-8") as file:
            chosen = json.load(file)
    except FileNotFoundError:
        raise ContainerError(f"container {container.label} was run in the foreground: it cannot be started again") from None
    image, command = chosen.pop("image"), chosen.pop("command")
    return RunOptions(image, command, **chosen)


@contextmanager
def changing(container: Container) -> Iterator[None]:
    """Hold, for the body, the lock of who changes what a container was created with: he reads it, and writes it anew.

    Raises: NoContainer where it was removed meanwhile.
    """
    from minirt.image.scratch import Lock

    with while_there(container), Lock(f"{container.path}/update.lock"):
        yield
