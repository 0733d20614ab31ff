"""What people want to know of a repository and of an image, read from manifests and configurations."""

from __future__ import annotations

import json
import os

from minirt.image.errors import Damaged
from minirt.image.index import INDEXES
from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository

__all__ = ["config_of", "description", "platform_of", "size_of", "summary"]

# image-spec annotations.md#pre-defined-annotation-keys, best first; the older ones are label-schema.org's
_OCI = "org.opencontainers.image."
_DESCRIPTION = (_OCI + "description", _OCI + "title", "org.label-schema.description", "description")
_CACHED = 4096
_LONGEST = 500  # characters of a description: it is kept, and stands in answers to all
_NESTED = 4  # indexes in each other that are followed to an image that says something
_TYPES: dict[str, type] = {"config": dict, "history": list}
_SETTINGS: dict[str, type] = {"Labels": dict, "Env": list, "ExposedPorts": dict, "Volumes": dict}
_descriptions: dict[tuple[str, str], str] = {}  # (repository's path, digest) -> text; content never changes


def config_of(registry: Registry, document: dict[str, Any]) -> dict[str, Any]:
    """Return an image's configuration; empty where it has none that can be read, as an artifact."""
    config = document.get("config") or {}
    if "image" not in str(config.get("mediaType")):
        return {}
    try:
        return _shaped(registry.blobs.read_json(config))
    except (Damaged, OSError):
        return {}


def _shaped(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration without the fields that are not of the type that image-spec config.md gives them.

    Whoever may push wrote it, and what it says stands in lists that all others ask for.
    """
    shaped: dict[str, Any] = {key: value for key, value in config.items() if isinstance(value, _TYPES.get(key, object))}
    inner = shaped.get("config") or {}
    shaped["config"] = {key: value for key, value in inner.items() if isinstance(value, _SETTINGS.get(key, object))}
    shaped["history"] = [step for step in shaped.get("history") or [] if isinstance(step, dict)]
    return shaped


def size_of(document: dict[str, Any]) -> int:
    """Return the bytes of an image's layers and configuration; of an index, of nothing."""
    parts: Iterable[Descriptor] = [*(document.get("layers") or []), document.get("config") or {}]
    return sum(int(part.get("size", 0)) for part in parts)


def platform_of(item: dict[str, Any]) -> str:
    """Return `linux/arm64/v8` of a platform or a configuration, or ""."""
    return "/".join(str(item[key]) for key in ("os", "architecture", "variant") if item.get(key) and item[key] != "unknown")


def description(registry: Registry, repository: Repository, digest: str, nested: int = _NESTED) -> str:
    """Return what an image says of itself, in its annotations or labels, or "". Args: nested, indexes that may lie in it."""
    key = (repository.path, digest)
    if key not in _descriptions:
        if len(_descriptions) >= _CACHED:
            _descriptions.clear()
        _descriptions[key] = _description(registry, repository, digest, nested)
    return _descriptions[key]


def _description(registry: Registry, repository: Repository, digest: str, nested: int) -> str:
    try:
        document = json.loads(repository.read(repository.find(digest)))
    except Refusal:
        return ""
    places = [document.get("annotations") or {}]
    if document.get("mediaType") not in INDEXES and "layers" in document:
        places.append((config_of(registry, document).get("config") or {}).get("Labels") or {})
    elif document.get("manifests") and nested:
        places.append({_DESCRIPTION[0]: description(registry, repository, document["manifests"][0]["digest"], nested - 1)})
    return next((str(place[key])[:_LONGEST] for key in _DESCRIPTION for place in places if place.get(key)), "")


def summary(registry: Registry, repository: Repository) -> dict[str, Any]:
    """Return name, description, tags, and when something was pushed last (seconds since 1970)."""
    tags = repository.tags.all()
    chosen = "latest" if "latest" in tags else tags[-1] if tags else ""
    digest = repository.tags.digest(chosen) if chosen else ""
    try:
        pushed = os.stat(repository.tags.root).st_mtime
    except FileNotFoundError:
        pushed = 0.0
    text = description(registry, repository, digest) if digest else ""
    return {"name": repository.name, "description": text, "tags": tags, "tag": chosen, "pushed": pushed}
