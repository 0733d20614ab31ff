"""A layer into the store: its tar is a blob and, in the same pass, the directory that the next step stands on."""

from __future__ import annotations

from minirt.image.compression import Tap, media_type
from minirt.image.errors import Attempt
from minirt.image.layers import Unpacking, chain_ids
from minirt.image.pack import Pieces
from minirt.image.steps import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.build.state import State
    from minirt.image.blobs import Descriptor

__all__ = ["add_layer", "rfc3339"]


def add_layer(state: State, pieces: Iterator[bytes], key: str, created_by: str, created: str) -> None:
    """Put a layer on a state, and keep it under its step's fingerprint.

    Plain tar: compressed by another zlib it would have another digest, and a build writes it far more often than anybody sends it.
    Args: pieces, the tar; key, the fingerprint, or "" to keep nothing; created_by and created, for history.
    Raises ImageError.
    """
    store = state.store
    below = state.directories()
    with store.adding(), Attempt("write the layer"):
        layer, diff_id = _write(state, pieces, below)
        state.add_layer(layer, diff_id, created_by, created)
        if key:
            store.steps.keep(key, Step(state.layers, state.diff_ids, created))


def _write(state: State, pieces: Iterator[bytes], below: list[str]) -> tuple[Descriptor, str]:
    store = state.store
    with store.blobs.writer() as blob:
        source = Tap(Pieces(pieces), blob.write)
        with Unpacking(store.layers, "", source, below) as unpacking:
            layer = blob.commit(media_type(""))
            unpacking.commit(store.layers.path(chain_ids([*state.diff_ids, unpacking.diff_id])[-1]))
    return layer, unpacking.diff_id


def rfc3339(nanoseconds: int) -> str:
    """Return a time as image-spec config.md wants it: ns since the epoch in UTC, whole seconds without a fraction."""
    import time

    seconds, rest = divmod(nanoseconds, 10**9)
    fraction = f".{rest:09d}".rstrip("0") if rest else ""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + fraction + "Z"
