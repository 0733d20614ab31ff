"""Signatures beside their image, in the store: the attachment REPOSITORY:sha256-HEX.sig.

sigstore/cosign, specs/SIGNATURE_SPEC.md, "Storage".
"""

from __future__ import annotations

import base64
import binascii

from minirt.image.errors import Damaged, ImageError, UnknownImage
from minirt.image.reference import Reference
from minirt.image.signing import keys
from minirt.image.signing.errors import SigningError
from minirt.image.signing.payload import Payload, make_payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

    from minirt.image.blobs import Descriptor
    from minirt.image.store import Image, Store

__all__ = ["attach", "attachment", "fetch", "good_payloads", "is_attachment"]

MEDIA_PAYLOAD = "application/vnd.dev.cosign.simplesigning.v1+json"
MEDIA_SIGNATURE = "application/vnd.dev.cosign.artifact.sig.v1+json"  # what a referrer calls itself
NOTE = "dev.cosignproject.cosign/signature"
SIGNATURES_LIMIT = 100  # of one image


def attachment(reference: Reference, digest: str) -> Reference:
    """Return the name that the signatures of a manifest have."""
    return Reference(reference.registry, reference.repository, digest.replace(":", "-") + ".sig", None)


def is_attachment(name: str) -> bool:
    """Return whether a name is that of an image's signatures."""
    tag = name.rpartition(":")[2]
    return tag.startswith(("sha256-", "sha512-")) and tag.endswith(".sig")


def attach(store: Store, image: Image, reference: Reference, key: EllipticCurvePrivateKey) -> Reference:
    """Sign an image, and keep the signature beside those that it has.

    Args: reference, the name that it is vouched for. Returns the name of the signatures. Raises StoreError.
    """
    payload = make_payload(image.digest, reference)
    signature = base64.b64encode(keys.sign(key, payload)).decode()
    where = attachment(reference, image.digest)
    with store.adding():
        layer = {**store.blobs.add(payload, MEDIA_PAYLOAD), "annotations": {NOTE: signature}}
        layers = [*_layers(store, where), layer]
        config = {"architecture": "", "os": "", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": [one["digest"] for one in layers]}}  # fmt: skip
        subject = {name: image.descriptor[name] for name in ("mediaType", "digest", "size")}
        descriptor = store.add_image(config, layers, more={"artifactType": MEDIA_SIGNATURE, "subject": subject})
        del descriptor["platform"]
        store.set_name(where.familiar, descriptor, keep=False)
    store.collect(wait=False)
    return where


def _layers(store: Store, where: Reference) -> list[Descriptor]:
    """Return the descriptors of the signatures that are there."""
    try:
        return list(store.resolve(where.familiar).manifest["layers"])
    except UnknownImage:
        return []


def good_payloads(store: Store, reference: Reference, digest: str, key: EllipticCurvePublicKey) -> Iterator[Payload]:
    """Yield what a key vouches for of a manifest; signatures of others are passed over.

    Args: reference, of the repository in which to look. Raises SigningError where what is there cannot be read.
    """
    try:
        layers: list[dict[str, Any]] = _layers(store, attachment(reference, digest))[:SIGNATURES_LIMIT]
        for layer in layers:
            data = store.blobs.read(layer) if layer.get("mediaType") == MEDIA_PAYLOAD else b""
            payload = Payload.parse(data) if keys.verify(key, _signature(layer), data) else None
            if payload is not None and payload.digest == digest:
                yield payload
    except (Damaged, KeyError, TypeError) as error:
        raise SigningError(f"the signatures of {digest} cannot be read: {error}") from None


def _signature(layer: dict[str, Any]) -> bytes:
    try:
        return base64.b64decode(str((layer.get("annotations") or {}).get(NOTE, "")), validate=True)
    except (binascii.Error, AttributeError):
        return b""


def fetch(store: Store, reference: Reference, digest: str, *, verify: bool = True) -> bool:
    """Fetch the signatures of a manifest from its registry into the store. Returns whether there are any.

    Args: verify, as in remote.http.Http. Raises RegistryError and those below it.
    """
    from minirt.image.remote.errors import NotThere
    from minirt.image.remote.pull import pull

    try:
        pull(store, str(attachment(reference, digest)), verify=verify, unpacked=False)
    except NotThere:
        return False
    except ImageError as error:
        raise SigningError(f"the signatures of {reference} cannot be fetched: {error}") from error
    return True
