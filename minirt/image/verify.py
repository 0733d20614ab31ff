"""Every digest again: what an image's blobs are, against what they are called."""

from __future__ import annotations

import os

from minirt.image import digest as digests
from minirt.image.compression import PIECE, FdReader, Tap, compression_of, decompressed
from minirt.image.errors import Attempt, BadArchive, Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.image.store import Image, Store

__all__ = ["verify"]


def verify(store: Store, image: Image) -> Iterator[tuple[str, str]]:
    """Check an image's content, one blob at a time.

    The manifest and the configuration were checked when the image was resolved. Unpacked layers are not
    compared with their blobs.
    Yields the digest of each blob and what is wrong with it, or "". Raises StoreError.
    """
    yield image.digest, ""
    yield image.id, ""
    for layer, diff_id in zip(image.manifest["layers"], image.diff_ids, strict=True):
        with Attempt(f"read blob {layer['digest']}"):
            problem = _layer_problem(store, layer, diff_id)
        yield str(layer["digest"]), problem


def _layer_problem(store: Store, layer: dict[str, Any], diff_id: str) -> str:
    """Return what is wrong with a layer, or ""."""
    digest = str(layer["digest"])
    stored = digests.hasher(digest.partition(":")[0])
    unpacked = digests.hasher(diff_id.partition(":")[0])
    try:
        media = str(layer.get("mediaType"))
        compression = compression_of(media) if "tar" in media else ""  # else an artifact's: nothing to unpack
        fd = store.blobs.open(layer)
    except Damaged as error:
        return str(error)
    try:
        source = Tap(FdReader(fd), stored.update)
        tar = Tap(decompressed(compression, source), unpacked.update)
        while tar.read(PIECE):
            pass
        while source.read(PIECE):
            pass
    except BadArchive as error:
        return f"blob {digest} is altered: {error}"
    finally:
        os.close(fd)
    if stored.hexdigest() != digest.partition(":")[2]:
        return f"blob {digest} is altered"
    if unpacked.hexdigest() != diff_id.partition(":")[2]:
        return f"blob {digest} unpacks to something else than the configuration's diff_id {diff_id}"
    return ""
