"""extends: a service that begins with what another says, of the same file or of another (compose-spec 05-services.md#extends)."""

from __future__ import annotations

import os

from minirt.compose.fields import check
from minirt.compose.merge import merged
from minirt.compose.text import Document, Path, read
from minirt.compose.variables import expand_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["extend_all", "moved", "there"]

Way = tuple[tuple[str, str], ...]


def extend_all(document: Document, directory: str, variables: Mapping[str, str]) -> None:
    """Put into each service what it extends; a checked document. Args: directory, of the project. Raises: ComposeError."""
    services = document.value.get("services") or {}
    for name in services:
        services[name] = whole(document, name, directory, variables, ())


def whole(document: Document, name: str, directory: str, variables: Mapping[str, str], above: Way) -> dict[str, Any]:
    """Return a service with what it extends. Args: above, the services on the way here, each with its file."""
    service: dict[str, Any] = document.value["services"][name]
    where: Path = ("services", name, "extends")
    given = service.get("extends")
    if given is None:
        return service
    base = str(given["service"] if isinstance(given, dict) else given)
    file = str(given.get("file") or "") if isinstance(given, dict) else ""
    if (document.file, name) in above:
        raise document.fail(where, f"it extends itself: {' -> '.join(one for _, one in (*above, (document.file, name)))}")
    other, place = document, directory
    if file:
        path = os.path.normpath(os.path.join(directory, file))
        if not os.path.exists(path):
            raise document.fail((*where, "file"), f"{path}: there is no such file")
        other, place = read(path), os.path.dirname(path)
        expand_all(other, variables)
        check(other)
    if base not in (other.value.get("services") or {}):
        raise document.fail(where, f"no service {base!r} in {other.file}")
    found = whole(other, base, place, variables, (*above, (document.file, name)))
    found = moved(found, place) if place != directory else found
    own = {key: value for key, value in service.items() if key != "extends"}
    made: dict[str, Any] = merged(found, own, ("services", name), document.places, document)
    return {key: value for key, value in made.items() if key != "extends"}


def there(text: str, place: str) -> str:
    """Return a path that counts from a directory as one that counts from nowhere; a URL, and one from ~, as it is."""
    return text if text.startswith(("/", "~")) or "://" in text else os.path.normpath(os.path.join(place, text))


def moved(service: dict[str, Any], place: str) -> dict[str, Any]:
    """Return a service of a file elsewhere with its relative paths made absolute."""
    found = dict(service)
    build = found.get("build")
    if isinstance(build, str):
        found["build"] = there(build, place)
    elif build:
        found["build"] = {**build, "context": there(str(build.get("context", ".")), place)}
    for key in ("env_file", "label_file"):
        if key in found:
            items = found[key] if isinstance(found[key], list) else [found[key]]
            found[key] = [
                {**one, "path": there(str(one["path"]), place)} if isinstance(one, dict) else there(str(one), place)
                for one in items
            ]
    volumes: list[Any] = []
    for one in found.get("volumes") or ():
        if isinstance(one, dict):
            bound = one.get("type") == "bind" and one.get("source")
            volumes.append({**one, "source": there(str(one["source"]), place)} if bound else one)
        else:
            source, colon, rest = str(one).partition(":")
            volumes.append(there(source, place) + colon + rest if colon and source.startswith(".") else one)
    return {**found, "volumes": volumes} if volumes else found
