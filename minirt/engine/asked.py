"""What a container was created with: options.json in its directory, so that each start is the same."""

from __future__ import annotations

import json

from minirt.engine.container import Container, ContainerError
from minirt.engine.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.scratch import Lock

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


def changing(container: Container) -> Lock:
    """Return the lock of who changes what a container was created with: he reads it, and writes it anew."""
    from minirt.image.scratch import Lock

    return Lock(f"{container.path}/update.lock")
