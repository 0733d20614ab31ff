"""Which fields of the specification's schema a set of configurations has: computed from the schema, not counted by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from minirt.oci.schema import CONFIG
from minirt.oci.shapes import List, Map, Object

__all__ = ["all_fields", "fields_of", "table"]


def fields_of(value: Any, shape: Any = CONFIG, path: str = "") -> set[str]:
    """Return the fields that a configuration has, as paths: [] an entry, {} a value under a key of the user's."""
    found: set[str] = set()
    if isinstance(shape, Object):
        for key, item in value.items():
            if key in shape.fields:
                name = f"{path}.{key}".lstrip(".")
                found |= {name} | fields_of(item, shape.fields[key], name)
    elif isinstance(shape, List):
        for item in value:
            found |= fields_of(item, shape.of, path + "[]")
    elif isinstance(shape, Map):
        for item in value.values():
            found |= fields_of(item, shape.of, path + "{}")
    return found


def all_fields(shape: Any = CONFIG, path: str = "") -> set[str]:
    """Return every field of the schema."""
    found: set[str] = set()
    if isinstance(shape, Object):
        for key, field in shape.fields.items():
            name = f"{path}.{key}".lstrip(".")
            found |= {name} | all_fields(field, name)
    elif isinstance(shape, (List, Map)):
        found |= all_fields(shape.of, path + ("[]" if isinstance(shape, List) else "{}"))
    return found


def table(configs: Iterable[Any]) -> Counter[str]:
    """Return in how many configurations each field of the schema occurs."""
    counted = Counter(dict.fromkeys(sorted(all_fields()), 0))
    for config in configs:
        counted.update(fields_of(config))
    return counted
