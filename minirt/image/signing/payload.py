"""What is signed: which manifest, under which name.

containers/image, docs/containers-signature.5.md; sigstore/cosign, specs/SIGNATURE_SPEC.md, "Payloads".
"""

from __future__ import annotations

import json

from minirt.image.reference import Reference

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["TYPE", "Payload", "make_payload"]

TYPE = "cosign container image signature"


class Payload:
    """What a payload says. Nothing of it counts before its signature was right."""

    __slots__ = ("digest", "identity")

    def __init__(self, digest: str, identity: str) -> None:
        self.digest = digest  # of the manifest
        self.identity = identity  # the image's name, full: with its tag, or without one as cosign writes it

    @classmethod
    def parse(cls, data: bytes) -> Payload | None:
        """Parse a payload; None for what is none."""
        try:
            critical: dict[str, Any] = json.loads(data)["critical"]
            if critical["type"] != TYPE:
                return None
            digest, identity = critical["image"]["docker-manifest-digest"], critical["identity"]["docker-reference"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return None
        return cls(digest, identity) if isinstance(digest, str) and isinstance(identity, str) else None


def make_payload(digest: str, reference: Reference) -> bytes:
    """Return the payload for a manifest with this digest, that is called so."""
    import time

    from minirt import __version__

    document = {
        "critical": {
            "identity": {"docker-reference": str(reference)},
            "image": {"docker-manifest-digest": digest},
            "type": TYPE,
        },
        "optional": {"creator": f"minirt {__version__}", "timestamp": int(time.time())},
    }
    return json.dumps(document, separators=(",", ":")).encode()
