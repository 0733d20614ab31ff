"""The tags of one repository: a file each, `_tags/latest=`, with the descriptor of what the tag means.

The sign at the end is one that no tag has. Without it `latest.new`, which is a tag, would be the name under which
`latest` is written before it is renamed.
"""

from __future__ import annotations

import json
import os

from minirt.image.blobs import sync_directory
from minirt.image.index import replace_file
from minirt.registry.links import read_descriptor
from minirt.registry.names import is_tag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Descriptor

__all__ = ["Tags"]


class Tags:
    """The tags in one directory, which need not exist yet."""

    def __init__(self, root: str) -> None:
        self.root = root

    def _path(self, tag: str) -> str:
        """Return a tag's file. What is no tag, such as `../../other/_tags/latest`, gets a name that no file has."""
        return f"{self.root}/{tag if is_tag(tag) else ''}="

    def all(self) -> list[str]:
        """Return the tags in ASCII order, one of the two that the specification allows (spec.md#listing-tags)."""
        try:
            return sorted(name[:-1] for name in os.listdir(self.root) if name.endswith("="))
        except FileNotFoundError:
            return []

    def digest(self, tag: str) -> str:
        """Return the digest of the manifest that a tag means, or ""."""
        return str((read_descriptor(self._path(tag)) or {}).get("digest", ""))

    def set(self, tag: str, descriptor: Descriptor) -> None:
        """Let a tag (names.is_tag) mean a manifest, durably. Call it under the repository's lock."""
        os.makedirs(self.root, 0o700, exist_ok=True)
        replace_file(self._path(tag), json.dumps(descriptor).encode())
        sync_directory(self.root)

    def remove(self, tag: str) -> bool:
        """Remove a tag; what it meant stays. Returns whether it was there."""
        try:
            os.unlink(self._path(tag))
        except FileNotFoundError:
            return False
        return True
