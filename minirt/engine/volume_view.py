"""Volumes as they are shown and chosen: `volume ls`, `inspect`, their filters, in the words of Docker's Engine API."""

from __future__ import annotations

import time

from minirt.engine.filters import Filters
from minirt.engine.volumes import in_use
from minirt.volume.store import volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.volume.store import Volume

__all__ = ["chosen", "described", "keeper", "row"]


def described(volume: Volume) -> dict[str, Any]:
    """Return what is known of a volume (Docker Engine API, "Volume")."""
    return {
        "CreatedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(volume.created)),
        "Driver": "local",
        "Labels": volume.labels,
        "Mountpoint": volume.data,
        "Name": volume.name,
        "Options": volume.options or None,
        "Scope": "local",
    }


def row(volume: Volume) -> dict[str, Any]:
    """Return a volume as a row of `volume ls`."""
    return {
        "Driver": "local",
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(volume.labels.items())),
        "Mountpoint": volume.data,
        "Name": volume.name,
        "Scope": "local",
        "Label": lambda key: volume.labels.get(key, ""),
    }


def chosen(filters: Filters | list[str]) -> list[Volume]:
    """Return the volumes that filters choose: dangling, driver, label, name. Raises: UsageError."""
    wanted = filters if isinstance(filters, Filters) else Filters(filters)
    wanted.only("dangling", "driver", "label", "name")
    dangling, used = wanted.truth("dangling"), in_use()
    return [
        volume
        for volume in volumes()
        if wanted.has_labels(volume.labels)
        and wanted.part("name", volume.name)
        and wanted.equal("driver", "local")
        and (dangling is None or dangling == (volume.name not in used))
    ]


def keeper(filters: Filters | list[str]) -> Callable[[Volume], bool]:
    """Return what says of a volume that `prune` is not to take it: label, label!, all. Raises: UsageError."""
    wanted = filters if isinstance(filters, Filters) else Filters(filters)
    wanted.only("label", "label!", "all")
    return lambda volume: not wanted.has_labels(volume.labels)
