"""An image of a store: its manifest and its configuration, read and checked, and its layers as directories."""

from __future__ import annotations

from minirt.image.digest import path_of
from minirt.image.errors import Attempt, Damaged, ImageError
from minirt.image.index import IMAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.image.store import Store

__all__ = ["MEDIA_CONFIG", "Image"]

MEDIA_CONFIG = "application/vnd.oci.image.config.v1+json"


class Image:
    """An image of a store: its manifest and configuration, read and checked."""

    def __init__(self, store: Store, name: str, descriptor: Descriptor) -> None:
        self._store = store
        self.name = name  # familiar form, with its tag; "" where it has none
        self.descriptor = descriptor  # of the manifest, as index.json has it
        self.digest = str(descriptor.get("digest"))  # of the manifest
        name = name or self.digest
        media = descriptor.get("mediaType")
        if media not in IMAGES:
            raise ImageError(f"image {name!r} is a {str(media)[:100]!r}; only single image manifests are implemented")
        self.manifest = store.blobs.read_json(descriptor)  # image-spec manifest.md
        try:
            layers: list[Descriptor] = self.manifest["layers"]
            self.id = str(self.manifest["config"]["digest"])  # docker's image ID: the configuration's digest
            self.size = sum(layer["size"] for layer in layers)  # bytes of layers, as stored
            self.config: dict[str, Any] = store.blobs.read_json(self.manifest["config"])  # image-spec config.md
            self.diff_ids = list(self.config["rootfs"]["diff_ids"])  # lowest first
            paths = [path_of(text) for text in [*self.diff_ids, *(layer["digest"] for layer in layers)]]
        except (KeyError, TypeError, AttributeError):
            paths = []
        if not paths or not isinstance(self.config.get("config") or {}, dict):
            raise Damaged(f"image {name!r} has a manifest or configuration that lacks what it must have")
        if len(self.diff_ids) != len(self.manifest["layers"]):
            raise Damaged(f"image {name!r} has {len(self.manifest['layers'])} layers, {len(self.diff_ids)} diff_ids")

    @property
    def label(self) -> str:
        """Its name; where it has none, the digits of its ID that people type."""
        return self.name or self.id.partition(":")[2][:12]

    def layers(self) -> list[str]:
        """Return the directories for overlayfs's `lowerdir=`, topmost first; unpacked now if they were not.

        Raises Damaged where a blob is truncated or altered, StoreError.
        """
        store = self._store
        with Attempt(f"unpack image {self.label!r}"):
            found = store.layers.find(self.diff_ids)
            if found is None:
                with store.adding():
                    found = store.layers.unpack(store.blobs, self.manifest["layers"], self.diff_ids)
        return found
