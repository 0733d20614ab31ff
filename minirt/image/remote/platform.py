"""Which of an index's manifests is for which machine (image-spec image-index.md; containerd's platform names)."""

from __future__ import annotations

from minirt.image.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.blobs import Descriptor

__all__ = ["Platform", "choose"]

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
            mine, theirs = (self.variant or "v7").removeprefix("v"), variant.removeprefix("v")
            return 10 + int(theirs) if theirs.isdigit() and mine.isdigit() and int(theirs) <= int(mine) < 30 else 0
        return 0


def choose(index: dict[str, Any], wanted: Platform, name: str) -> Descriptor:
    """Return the descriptor of the manifest for a platform. Raises ImageError, which lists what there is."""
    offered = [entry for entry in index.get("manifests") or () if isinstance(entry, dict)]
    ranked = [(wanted.rank(entry.get("platform") or {}), entry) for entry in offered]
    best = max((rank for rank, _ in ranked), default=0)
    if best:
        return next(entry for rank, entry in ranked if rank == best)
    plain = [entry for entry in offered if not entry.get("platform")]
    if len(offered) == len(plain) == 1:
        return plain[0]
    there = sorted({_text(entry.get("platform") or {}) for entry in offered} - {"unknown/unknown", ""})
    raise ImageError(f"{name} is not there for {wanted}: {', '.join(there)[:300] or 'it has no images'} (--platform chooses)")


def _text(platform: dict[str, Any]) -> str:
    parts = (platform.get("os"), platform.get("architecture"), platform.get("variant"))
    return "/".join(str(part) for part in parts if part)
