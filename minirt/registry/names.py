"""What may stand in a URL: a repository's name, a tag, a digest (distribution-spec spec.md#pulling-manifests).

All three become paths on disk, so nothing is used before it was found here to be one: no `..`, no empty component,
and nothing that begins with `_`, which is how the registry's own directories are called.
"""

from __future__ import annotations

import re

from minirt.image.digest import is_digest
from minirt.registry.errors import Refusal

__all__ = ["check_digest", "check_name", "is_tag"]

_WORD = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_WORD}(/{_WORD})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+([+._-][a-z0-9]+)*:[a-zA-Z0-9=_-]+")  # image-spec descriptor.md#digests
NAME_LIMIT = 255  # characters, with the host's that clients put before it


def check_name(text: str) -> str:
    """Return the repository's name. Raises Refusal (NAME_INVALID)."""
    if len(text) > NAME_LIMIT or not _NAME.fullmatch(text):
        raise Refusal("NAME_INVALID", f"{text[:300]!r} is not a repository's name: lower case letters and digits, "
                            "with single '.', '_', '__' or '-' between, '/' between components")  # fmt: skip
    return text


def is_tag(text: str) -> bool:
    """Return whether the text can be a tag."""
    return _TAG.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """Return the digest. Raises Refusal (DIGEST_INVALID) for what is none, or of an algorithm not known here."""
    if is_digest(text):
        return text
    if _DIGEST.fullmatch(text) and text.partition(":")[0] not in ("sha256", "sha512"):
        raise Refusal("DIGEST_INVALID", f"{text[:100]!r}: only sha256 and sha512 are known here")
    raise Refusal("DIGEST_INVALID", f"{text[:200]!r} is not a digest")
