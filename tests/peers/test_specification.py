"""Each field of runtime-spec 1.3.0 is done, ignored with a warning, or refused; and something shows it (specification.py).

`.venv/bin/python tests/peers/test_specification.py` prints the list.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from configurations import CONFIGURATIONS
from fields import all_fields, fields_of
from specification import ENUMERATIONS, FIELDS, OTHER_PLATFORMS, Field

from minirt.linux.cgroup2 import CgroupError
from minirt.linux.cgroup_limits import limits
from minirt.oci import VERSION, schema
from minirt.oci.shapes import Text
from minirt.oci.spec import default_spec
from minirt.oci.validate import validate

TESTS = Path(__file__).resolve().parents[1]
NAMED = {one.name: one for one in CONFIGURATIONS}
OLDER = {"linux.intelRdt.enableCMT", "linux.intelRdt.enableMBM"}  # of 1.1 and 1.2, gone from 1.3.0


def leaves(paths: set[str]) -> set[str]:
    """Return the paths that hold no others."""
    above = {path[: match.start()] for path in paths for match in re.finditer(r"[.\[{]", path)}
    return paths - above


def test_the_list_is_of_the_version_that_is_claimed() -> None:
    assert VERSION == "1.3.0"


def test_the_schema_and_the_list_have_the_same_fields() -> None:
    assert [path for path, count in Counter(field.path for field in FIELDS).items() if count > 1] == []
    assert {field.path for field in FIELDS} == leaves(all_fields()) - OLDER


def values(path: str) -> set[str]:
    """Return the enumeration of a field of the schema."""
    shape: Any = schema.CONFIG
    for part in path.replace("[]", ".[]").split("."):
        shape = shape.of if part == "[]" else shape.fields[part]
    assert isinstance(shape, Text)
    return set(shape.values)


@pytest.mark.parametrize("path", ENUMERATIONS)
def test_what_a_field_may_be_is_what_the_specification_lists(path: str) -> None:
    prefix, names = ENUMERATIONS[path]
    assert values(path) == {prefix + name for name in names.split()}


def test_propagation_may_be_what_the_specification_lists_and_what_engines_write() -> None:
    """runc's and crun's recursive ones."""
    listed = {"private", "shared", "slave", "unbindable"}
    assert values("linux.rootfsPropagation") == {"", *listed, *(f"r{kind}" for kind in listed)}


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_what_shows_a_field_is_there(field: Field) -> None:
    """A configuration that has it, and whose container is looked at or which is refused; or a test of that name."""
    if field.shown.startswith("="):
        one = NAMED[field.shown[1:]]
        assert field.path in fields_of(one.config(holder="/proc/1", bundle="/b", rootfs="/b/rootfs", tree="/t", device="eth0"))
        assert one.refused == (field.done == "refused")
    else:
        file, _, name = field.shown.partition("::")
        assert f"\ndef {name}(" in (TESTS / file).read_text()
        assert field.done != "refused", "a configuration shows that"


GROUP: dict[str, Any] = {
    "linux.resources.blockIO.leafWeight": {"blockIO": {"leafWeight": 10}},
    "linux.resources.blockIO.weightDevice[].leafWeight": {
        "blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}
    },
    "linux.resources.memory.kernel": {"memory": {"kernel": 1 << 20}},
    "linux.resources.memory.kernelTCP": {"memory": {"kernelTCP": 1 << 20}},
    "linux.resources.memory.swappiness": {"memory": {"swappiness": 60}},
    "linux.resources.memory.disableOOMKiller": {"memory": {"disableOOMKiller": True}},
    "linux.resources.network.classID": {"network": {"classID": 1}},
    "linux.resources.network.priorities[].name": {"network": {"priorities": [{"name": "eth0", "priority": 1}]}},
    "linux.resources.network.priorities[].priority": {"network": {"priorities": [{"name": "eth0", "priority": 1}]}},
}


def test_what_is_ignored_is_warned_of_and_else_changes_nothing() -> None:
    assert GROUP.keys() == {field.path for field in FIELDS if field.done == "ignored"}
    for path, resources in GROUP.items():
        told: list[str] = []
        assert limits(resources, told.append) == [] and len(told) == 1, path
        with pytest.raises(CgroupError):
            limits(resources)  # where no warning can be given


def test_another_platform_s_part_is_ignored_with_a_warning() -> None:
    for name in OTHER_PLATFORMS:
        config = {**default_spec(), name: {"some": "thing"}}
        config["process"]["args"] = ["true"]
        assert [line for line in validate(config) if f"config.json: {name} is ignored" in line], name


if __name__ == "__main__":
    for field in FIELDS:
        print(f"{field.done:8} {field.path:60} {field.shown}")
    sys.exit(0)
