"""A set of digests as a directory of small files: `sha256/0123…`, each with a descriptor in it, or empty.

A repository does not hold content; it says which content is its own. Content is in the store once, whoever links to it.
"""

from __future__ import annotations

import json
import os

from minirt.image.blobs import sync_directory
from minirt.image.digest import is_digest, path_of
from minirt.image.index import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.blobs import Descriptor

__all__ = ["Links"]


class Links:
    """The links in one directory, which need not exist yet."""

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, digest: str) -> str:
        """Return where a link is or would be."""
        return f"{self.root}/{path_of(digest)}"

    def __contains__(self, digest: str) -> bool:
        return is_digest(digest) and os.path.exists(self.path(digest))

    def __iter__(self) -> Iterator[str]:
        for algorithm in sorted(_names(self.root)):
            for encoded in sorted(_names(f"{self.root}/{algorithm}")):
                if is_digest(f"{algorithm}:{encoded}"):
                    yield f"{algorithm}:{encoded}"

    def touch(self, digest: str) -> None:
        """Make an empty link, or renew its time: whoever asks for a link is about to build on it."""
        path = self.path(digest)
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(path)

    def age(self, digest: str, now: float) -> float:
        """Return the seconds since a link was last touched; 0 where there is none."""
        try:
            return now - os.stat(self.path(digest)).st_mtime
        except FileNotFoundError:
            return 0

    def set(self, digest: str, descriptor: Descriptor) -> None:
        """Write a link with a descriptor in it, durably. Call it under the repository's lock."""
        path = self.path(digest)
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        replace_file(path, json.dumps(descriptor).encode())
        sync_directory(os.path.dirname(path))

    def get(self, digest: str) -> Descriptor | None:
        """Return the descriptor in a link, or None."""
        return read_descriptor(self.path(digest))

    def remove(self, digest: str) -> bool:
        """Remove a link. Returns whether it was there."""
        try:
            os.unlink(self.path(digest))
        except FileNotFoundError:
            return False
        return True

    def sync(self) -> None:
        """Make all links that were touched outlast a power cut."""
        for algorithm in _names(self.root):
            sync_directory(f"{self.root}/{algorithm}")


def read_descriptor(path: str) -> Descriptor | None:
    """Return the descriptor in a file, or None where there is no such file (a name too long for one is none)."""
    try:
        with open(path, "rb") as stream:
            found = json.loads(stream.read())
    except OSError:
        return None
    return found if isinstance(found, dict) else None


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
