"""A container's unit: its name and its slice, and what config.json's annotations ask systemd for.

    unit = unit_of("0123abcd", "machine.slice:libpod:0123abcd")    # libpod-0123abcd.scope in machine.slice
    from_annotations({"org.systemd.property.TimeoutStopSec": "uint64 5"})

Pure: nothing here asks systemd (systemd.py does). Sources: man 8 runc (cgroupsPath as slice:prefix:name, annotations);
man 5 org.freedesktop.systemd1; GVariant text format, https://docs.gtk.org/glib/gvariant-text-format.html
"""

from __future__ import annotations

from struct import error

from minirt.linux.cgroup_files import CgroupError
from minirt.linux.dbus_values import marshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    Property = tuple[str, tuple[str, Any]]  # name, and a D-Bus variant

__all__ = ["Unit", "from_annotations", "unit_of"]

ANNOTATION = "org.systemd.property."  # begins the names of annotations that are properties


class Unit:
    """A container's unit: a scope, which is a group of processes that systemd did not start.

    name: with its suffix. slice: what it is in, as one word (`a-b.slice` is in `a.slice`); "" leaves it to systemd's default.
    """

    __slots__ = ("name", "slice", "title")

    def __init__(self, name: str, slice: str, title: str) -> None:
        self.name = name
        self.slice = slice
        self.title = title


def unit_of(id: str, path: str) -> Unit:
    """Return the unit that linux.cgroupsPath asks for: `slice:prefix:name`, each of which may be empty.

    Raises: CgroupError for another form, a path for one.
    """
    if not path:
        return Unit(f"minirt-{id}.scope", "", id)
    parts = path.split(":")
    if len(parts) != 3 or "/" in path:
        raise CgroupError(f"linux.cgroupsPath {path!r}: with --systemd-cgroup it is slice:prefix:name, as system.slice:box:1")
    slice, prefix, name = parts
    if name.endswith(".slice"):
        raise CgroupError(f"linux.cgroupsPath {path!r}: {name} is a slice, which holds scopes and no process")
    if slice and not slice.endswith(".slice"):
        raise CgroupError(f"linux.cgroupsPath {path!r}: {slice!r} is no slice: its name ends with .slice")
    return Unit(f"{prefix}-{name}.scope", slice, name)


def from_annotations(annotations: Mapping[str, str] | None) -> list[Property]:
    """Return the properties that config.json's annotations ask for: `org.systemd.property.NAME`, values as GVariant text.

    Times may be said in seconds, NAMESec for NAMEUSec, as man 5 systemd.exec has them. Raises: CgroupError.
    """
    made = []
    for key, text in (annotations or {}).items():
        name = key.removeprefix(ANNOTATION)
        if name == key:
            continue
        if not name.isascii() or not name.isalpha() or not name[0].isupper():
            raise CgroupError(f"annotations[{key!r}]: {name!r} is no name of a property")
        try:
            kind, value = _variant(text.strip())
            if name.endswith("Sec") and not name.endswith("USec"):
                name, kind, value = f"{name[:-3]}USec", "t", int(float(value) * 1_000_000)
            marshal(kind, [value])
        except (ValueError, OverflowError, error):
            raise CgroupError(f"annotations[{key!r}]: {text!r} is no value: 'text', true, uint64 5, ['a', 'b']") from None
        made.append((name, (kind, value)))
    return made


WORDS = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t", "double": "d"}


def _variant(text: str) -> tuple[str, Any]:
    """Return signature and value of a GVariant text, of the forms that properties have. Raises: ValueError."""
    if text in ("true", "false"):
        return "b", text == "true"
    if text[:1] in ("'", '"'):
        return "s", _quoted(text)
    if text[:1] == "[" and text[-1:] == "]":
        return "as", [_quoted(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    word, _, number = text.rpartition(" ")
    kind = WORDS.get(word, "d" if "." in number else "i")
    if word and word not in WORDS:
        raise ValueError(text)
    return kind, float(number) if kind == "d" else int(number)


def _quoted(text: str) -> str:
    inner = text[1:-1]
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0] or text[0] in inner or "\\" in inner:
        raise ValueError(text)
    return inner
