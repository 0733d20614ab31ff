"""Names: `index.json`, which says which manifest each name means (image-spec image-layout.md#indexjson-file).

An image that no name means any more, as its last one went to another image, stays as an entry without a name.

It is read without a lock, as it is only ever replaced whole by rename, and changed under one.
"""

from __future__ import annotations

import os

from minirt.image.errors import Damaged
from minirt.image.scratch import Lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.image.blobs import Descriptor

__all__ = ["IMAGES", "INDEXES", "MEDIA_INDEX", "MEDIA_MANIFEST", "REF_NAME", "Index", "name_of", "replace_file"]

REF_NAME = "org.opencontainers.image.ref.name"  # image-spec annotations.md
# What a name may mean: one image, or several of which a machine takes its own; each in OCI's form and in docker's.
MEDIA_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"
IMAGES = (MEDIA_MANIFEST, "application/vnd.docker.distribution.manifest.v2+json")
INDEXES = (MEDIA_INDEX, "application/vnd.docker.distribution.manifest.list.v2+json")


def name_of(descriptor: Descriptor) -> str:
    """Return the name that an entry of index.json carries, or ""."""
    annotations = descriptor.get("annotations")
    return str(annotations.get(REF_NAME, "")) if isinstance(annotations, dict) else ""


def _named(descriptor: Descriptor, name: str) -> Descriptor:
    """Return a descriptor as the entry of a name, or of none."""
    notes = {key: value for key, value in (descriptor.get("annotations") or {}).items() if key != REF_NAME}
    notes |= {REF_NAME: name} if name else {}
    rest = {key: value for key, value in descriptor.items() if key != "annotations"}
    return {**rest, "annotations": notes} if notes else rest


def _digest(descriptor: Descriptor) -> str:
    return str(descriptor.get("digest"))


class Index:
    """The names of one store."""

    def __init__(self, root: str) -> None:
        self._path = root + "/index.json"

    def entries(self) -> list[Descriptor]:
        """Return the descriptors in order of their names, those without one first; none where there is no store yet."""
        try:
            with open(self._path, "rb") as stream:
                return self._parse(stream.read())
        except FileNotFoundError:
            return []

    def _parse(self, text: bytes) -> list[Descriptor]:
        import json

        try:
            manifests = json.loads(text)["manifests"]
            if all(isinstance(entry, dict) for entry in manifests):
                return list(manifests)
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise Damaged(f"{self._path} is not an image index")

    def find(self, name: str) -> Descriptor | None:
        """Return the descriptor that a name (in its familiar form) means."""
        for entry in self.entries():
            if name_of(entry) == name:
                return entry
        return None

    def set(self, name: str, descriptor: Descriptor, *, keep: bool = True) -> str:
        """Let a name mean a manifest.

        Args: keep, whether what it meant before stays without a name, if it has no other.
        Returns the digest of what it meant before, or "".
        """
        entry = _named(descriptor, name)
        before = ""

        def change(entries: list[Descriptor]) -> list[Descriptor]:
            nonlocal before
            others = [other for other in entries if name_of(other) != name]
            old = next((other for other in entries if name_of(other) == name), None)
            before = str(old["digest"]) if old is not None else ""
            if old is not None and keep and before not in map(_digest, others):
                others.append(_named(old, ""))
            return [*(other for other in others if name_of(other) or _digest(other) != _digest(entry)), entry]

        self._update(change)
        return before

    def add(self, descriptor: Descriptor) -> None:
        """Keep a manifest without a name, if it has none."""

        def change(entries: list[Descriptor]) -> list[Descriptor]:
            return entries if _digest(descriptor) in map(_digest, entries) else [*entries, _named(descriptor, "")]

        self._update(change)

    def remove(self, name: str, digest: str = "") -> None:
        """Forget a name, or with "" the manifest of a digest that has none."""
        self._update(lambda entries: [one for one in entries if name_of(one) != name or not (name or _digest(one) == digest)])

    def _update(self, change: Callable[[list[Descriptor]], list[Descriptor]]) -> None:
        import json

        with Lock(self._path + ".lock"):
            entries = sorted(change(self.entries()), key=name_of)
            document: dict[str, Any] = {"schemaVersion": 2, "mediaType": MEDIA_INDEX, "manifests": entries}
            replace_file(self._path, json.dumps(document, indent=1).encode() + b"\n")


def replace_file(path: str, data: bytes, *, sync: bool = True) -> None:
    """Replace a file so that a reader, or a crash, sees the old or the new one whole. Call it under a lock.

    Args: sync, whether the new one has to outlast a power cut.
    """
    temporary = path + ".new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
            stream.flush()
            if sync:
                os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
