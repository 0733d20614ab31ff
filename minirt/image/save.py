"""Images of the store as one archive: an OCI layout (image-spec image-layout.md), or what `docker save` writes.

docker's (moby image/spec/v1.2.md, "Combined Image JSON + Filesystem Changeset Format") has the layers without compression, as
their names are diff_ids. Entries are in order and without times: the same images give the same bytes.
"""

from __future__ import annotations

import json
import os

from minirt.image.compression import FdReader, compression_of, decompressed
from minirt.image.header import Entry
from minirt.image.index import MEDIA_INDEX, REF_NAME
from minirt.image.pack import END, header
from minirt.image.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.image.store import Image, Store

__all__ = ["CONTAINERD_NAME", "save_docker", "save_oci"]

CONTAINERD_NAME = "io.containerd.image.name"  # the full name, where REF_NAME may be a tag alone
PIECE = 256 << 10


def save_oci(store: Store, images: list[tuple[str, Image]]) -> Iterator[bytes]:
    """Yield the archive. Args: images, each with the name that it is to have. Raises Damaged, OSError."""
    yield _small("oci-layout", {"imageLayoutVersion": "1.0.0"})
    manifests = []
    blobs: dict[str, Descriptor] = {}
    for name, image in images:
        names = {REF_NAME: name, CONTAINERD_NAME: str(Reference.parse(name))} if name else {}
        notes = image.descriptor.get("annotations") or {}
        manifests.append({**image.descriptor, "annotations": {**notes, **names}})
        for blob in (image.descriptor, image.manifest["config"], *image.manifest["layers"]):
            blobs[str(blob["digest"])] = blob
    yield _small("index.json", {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": manifests})
    for folder in ("blobs", *sorted({f"blobs/{digest.partition(':')[0]}" for digest in blobs})):
        yield _directory(folder)
    for digest in sorted(blobs):
        with open(store.blobs.open(blobs[digest]), "rb", buffering=0) as stream:
            yield from _file("blobs/" + digest.replace(":", "/"), stream.fileno(), int(blobs[digest]["size"]))
    yield END


def save_docker(store: Store, images: list[tuple[str, Image]]) -> Iterator[bytes]:
    """Yield the archive. Args: images, each with the name that it is to have. Raises Damaged, BadArchive, StoreError, OSError."""
    entries: dict[str, dict[str, Any]] = {}
    done: set[str] = set()
    for name, image in images:
        config = f"{_hex(image.id)}.json"
        layers = [f"{_hex(diff_id)}.tar" for diff_id in image.diff_ids]
        entry = entries.setdefault(config, {"Config": config, "RepoTags": [], "Layers": layers})
        entry["RepoTags"] += [name] if name and "@" not in name else []
        if config not in done:
            yield from _bytes(config, store.blobs.read(image.manifest["config"]))
        for path, layer in zip(layers, image.manifest["layers"], strict=True):
            if path not in done:
                yield from _layer(store, path, layer)
        done.update((config, *layers))
    yield _small("manifest.json", list(entries.values()))
    yield END


def _hex(digest: str) -> str:
    return digest.partition(":")[2]


def _layer(store: Store, path: str, layer: Descriptor) -> Iterator[bytes]:
    """Yield a layer's tar; its length has to be known before, so it is laid by first."""
    compression = compression_of(str(layer.get("mediaType")))
    with open(store.blobs.open(layer), "rb", buffering=0) as blob:
        if not compression:
            yield from _file(path, blob.fileno(), int(layer["size"]))
            return
        source = decompressed(compression, FdReader(blob.fileno()))
        with open(store.nameless(), "r+b") as aside:
            while piece := source.read(PIECE):
                aside.write(piece)
            size = aside.tell()
            aside.seek(0)
            yield from _file(path, aside.fileno(), size)


def _entry(name: str, kind: str, size: int, mode: int) -> Entry:
    entry = Entry(name.encode(), kind)
    entry.size = entry.stored = size
    entry.mode = mode
    return entry


def _directory(name: str) -> bytes:
    return header(_entry(name, "directory", 0, 0o755))


def _small(name: str, document: object) -> bytes:
    return b"".join(_bytes(name, json.dumps(document).encode()))


def _bytes(name: str, data: bytes) -> Iterator[bytes]:
    yield header(_entry(name, "file", len(data), 0o644))
    yield data + bytes(-len(data) % 512)


def _file(name: str, fd: int, size: int) -> Iterator[bytes]:
    yield header(_entry(name, "file", size, 0o644))
    left = size
    while left and (piece := os.read(fd, min(PIECE, left))):
        left -= len(piece)
        yield piece
    yield bytes(-size % 512)
