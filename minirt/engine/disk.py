"""What the engine's things take on the disk: `system df`, and the same through the API."""

from __future__ import annotations

import os

from minirt.paths import cache_root, data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container
    from minirt.image.store import Store
    from minirt.image.usage import Kept
    from minirt.volume.store import Volume

__all__ = ["Disk", "Share", "images_in_use", "open_store"]


def open_store() -> Store:
    """Return the store of images."""
    from minirt.image.store import Store

    return Store(os.path.join(data_root(), "image"))


def images_in_use() -> set[str]:
    """Return the digests of the images that containers stand on."""
    from minirt.engine.container import containers
    from minirt.engine.inspect import image_of

    return {image.digest for image in map(image_of, containers()) if image is not None}


class Share:
    """What one kind of thing takes."""

    __slots__ = ("active", "kind", "reclaimable", "size", "total")

    def __init__(self, kind: str, total: int, active: int, size: int, reclaimable: int) -> None:
        self.kind = kind
        self.total = total
        self.active = active  # that somebody uses
        self.size = size  # bytes
        self.reclaimable = reclaimable  # bytes that pruning would free


class Disk:
    """What there is, and what each takes in bytes, as it is when this is made. Raises: ImageError, StateError.

    Attributes:
        images: what each costs, once for each of its names.
        standing: how many containers stand on an image, by its manifest's digest.
        containers: each with what it has written.
        volumes: each with its size, and how many containers use it.
        caches: what builds keep: layers of steps, directories of RUN --mount=type=cache.
        layers: what images take together, without what builds alone keep.
    """

    def __init__(self) -> None:
        from minirt.engine.container import containers
        from minirt.engine.inspect import image_of
        from minirt.engine.volumes import bytes_below, users
        from minirt.engine.volumes import usage as size_of
        from minirt.image.usage import kept, usage
        from minirt.volume.store import volumes

        store = open_store()
        there = os.path.isdir(store.root)
        self.images = usage(store) if there else []
        self.containers: list[tuple[Container, int]] = [(box, bytes_below(f"{box.path}/upper")) for box in containers()]
        self.standing: dict[str, int] = {}
        for image in (image_of(box) for box, _ in self.containers):
            if image is not None:
                self.standing[image.digest] = self.standing.get(image.digest, 0) + 1
        self.volumes: list[tuple[Volume, int, int]] = [
            (volume, size_of(volume), len(users(volume.name))) for volume in volumes()
        ]
        steps = kept(store) if there else []
        self.layers = max(bytes_below(store.root) - sum(one.size for one in steps if not one.shared), 0) if there else 0
        self.caches = [*steps, *mounted()]

    def shares(self) -> list[Share]:
        """Return what images, containers, volumes and the caches of builds take."""
        digests = {cost.digest for cost in self.images}
        unused = sum({cost.digest: cost.unique for cost in self.images if cost.digest not in self.standing}.values())
        own = [one for one in self.caches if not one.shared]
        return [
            Share("Images", len(digests), len(digests & set(self.standing)), self.layers, unused),
            Share("Containers", len(self.containers), sum(box.running for box, _ in self.containers),
                  sum(size for _, size in self.containers), sum(size for box, size in self.containers if not box.running)),
            Share("Local Volumes", len(self.volumes), sum(links > 0 for _, _, links in self.volumes),
                  sum(size for _, size, _ in self.volumes), sum(size for _, size, links in self.volumes if not links)),
            Share("Build Cache", len(self.caches), sum(one.busy for one in self.caches), sum(one.size for one in own),
                  sum(one.size for one in own if not one.busy)),
        ]  # fmt: skip


def mounted() -> list[Kept]:
    """Return the directories of RUN --mount=type=cache."""
    import fcntl

    from minirt.engine.volumes import bytes_below
    from minirt.image.usage import Kept

    top, found = os.path.join(cache_root(), "build"), []
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        path, kind = os.path.splitext(os.path.join(top, name))
        if kind != ".lock" or not os.path.isdir(path):
            continue
        with open(os.path.join(top, name), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                busy = False
            except BlockingIOError:
                busy = True
            made = os.fstat(lock.fileno()).st_mtime
        found.append(Kept(os.path.basename(path), bytes_below(path), mount=True, busy=busy, created=made, used=made))
    return found
