"""A root file system's tar -> an image of one layer (what `docker import` does).

One pass over the archive: it is hashed, kept as a blob as it came (tar, gzip or zstd), and unpacked, so
that the first `minirt run` finds it ready. Until the last byte was right, nothing has a name.
"""

from __future__ import annotations

import os

from minirt.image import change
from minirt.image.compression import Tap, media_type, open_archive
from minirt.image.errors import Attempt, BadArchive
from minirt.image.layers import Unpacking
from minirt.image.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minirt.image.layer import Limits
    from minirt.image.store import Image, Store

__all__ = ["import_rootfs", "machine", "now"]

_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def import_rootfs(
    store: Store,
    fd: int,
    name: str,
    *,
    origin: str = "-",
    changes: Iterable[str] = (),
    message: str = "",
    progress: Callable[[int], object] | None = None,
    limits: Limits | None = None,
) -> Image:
    """Make an image of a root file system.

    Args: fd, to read the archive from, a pipe or a file; name, for the image, "" for none; origin, what to call the archive
    in history and errors; changes, instructions as in change.apply; message, a comment for the history;
    progress, called with the number of bytes just read; limits, what the archive may cost.
    Returns the image. Raises BadReference, BadChange, BadArchive, StoreError; then nothing is kept.
    """
    if name:
        Reference.parse(name)
    settings: dict[str, Any] = {}
    for text in changes:
        change.apply(settings, text)
    with Attempt(f"import {origin}"), store.adding():
        layer, diff_id = _add_layer(store, fd, origin, progress, limits)
        config = _config(settings, diff_id, origin, message)
        descriptor = store.add_image(config, [layer])
        if name:
            store.set_name(name, descriptor)
        store.add_nameless(descriptor)
        image = store.image(descriptor)  # now: its name may be another's, or nobody's, as soon as others may remove content
        image.name = Reference.parse(name).familiar if name else ""
    store.collect(wait=False)  # what a killed import left
    return image


def _add_layer(
    store: Store, fd: int, origin: str, progress: Callable[[int], object] | None, limits: Limits | None
) -> tuple[dict[str, Any], str]:
    """Stream the archive into a blob and a directory. Returns the blob's descriptor and the diff_id."""
    try:
        compression, packed = open_archive(fd)
        with store.blobs.writer() as blob:

            def seen(data: bytes) -> None:
                blob.write(data)
                if progress is not None:
                    progress(len(data))

            source = Tap(packed, seen)
            with Unpacking(store.layers, compression, source, [], whole=True, limits=limits) as unpacking:
                while source.read(1 << 16):  # what follows the end of the compressed data is still in the blob
                    pass
                layer = blob.commit(media_type(compression))
                unpacking.commit(store.layers.path(unpacking.diff_id))
        return layer, unpacking.diff_id
    except BadArchive as error:
        raise BadArchive(f"cannot import {origin}: {error}") from error


def _config(settings: dict[str, Any], diff_id: str, origin: str, message: str) -> dict[str, Any]:
    created = now()
    origin, message = (text.encode("utf-8", "replace").decode() for text in (origin, message))
    return {
        "created": created,
        "architecture": machine(),
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [
            {
                "created": created,
                "created_by": f"minirt image import {origin}",
                "comment": message or f"Imported from {origin}",
            }
        ],
    }


def machine() -> str:
    """Return this machine's architecture, in the words of image-spec config.md#properties."""
    name = os.uname().machine
    return _MACHINES.get(name, name)


def now() -> str:
    """Return the time for `created` (RFC 3339): now, or SOURCE_DATE_EPOCH."""
    import time

    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(text) if text.isdigit() else None))
