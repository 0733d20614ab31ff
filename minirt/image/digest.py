"""A digest names content by its hash: `sha256:` and 64 hexadecimal digits (image-spec descriptor.md#digests)."""

from __future__ import annotations

from minirt.image.errors import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hash(Protocol):
        def update(self, data: bytes | memoryview, /) -> None: ...
        def hexdigest(self) -> str: ...


__all__ = ["hasher", "is_digest", "of", "path_of"]

_LENGTH = {"sha256": 64, "sha512": 128}


def is_digest(text: str) -> bool:
    """Return whether the text is a digest that we can compute."""
    algorithm, colon, encoded = text.partition(":")
    return bool(colon) and len(encoded) == _LENGTH.get(algorithm) and not encoded.strip("0123456789abcdef")


def path_of(digest: str) -> str:
    """Return where a blob lies below `blobs/`: sha256/0123…

    Raises Damaged where the text is no digest: a manifest is foreign text, and `sha256:../..` is a path.
    """
    if not is_digest(digest):
        raise Damaged(f"{digest[:80]!r} is not a sha256 or sha512 digest")
    return digest.replace(":", "/")


def hasher(algorithm: str = "sha256") -> Hash:
    """Return a new hash for much data: OpenSSL's, which uses the processor's own instructions."""
    import hashlib

    return hashlib.new(algorithm)


def of(data: bytes, algorithm: str = "sha256") -> str:
    """Return the digest of a small document."""
    if algorithm == "sha256":
        try:  # hashlib costs 3 ms of `minirt run`, the bare module 0.2; CPython keeps it private
            from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            from hashlib import sha256
        return "sha256:" + str(sha256(data).hexdigest())
    import hashlib

    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
