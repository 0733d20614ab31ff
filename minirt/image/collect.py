"""What no name, no hold and no step of a build leads to: blobs and layers that may go."""

from __future__ import annotations

import os

from minirt.image.errors import ImageError
from minirt.image.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.store import Store

__all__ = ["remove_unneeded"]


def remove_unneeded(store: Store) -> list[str]:
    """Remove it. The caller has `content.lock` alone.

    Returns the digests of the blobs. Where an image that stays cannot be read, no content is removed, as what it needs is not
    known. Raises OSError.
    """
    try:
        blobs, directories = _needed(store)
    except ImageError:
        return []
    for name in store.layers.all():
        if name not in directories:
            store.layers.remove(name)
    gone = [digest for digest in store.blobs.all() if digest not in blobs]
    for digest in gone:
        os.unlink(store.blobs.path(digest))
    store.origins.forget(blobs)
    return gone


def _needed(store: Store) -> tuple[set[str], set[str]]:
    """Return the digests of the blobs, and the names of the layer directories, that are needed. Raises ImageError."""
    blobs: set[str] = set()
    directories: set[str] = set()
    for image in map(store.image, store.index.entries() + store.holds.all()):
        blobs.update((image.digest, image.id))
        blobs.update(str(layer["digest"]) for layer in image.manifest["layers"])
        directories.update(chain_id.partition(":")[2] for chain_id in chain_ids(image.diff_ids))
    for step in store.steps.all():
        blobs.update(str(layer["digest"]) for layer in step.layers)
        directories.update(chain_id.partition(":")[2] for chain_id in chain_ids(step.diff_ids))
    return blobs, directories
