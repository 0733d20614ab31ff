"""The files of a project as one document: each is read, expanded, checked, and gets what it extends and includes; then all merged.

A file that is included is a small project of its own, whose paths and whose .env are counted from its own directory. What it has is
added, and may not stand in the way of what is there (compose-spec, 14-include.md).
"""

from __future__ import annotations

import os

from minirt.compose.extend import extend_all, moved, there
from minirt.compose.fields import check
from minirt.compose.merge import as_mapping, merge
from minirt.compose.text import ComposeError, Document, Path, read
from minirt.compose.variables import expand_all, read_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

__all__ = ["read_all"]

PARTS = ("services", "networks", "volumes", "secrets", "configs")


def read_all(files: Sequence[str], directory: str, variables: Mapping[str, str], above: tuple[str, ...] = ()) -> Document:
    """Return files as one document. Raises: ComposeError.

    Args:
        files: at least one, `-` for standard input; the later change the first.
        directory: what their relative paths count from.
        variables: what their variables are replaced by.
        above: files that include these.
    """
    import sys

    whole: Document | None = None
    for path in files:
        if path != "-" and not os.path.exists(path):
            what = "name the compose file with -f, or leave -f out where compose.yaml is here or above"
            raise ComposeError(f"{path}: there is no such file: {what}")
        document = read(path, sys.stdin.read() if path == "-" else None)
        expand_all(document, variables)
        check(document)
        extend_all(document, directory, variables)
        include_all(document, directory, variables, (*above, os.path.abspath(path)))
        whole = document if whole is None else merge(whole, document)
    assert whole is not None
    return whole


def include_all(document: Document, directory: str, variables: Mapping[str, str], above: tuple[str, ...]) -> None:
    """Add to a document what it includes."""
    for i, given in enumerate(document.value.pop("include", None) or ()):
        where: Path = ("include", i)
        one = given if isinstance(given, dict) else {"path": given}
        paths = [there(str(path), directory) for path in listed(one.get("path"))]
        if not paths:
            raise document.fail(where, "path is missing")
        for path in paths:
            if path in above:
                raise document.fail(where, f"{path} includes itself: {' -> '.join([*above[above.index(path) :], path])}")
            if not os.path.exists(path):
                raise document.fail(where, f"{path}: there is no such file")
        place = there(str(one["project_directory"]), directory) if one.get("project_directory") else os.path.dirname(paths[0])
        own: dict[str, str] = {}
        for path in listed(one.get("env_file")) or [os.path.join(place, ".env")]:
            own |= read_env(there(str(path), directory), {**own, **variables}, required=bool(one.get("env_file")))
        known = {**own, **variables}  # who includes it has the last word
        add(document, where, settled(read_all(paths, place, known, above), place, known))


def listed(value: Any) -> list[Any]:
    """Return one text or a list of them as a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def settled(document: Document, place: str, variables: Mapping[str, str]) -> Document:
    """Return an included document with all that it means by where it is: paths, and variables that services take over."""
    value = document.value
    for name, service in (value.get("services") or {}).items():
        service = moved(service, place)
        if service.get("environment"):
            taken = as_mapping(service["environment"]).items()
            service["environment"] = {key: variables.get(key) if one is None else one for key, one in taken}
        value["services"][name] = service
    for kind in ("secrets", "configs"):
        for one in (value.get(kind) or {}).values():
            if one.get("file"):
                one["file"] = there(str(one["file"]), place)
    return document


def add(document: Document, where: Path, other: Document) -> None:
    """Add what an included document has. Raises: ComposeError where something else has its name."""
    for part in PARTS:
        for name, value in (other.value.get(part) or {}).items():
            kept = document.value.get(part) or {}
            if name in kept and kept[name] != value:
                raise document.fail(where, f"{part}.{name} is in {other.file} and here, and they differ")
            document.value[part] = {**kept, name: value}
            for path, line in other.places.items():
                if path[:2] == (part, name):
                    document.places.setdefault(path, line)
