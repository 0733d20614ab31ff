"""-f one.yaml -f two.yaml: what the later file says changes, or is added to, what the first does (compose-spec, 13-merge.md)."""

from __future__ import annotations

from minirt.compose.text import Document, Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["merge"]

# Of services: what is replaced as a whole; lists of others are joined.
REPLACED = ("command", "entrypoint", "test")
PAIRS = ("environment", "labels", "args", "sysctls", "annotations", "extra_hosts", "driver_opts")
BY_TARGET = ("volumes", "secrets", "configs", "devices")


def merge(first: Document, second: Document) -> Document:
    """Return two documents as one; places are those of who said it last."""
    places = dict(first.places)
    value = merged(first.value, second.value, (), places, second)
    return Document(first.file, value, places)


def merged(old: Any, new: Any, path: Path, places: dict[Path, str], second: Document) -> Any:
    """Return one value of two."""
    if new is None and old is not None and len(path) > 1:
        return old
    name = path[-1] if path else ""
    if name in PAIRS and old is not None:
        return {**as_mapping(old), **as_mapping(new)} if not isinstance(new, str) else new
    if name in ("depends_on", "networks") and len(path) == 3 and old is not None:
        old, new = named(old, str(name)), named(new, str(name))
    for place in [place for place in second.places if place[: len(path)] == path] if not isinstance(new, dict) else [path]:
        if place in second.places:
            places[place] = second.places[place]
    if isinstance(old, dict) and isinstance(new, dict):
        found = dict(old)
        for key, value in new.items():
            inner = (*path, key)
            found[key] = merged(old[key], value, inner, places, second) if key in old else added(value, inner, places, second)
        return found
    if isinstance(old, list) and isinstance(new, list) and name not in REPLACED:
        if name in BY_TARGET:
            kept = {target_of(one): one for one in [*old, *new]}
            return list(kept.values())
        return old + [one for one in new if one not in old]
    return new


def added(value: Any, path: Path, places: dict[Path, str], second: Document) -> Any:
    """Return what only the second says."""
    for place, line in second.places.items():
        if place[: len(path)] == path:
            places[place] = line
    return value


def as_mapping(value: Any) -> dict[str, Any]:
    """Return KEY=VALUE items as a mapping."""
    if isinstance(value, dict):
        return value
    pairs = (str(item).partition("=") for item in value or ())
    return {key: rest if equals else None for key, equals, rest in pairs}


def named(value: Any, field: str) -> Any:
    """Return a list of names as a mapping."""
    if isinstance(value, list):
        return {str(one): {"condition": "service_started"} if field == "depends_on" else None for one in value}
    return value


def target_of(value: Any) -> str:
    """Return where in the container an entry comes to lie."""
    if isinstance(value, dict):
        return str(value.get("target") or value.get("source"))
    parts = str(value).split(":")
    return parts[1] if len(parts) > 1 else parts[0]
