"""What images cost on this disk, and what they share: blobs and unpacked layers, each counted once."""

from __future__ import annotations

import os

from minirt.image.layers import chain_ids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.store import Store

NONE = "<none>"  # docker's word for an image whose name went to another

__all__ = ["Cost", "Kept", "Stacked", "kept", "stacks", "usage"]


class Cost:
    """What one image takes, in bytes."""

    __slots__ = ("digest", "name", "shared", "stored", "unique", "unpacked")

    def __init__(self, name: str, digest: str, stored: int, unpacked: int, shared: int) -> None:
        self.name = name  # or <none>
        self.digest = digest  # of its manifest
        self.stored = stored  # its blobs
        self.unpacked = unpacked  # its layers' directories, as the file system counts blocks
        self.shared = shared  # of both, what another image has too
        self.unique = stored + unpacked - shared  # what is free again when it is removed


def usage(store: Store) -> list[Cost]:
    """Return what each image costs, once for each of its names, in order of these. Raises Damaged, StoreError."""
    parts: dict[str, dict[str, int]] = {}  # image -> blob or chain -> bytes
    owners: dict[str, int] = {}  # blob or chain -> how many different images
    images = store.readable()
    for image in {image.digest: image for image in images}.values():
        blobs = [image.descriptor, image.manifest["config"], *image.manifest["layers"]]
        parts[image.digest] = {"blob " + str(blob["digest"]): int(blob["size"]) for blob in blobs}
        for chain in chain_ids(image.diff_ids):
            parts[image.digest]["layer " + chain] = _size_of(store.layers.path(chain))
        for part in parts[image.digest]:
            owners[part] = owners.get(part, 0) + 1
    costs = []
    for image in images:
        mine = parts[image.digest]
        stored = sum(size for part, size in mine.items() if part.startswith("blob "))
        shared = sum(size for part, size in mine.items() if owners[part] > 1)
        costs.append(Cost(image.name or NONE, image.digest, stored, sum(mine.values()) - stored, shared))
    return costs


class Kept:
    """What builds keep: the layer of steps, or the directory of a mount."""

    __slots__ = ("busy", "count", "created", "id", "mount", "shared", "size", "used")

    def __init__(self, id: str, size: int, *, mount: bool = False, shared: bool = False, busy: bool = False, created: float = 0.0,
                 used: float = 0.0, count: int = 1) -> None:  # fmt: skip
        self.id = id
        self.size = size  # bytes: of a layer its blob and its directory
        self.mount = mount
        self.shared = shared  # an image has it too
        self.busy = busy  # a build uses it now
        self.created = created  # s since 1970
        self.used = used  # last
        self.count = count  # steps that gave it


def kept(store: Store) -> list[Kept]:
    """Return the layers that steps of builds keep, each once, the oldest first. Raises StoreError."""
    from datetime import datetime

    images = {chain for image in store.readable() for chain in chain_ids(image.diff_ids)}
    found: dict[str, Kept] = {}
    for step in store.steps.all():
        below = ""
        for chain, layer in zip(chain_ids(step.diff_ids), step.layers, strict=True):
            one = found.get(chain)
            if one is None:
                try:
                    made = datetime.fromisoformat(f"{step.created[:19]}+00:00").timestamp()
                except ValueError:
                    made = 0.0
                size = int(layer["size"]) + _size_of(store.layers.path(chain))
                one = found[chain] = Kept(chain, size, shared=chain in images, created=made, count=0)
            one.used = max(one.used, step.used)
            below = chain
        if below:
            found[below].count += 1
    return sorted(found.values(), key=lambda one: one.created)


def _size_of(path: str) -> int:
    """Return the bytes that a directory takes: a file with several names counts once; 0 where there is none."""
    total, seen = 0, set()
    for above, folders, files in os.walk(path):
        for name in [".", *files] + [one for one in folders if os.path.islink(os.path.join(above, one))]:
            try:
                status = os.lstat(os.path.join(above, name))
            except OSError:
                continue  # nothing needs it any more, and somebody has removed it meanwhile
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


class Stacked:
    """One layer in its place: on all that lie below it."""

    __slots__ = ("branch", "chain", "depth", "names", "size")

    def __init__(self, chain: str, size: int) -> None:
        self.chain = chain
        self.size = size  # bytes as stored
        self.names: list[str] = []  # of images whose topmost layer it is
        self.depth = 0  # layers below it
        self.branch = ""  # how the tree's lines reach it


def stacks(store: Store) -> Iterator[Stacked]:
    """Yield all layers as a tree, each before those that lie on it. Raises Damaged, StoreError."""
    layers: dict[str, Stacked] = {}
    above: dict[str, list[str]] = {"": []}
    for image in store.images():
        below = ""
        for chain, layer in zip(chain_ids(image.diff_ids), image.manifest["layers"], strict=True):
            if chain not in layers:
                layers[chain] = Stacked(chain, int(layer["size"]))
                above[below].append(chain)
                above[chain] = []
            below = chain
        if below:
            layers[below].names.append(image.name or NONE)
    todo = [(chain, 0, "", last) for chain, last in _siblings(above[""])]
    while todo:
        chain, depth, lines, last = todo.pop()
        layer = layers[chain]
        layer.depth, layer.branch = depth, lines + ("└─ " if last else "├─ ") if depth else ""
        yield layer
        inner = lines + ("   " if last else "│  ") if depth else ""
        todo += [(child, depth + 1, inner, end) for child, end in _siblings(above[chain])]


def _siblings(chains: list[str]) -> list[tuple[str, bool]]:
    """Return layers that lie on the same one, the first at the end, each with whether it is drawn last."""
    return [(chain, chain is chains[-1]) for chain in reversed(chains)]
