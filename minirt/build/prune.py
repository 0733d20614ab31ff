"""What builds keep, removed: steps that nobody used for long, or all of them and the caches of RUN --mount=type=cache."""

from __future__ import annotations

import os

from minirt.build.attach import forget_caches
from minirt.paths import cache_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.store import Store

__all__ = ["Pruned", "prune"]

DAY = 86400  # seconds


class Pruned:
    """What went: how many steps, how many caches, the digests of content, bytes; spared, whether a build that runs kept some."""

    __slots__ = ("caches", "freed", "gone", "spared", "steps")

    def __init__(self, steps: int, caches: int, gone: list[str], freed: int, spared: bool) -> None:
        self.steps = steps
        self.spared = spared
        self.caches = caches
        self.gone = gone
        self.freed = freed


def prune(everything: bool = False) -> Pruned:
    """Remove it.

    Args: everything, all steps and all caches that no build uses now: while one runs, the steps of the last day stay.
    Raises: ImageError, OSError.
    """
    from minirt.engine.disk import open_store
    from minirt.engine.volumes import bytes_below

    store = open_store()
    places = (store.root, os.path.join(cache_root(), "build"))
    before = sum(map(bytes_below, places))
    steps, spared = _forget(store) if everything else (store.steps.forget(), False)
    caches = forget_caches() if everything else 0
    gone = store.collect()
    return Pruned(steps, caches, gone, max(before - sum(map(bytes_below, places)), 0), spared)


def _forget(store: Store) -> tuple[int, bool]:
    """Forget all steps, or while a build runs, which stands on those that it has done, all but the last day's."""
    try:
        with store.steps.using(alone=True):
            return store.steps.forget(0), False
    except BlockingIOError:
        return store.steps.forget(DAY), True
