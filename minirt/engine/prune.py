"""What nobody uses, removed: containers that have ended, images."""

from __future__ import annotations

import os

from minirt.engine.disk import images_in_use, open_store
from minirt.engine.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minirt.engine.container import Container
    from minirt.image.store import Store

__all__ = ["prune_containers", "prune_images"]


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
    from minirt.engine.image_view import fits
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
    held, images, limit = images_in_use(), store.readable(), wanted.before()
    tagged = {image.digest for image in images if "@" not in image.name and image.name}
    for image in images:
        if image.digest not in held and (everything or image.digest not in tagged) and fits(image, wanted, limit):
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
