"""The differential test's configurations have every field of the specification's schema: computed, not counted by hand.

`.venv/bin/python tests/peers/test_coverage.py` prints the table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from configurations import CONFIGURATIONS
from fields import all_fields, fields_of, table

from minirt.oci.validate import ConfigError, validate

WRONG = 7.5  # no field of the specification takes a fraction


def test_each_field_of_the_schema_occurs_in_at_least_two_configurations() -> None:
    counted = table(one.config() for one in CONFIGURATIONS)
    assert counted.keys() == all_fields()
    rare = {field: count for field, count in counted.items() if count < 2}
    assert not rare, f"{len(counted)} fields in {len(CONFIGURATIONS)} configurations; in fewer than two of them: {rare}"
    assert len({one.name for one in CONFIGURATIONS}) == len(CONFIGURATIONS) >= 60


def places(value: Any, parts: list[str], path: str = "") -> Iterator[tuple[Any, Any, str]]:
    """Yield where a field is in a configuration: what holds it, its key there, its JSON path."""
    part, *rest = parts
    keys = range(len(value)) if part == "[]" else list(value) if part == "{}" else [part] if part in value else []
    for key in keys:
        where = path + (f"[{key!r}]" if part in ("[]", "{}") else f".{key}")
        if rest:
            yield from places(value[key], rest, where)
        else:
            yield value, key, where.removeprefix(".")


def test_each_field_of_the_schema_is_refused_once_with_its_path() -> None:
    for field in sorted(all_fields()):
        one = next(one for one in CONFIGURATIONS if field in fields_of(one.config()))
        config = json.loads(json.dumps(one.config(holder="/proc/1", bundle="/b", rootfs="/b/rootfs", tree="/t", device="eth0")))
        owner, key, path = next(places(config, field.replace("[]", ".[]").replace("{}", ".{}").split(".")))
        owner[key] = WRONG
        with pytest.raises(ConfigError) as caught:
            validate(config)
        assert str(caught.value).startswith(f"config.json: {path}: {WRONG} is not "), (field, str(caught.value))


if __name__ == "__main__":  # the coverage table, for people
    for field, count in table(one.config() for one in CONFIGURATIONS).items():
        print(f"{count:4} {field}")
    sys.exit(0)
