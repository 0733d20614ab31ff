"""What the engine's things take on the disk, and which of them nobody uses: `system df`, and the ways to prune."""

from __future__ import annotations

import os

from minirt.engine.filters import Filters
from minirt.paths import cache_root, data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.engine.container import Container
    from minirt.image.store import Image, Store

__all__ = ["Share", "disk_usage", "images_in_use", "prune_containers", "prune_images"]


class Share:
    """What one kind of thing takes."""

    __slots__ = ("active", "kind", "reclaimable", "size", "total")

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.kind = kind
        self.total = total
        self.active = active  # that somebody uses
        self.size = size  # bytes
        self.reclaimable = reclaimable  # bytes that pruning would free


def open_store() -> Store:
    """Return the store of images."""
    from minirt.image.store import Store

    return Store(os.path.join(data_root(), "image"))


def images_in_use() -> set[str]:
    """Return the digests of the images that containers stand on."""
    from minirt.engine.container import containers
    from minirt.engine.inspect import image_of

    return {image.digest for image in map(image_of, containers()) if image is not None}


def disk_usage() -> list[Share]:
    """Return what images, containers, volumes and the cache of builds take."""
    from minirt.engine.container import containers
    from minirt.engine.volumes import bytes_below, in_use
    from minirt.image.usage import usage
    from minirt.volume.store import volumes

    store = open_store()
    costs = usage(store) if os.path.isdir(store.root) else []
    digests = {cost.digest for cost in costs}
    held = images_in_use()
    unused = sum({cost.digest: cost.unique for cost in costs if cost.digest not in held}.values())
    whole = bytes_below(store.root) if costs else 0
    images = Share("Images", len(digests), len(held & digests), whole, unused)

    boxes = containers()
    written = {box.id: bytes_below(f"{box.path}/upper") for box in boxes}
    running = [box for box in boxes if box.running]
    idle = sum(written.values()) - sum(written[box.id] for box in running)
    places, used = volumes(), in_use()
    sizes = {volume.name: bytes_below(volume.data) for volume in places}
    free = sum(size for name, size in sizes.items() if name not in used)
    cache = os.path.join(cache_root(), "build")
    cached = bytes_below(cache) if os.path.isdir(cache) else 0
    return [
        images,
        Share("Containers", len(boxes), len(running), sum(written.values()), idle),
        Share("Local Volumes", len(places), len(used & set(sizes)), sum(sizes.values()), free),
        Share("Build Cache", len(os.listdir(cache)) if cached else 0, 0, cached, cached),
    ]


def prune_containers(filters: Filters | Iterable[str] = ()) -> tuple[list[str], int]:
    """Remove the containers that have ended, or never began. Args: filters, until, label, label!.

    Returns: their ids, and how many bytes they had written. Raises: UsageError.
    """
    from minirt.engine.container import ContainerError, containers
    from minirt.engine.gc import mend
    from minirt.engine.removal import remove
    from minirt.engine.volumes import bytes_below

    wanted = filters if isinstance(filters, Filters) else Filters(list(filters))
    wanted.only("until", "label", "label!")
    ids, freed = [], 0
    for container in containers():
        if mend(container) and may_go(container, wanted):
            size = bytes_below(f"{container.path}/upper")
            try:
                remove(container)
            except ContainerError:
                continue  # somebody has begun it meanwhile
            ids.append(container.id)
            freed += size
    return ids, freed


def may_go(container: Container, wanted: Filters) -> bool:
    """Say whether a container does nothing, and the filters choose it."""
    if container.running or container.state.get("status") not in ("exited", "created", "dead"):
        return False
    limit = wanted.before()
    if limit is not None and (container.state.get("created") or 0.0) >= limit:
        return False
    return wanted.has_labels(container.state.get("labels") or {})


def prune_images(everything: bool = False, filters: Filters | Iterable[str] = ()) -> tuple[list[str], list[str], int]:
    """Remove images without a tag that no container stands on, or also those with one; and content that belongs to no image.

    Args:
        everything: images with tags, too.
        filters: which images: until, label, label!; dangling=false means everything.

    Returns: names that were taken away, digests of content that is gone, bytes that are free. Raises: UsageError, ImageError.
    """
    from minirt.engine.volumes import bytes_below
    from minirt.image.errors import UnknownImage

    wanted = filters if isinstance(filters, Filters) else Filters(list(filters))
    wanted.only("until", "label", "label!", "dangling")
    if wanted.truth("dangling") is False:
        everything = True
    store = open_store()
    if not os.path.isdir(store.root):
        return [], [], 0
    before, untagged, gone = bytes_below(store.root), [], []
    forget_unusable(store)
    held, images = images_in_use(), store.readable()
    tagged = {image.digest for image in images if "@" not in image.name and image.name}
    for image in images:
        if image.digest not in held and (everything or image.digest not in tagged) and is_chosen(image, wanted):
            try:
                gone += store.remove(image.name or image.digest)
            except UnknownImage:
                continue
            untagged += [image.name] if image.name else []
    gone += store.collect()
    return untagged, gone, max(before - bytes_below(store.root), 0)


def forget_unusable(store: Store) -> None:
    """Forget what cannot be read and has no name: nobody can use it, and while it is there no content goes."""
    from minirt.image.errors import ImageError
    from minirt.image.index import name_of

    for entry in store.index.entries():
        try:
            store.image(entry)
        except ImageError:
            if not name_of(entry):
                store.index.remove("", str(entry.get("digest")))


def is_chosen(image: Image, wanted: Filters) -> bool:
    """Say whether filters choose an image."""
    from datetime import datetime

    labels: dict[str, Any] = (image.config.get("config") or {}).get("Labels") or {}
    limit = wanted.before()
    if limit is not None:
        try:
            made = datetime.fromisoformat(str(image.config.get("created", ""))[:19] + "+00:00").timestamp()
        except ValueError:
            made = 0.0
        if made >= limit:
            return False
    return wanted.has_labels(labels)
