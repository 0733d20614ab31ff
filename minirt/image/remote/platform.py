"""Which of an index's manifests is for which machine (image-spec image-index.md; containerd's platform names)."""

from __future__ import annotations

from minirt.image.errors import ImageError, printable
from minirt.image.index import INDEXES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.image.blobs import Descriptor

    Index = dict[str, Any]

__all__ = ["Platform", "choose"]

DEPTH = 5  # indexes in each other: digests allow no circle, but as long a chain as somebody likes to write
INDEXES_LIMIT = 16  # in one: each may be a request
_OTHER_NAMES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "armel": "arm", "i386": "386"}


class Platform:
    """An operating system, an architecture, a variant: `linux/arm/v7`."""

    __slots__ = ("architecture", "os", "variant")

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self.os = os
        self.architecture = architecture
        self.variant = variant

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse OS[/ARCHITECTURE[/VARIANT]], or an architecture alone; "" is this machine. Raises ImageError."""
        from minirt.image.importer import machine

        parts = text.lower().split("/") if text else ["linux", machine()]
        if len(parts) == 1:
            parts = [parts[0], machine()] if parts[0] in ("linux", "windows", "freebsd", "darwin") else ["linux", parts[0]]
        if len(parts) > 3 or not all(part.replace("_", "").replace("-", "").isalnum() for part in parts):
            raise ImageError(f"{text!r} is no platform: OS/ARCHITECTURE[/VARIANT], such as linux/arm64")
        variant = parts[2] if len(parts) == 3 else "v6" if parts[1] == "armel" else ""
        architecture = _OTHER_NAMES.get(parts[1], parts[1])
        return cls(parts[0], architecture, "" if (architecture, variant) == ("arm64", "v8") else variant)

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))

    def rank(self, offered: dict[str, Any]) -> int:
        """Return how well what an index offers fits: 0 for not at all, more is better."""
        if offered.get("os", "linux") != self.os or offered.get("architecture") != self.architecture:
            return 0
        variant = str(offered.get("variant") or "")
        if self.architecture == "arm64" and variant == "v8":
            variant = ""
        if variant == self.variant:
            return 100
        if not variant:
            return 50
        if self.architecture == "arm":  # an older core's programs run on a newer one
            theirs = _number(variant)
            return 10 + theirs if 0 <= theirs <= _number(self.variant or "v7") else 0
        return 0


def _number(variant: str) -> int:
    """Return the number in `v7`, or -1."""
    digits = variant.removeprefix("v")
    return int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 3 else -1


def choose(index: Index, wanted: Platform, name: str, inner: Callable[[Descriptor], Index]) -> Descriptor:
    """Return the descriptor of the image for a platform, which may stand in an index of the index.

    Where several fit, the best of the outermost index that has one counts, and of those alike the first. An index that does not say
    what it is for is looked into after those that do.

    Args: index, as JSON; name, for errors; inner, returns the index that a descriptor leads to.
    Raises ImageError, which lists what there is; what `inner` raises. Source: image-spec image-index.md, "nested index".
    """
    there = _platforms(index)
    left = [(entry, 1) for entry in _likely(index, wanted)]
    seen: set[str] = set()
    while left:
        entry, depth = left.pop(0)
        if entry.get("mediaType") not in INDEXES:
            return entry
        digest = str(entry.get("digest"))
        if digest in seen:
            continue
        seen.add(digest)
        if depth == DEPTH or len(seen) > INDEXES_LIMIT:
            raise ImageError(f"{name} leads to too many indexes: {DEPTH} in each other and {INDEXES_LIMIT} in all are looked into")
        deeper = inner(entry)
        there |= _platforms(deeper)
        left[:0] = [(one, depth + 1) for one in _likely(deeper, wanted)]
    text = ", ".join(sorted(there))[:300]
    raise ImageError(f"{name} is not there for {wanted}: {text or 'it has no images'} (--platform chooses)")


def _likely(index: Index, wanted: Platform) -> list[Descriptor]:
    """Return what an index has for a platform, the best first; then indexes for who knows what, and a lone image."""
    entries = _entries(index)
    fitting = [(rank, entry) for entry in entries if (rank := wanted.rank(_platform(entry)))]
    fitting.sort(key=lambda pair: -pair[0])
    plain = [entry for entry in entries if not _platform(entry) and (len(entries) == 1 or entry.get("mediaType") in INDEXES)]
    return [entry for _, entry in fitting] + plain


def _entries(index: Index) -> list[Descriptor]:
    entries = index.get("manifests")
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def _platform(entry: Descriptor) -> dict[str, Any]:
    found = entry.get("platform")
    return found if isinstance(found, dict) else {}


def _platforms(index: Index) -> set[str]:
    """Return the platforms that an index names, but for the unknown/unknown of attestations."""
    return {_text(_platform(entry)) for entry in _entries(index)} - {"unknown/unknown", ""}


def _text(platform: dict[str, Any]) -> str:
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return printable("/".join(str(part) for part in parts if part))
