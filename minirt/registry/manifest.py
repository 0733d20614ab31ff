"""A manifest that was pushed: what it is, and what must be here before it (image-spec manifest.md, image-index.md).

The bytes are kept as they came: the digest is theirs. Only what the registry acts on is read.
"""

from __future__ import annotations

import json

from minirt.image.digest import is_digest
from minirt.image.index import IMAGES, INDEXES
from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.blobs import Descriptor

__all__ = ["Manifest"]

# Layers that a registry need not have (image-spec layer.md#non-distributable-layers, and docker's older word for them)
_ELSEWHERE = ("application/vnd.oci.image.layer.nondistributable.", "application/vnd.docker.image.rootfs.foreign.")


class Manifest:
    """A manifest, checked.

    Args: data, its bytes; content_type, of the request, or "" where it had none.
    Raises Refusal (MANIFEST_INVALID).
    """

    def __init__(self, data: bytes, content_type: str) -> None:
        self.data = data
        self.document = _parse(data)
        self.media_type = self._media_type(content_type.partition(";")[0].strip())
        self.is_index = self.media_type in INDEXES
        # A document that can be read both ways would be one thing to us and another to a client (CVE-2021-41190).
        if ("manifests" in self.document) != self.is_index or self.is_index == ("layers" in self.document):
            raise _invalid(f"{self.media_type} has {'manifests' if self.is_index else 'layers'} and not the other")
        self.config = {} if self.is_index else _descriptor(self.document.get("config"), "config")
        self.layers = [] if self.is_index else _descriptors(self.document, "layers")
        self.manifests = _descriptors(self.document, "manifests") if self.is_index else []
        subject = self.document.get("subject")
        self.subject = _descriptor(subject, "subject") if subject is not None else None
        self._check_words()

    def _media_type(self, announced: str) -> str:
        own = self.document.get("mediaType", announced)
        if announced and own != announced:
            raise _invalid(f"mediaType is {str(own)[:100]!r}, Content-Type {announced[:100]!r}")
        if own not in IMAGES + INDEXES:
            raise _invalid(f"{str(own)[:100]!r} is no type of manifest that is known here: {', '.join(IMAGES + INDEXES)}")
        return str(own)

    def _check_words(self) -> None:
        annotations = self.document.get("annotations")
        if annotations is not None and not (
            isinstance(annotations, dict) and all(isinstance(value, str) for value in annotations.values())
        ):
            raise _invalid("annotations are texts by name")
        if not isinstance(self.document.get("artifactType", ""), str):
            raise _invalid("artifactType is a text")

    @property
    def blobs(self) -> list[Descriptor]:
        """The blobs that must be in the repository."""
        if self.is_index:
            return []
        here = [layer for layer in self.layers if not (layer.get("urls") or layer["mediaType"].startswith(_ELSEWHERE))]
        return [self.config, *here]

    @property
    def artifact_type(self) -> str:
        """What kind of thing it is, or "" (distribution-spec spec.md#listing-referrers)."""
        return str(self.document.get("artifactType") or self.config.get("mediaType", ""))

    def descriptor(self, digest: str) -> Descriptor:
        """Return what leads to it."""
        return {"mediaType": self.media_type, "digest": digest, "size": len(self.data)}

    def as_referrer(self, digest: str) -> Descriptor:
        """Return the descriptor that stands in the list of its subject's referrers."""
        found = self.descriptor(digest)
        if self.artifact_type:
            found["artifactType"] = self.artifact_type
        if self.document.get("annotations"):
            found["annotations"] = self.document["annotations"]
        return found


def _parse(data: bytes) -> dict[str, Any]:
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _invalid("not JSON") from None
    if not isinstance(document, dict):
        raise _invalid("not a JSON object")
    if document.get("schemaVersion") != 2:
        raise _invalid("schemaVersion is not 2 (docker's schema 1 is from before 2016, and not taken)")
    return document


def _descriptors(document: dict[str, Any], name: str) -> list[Descriptor]:
    items = document[name]
    if not isinstance(items, list):
        raise _invalid(f"{name} is not a list")
    return [_descriptor(item, f"{name}[{i}]") for i, item in enumerate(items)]


def _descriptor(item: object, where: str) -> Descriptor:
    """Return a descriptor. Raises Refusal where it has not what image-spec descriptor.md requires."""
    if not isinstance(item, dict):
        raise _invalid(f"{where} is not a descriptor")
    if not isinstance(item.get("mediaType"), str) or not is_digest(str(item.get("digest"))):
        raise _invalid(f"{where} has no mediaType, or no sha256 or sha512 digest")
    if type(item.get("size")) is not int or not 0 <= item["size"] < 1 << 63:  # image-spec descriptor.md: int64
        raise _invalid(f"{where} has no size")
    if not isinstance(item.get("platform") or {}, dict):
        raise _invalid(f"{where} has a platform that is no object")
    return item


def _invalid(reason: str) -> Refusal:
    return Refusal("MANIFEST_INVALID", reason)
