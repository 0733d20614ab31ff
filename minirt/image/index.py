"""Names: `index.json`, which says which manifest each name means (image-spec image-layout.md#indexjson-file).

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

__all__ = ["Index", "name_of"]

REF_NAME = "org.opencontainers.image.ref.name"  # image-spec annotations.md
MEDIA_INDEX = "application/vnd.oci.image.index.v1+json"


def name_of(descriptor: Descriptor) -> str:
    """Return the name that an entry of index.json carries, or ""."""
    annotations = descriptor.get("annotations")
    return str(annotations.get(REF_NAME, "")) if isinstance(annotations, dict) else ""


class Index:
    """The names of one store."""

    def __init__(self, root: str) -> None:
        self._path = root + "/index.json"

    def entries(self) -> list[Descriptor]:
        """Return the descriptors in order of their names; none where there is no store yet."""
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

    def set(self, name: str, descriptor: Descriptor) -> str:
        """Let a name mean a manifest. Returns the digest of what it meant before, or ""."""
        entry = dict(descriptor)
        entry["annotations"] = {**(descriptor.get("annotations") or {}), REF_NAME: name}
        before = ""

        def change(entries: list[Descriptor]) -> list[Descriptor]:
            nonlocal before
            before = next((str(old["digest"]) for old in entries if name_of(old) == name), "")
            return [*(old for old in entries if name_of(old) != name), entry]

        self._update(change)
        return before

    def remove(self, name: str) -> None:
        """Forget a name."""
        self._update(lambda entries: [entry for entry in entries if name_of(entry) != name])

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
