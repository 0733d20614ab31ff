"""Holds: a container needs its image even when the image's name is gone, and a build the images that it stands on.

One file an owner: the manifest's descriptor. An owner is a container's ID, or BUILD and more for one image of a build.
"""

from __future__ import annotations

import os

from minirt.image.errors import UnknownImage
from minirt.image.index import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Descriptor

__all__ = ["BUILD", "Holds"]

BUILD = "build-"  # how the owner's name begins; while there is one, a build has `Steps.using`


class Holds:
    """The holds of one store. Args: root, path of their directory."""

    def __init__(self, root: str) -> None:
        self._root = root

    def write(self, owner: str, descriptor: Descriptor) -> None:
        """Begin a hold. Call it inside `Store.adding`."""
        import json

        replace_file(self._path(owner), json.dumps(descriptor).encode(), sync=False)

    def read(self, owner: str) -> Descriptor:
        """Return what an owner holds. Raises UnknownImage."""
        import json

        try:
            with open(self._path(owner), "rb") as stream:
                found: Descriptor = json.loads(stream.read())
            return found
        except (FileNotFoundError, ValueError):
            raise UnknownImage(f"no image is held for {owner}") from None

    def release(self, owner: str) -> None:
        """End a hold. None is no error."""
        try:
            os.unlink(self._path(owner))
        except FileNotFoundError:
            pass

    def owners(self) -> list[str]:
        """Return all owners."""
        try:
            return sorted(name for name in os.listdir(self._root) if not name.endswith(".new"))
        except FileNotFoundError:
            return []

    def all(self) -> list[Descriptor]:
        """Return what is held."""
        found = []
        for owner in self.owners():
            try:
                found.append(self.read(owner))
            except UnknownImage:  # it was released meanwhile
                continue
        return found

    def sweep(self) -> None:
        """Remove what was being written as its writer was killed; nobody writes while `Store.collect` has the lock alone."""
        for name in os.listdir(self._root):
            if name.endswith(".new"):
                os.unlink(f"{self._root}/{name}")

    def _path(self, owner: str) -> str:
        if not owner or "/" in owner or owner.startswith("."):
            raise ValueError(f"{owner!r} cannot own a hold")
        return f"{self._root}/{owner}"
