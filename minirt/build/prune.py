"""What builds keep, removed: steps that nobody used for long, or all of them and the caches of RUN --mount=type=cache."""

from __future__ import annotations

import os

from minirt.build.attach import forget_caches
from minirt.paths import cache_root

__all__ = ["Pruned", "prune"]


class Pruned:
    """What went: how many steps, how many caches, the digests of content, bytes."""

    __slots__ = ("caches", "freed", "gone", "steps")

    def __init__(self, steps: int, caches: int, gone: list[str], freed: int) -> None:
        self.steps = steps
        self.caches = caches
        self.gone = gone
        self.freed = freed


def prune(everything: bool = False) -> Pruned:
    """Remove it. Args: everything, all steps and all caches that no build uses now. Raises: ImageError, OSError."""
    from minirt.engine.disk import open_store
    from minirt.engine.volumes import bytes_below

    store = open_store()
    places = (store.root, os.path.join(cache_root(), "build"))
    before = sum(map(bytes_below, places))
    steps = store.steps.forget(0) if everything else store.steps.forget()
    caches = forget_caches() if everything else 0
    gone = store.collect()
    return Pruned(steps, caches, gone, max(before - sum(map(bytes_below, places)), 0))
