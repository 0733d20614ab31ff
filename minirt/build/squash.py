"""`--squash`: the layers that this build made become one; those of the base image stay, and are shared."""

from __future__ import annotations

from minirt.build.layering import add_layer
from minirt.image.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.state import State

__all__ = ["squash"]


def squash(state: State, created: str, latest: int | None) -> None:
    """Join the layers above the base's, in place. The history keeps its lines; those of the layers have none of their own now.

    Args: created, RFC 3339, for the new layer; latest, ns, that no time may exceed. Raises ImageError, OSError.
    """
    from minirt.image.squash import joined

    store, base = state.store, state.base
    state.directories()
    chain = [store.layers.path(chain_id) for chain_id in chain_ids(state.diff_ids)]
    lower = store.layers.find(state.diff_ids[:base]) or []
    layers = list(reversed(chain[base:]))
    own = sum(not line.get("empty_layer") for line in state.history) - base
    for line in reversed(state.history):
        if own and not line.get("empty_layer"):
            line["empty_layer"] = True
            own -= 1
    del state.layers[base:], state.diff_ids[base:]
    add_layer(state, joined(layers, lower, latest=latest), "", f"minirt build --squash: {len(layers)} layers", created)
