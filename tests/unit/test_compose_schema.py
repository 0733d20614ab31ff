"""Compose files are held to the compose-spec's own JSON schema: what it refuses is refused, in one line of our words; what it takes
is taken, or told as not implemented here, or as no number where a number is needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

import minirt.compose
from minirt.compose.fields import ABSENT, ONLY, OTHERS, SWARM, check, places, schema
from minirt.compose.text import ComposeError, Document

SCHEMA = schema()
VALIDATOR = Draft202012Validator(SCHEMA)
VALUES: tuple[Any, ...] = (
    "x", "5", "", "true", 5, -1, 1.5, True, None, [], ["x"], ["x", "x"], [5], [True], [None], [[]], [{}], {}, {"x": "y"}, {"x": 5},
    {"x": None}, {"x": True}, {"x": []}, {"x": {}}, {"x-own": 1}, [{"x-own": 1}],
)  # fmt: skip
RIGHT = {"condition": "service_started", "type": "tmpfs", "soft": 1, "hard": 1}
Way = tuple[Any, ...]


def resolved(node: Any) -> Iterator[Any]:
    """A part of the schema, and what it refers to or is one of."""
    if "$ref" in node:
        yield from resolved(SCHEMA["$defs"][node["$ref"].rpartition("/")[2]])
    for word in ("allOf", "oneOf", "anyOf"):
        for one in node.get(word, ()):
            yield from resolved(one)
    yield node


def ways(node: Any, way: Way = (), needs: tuple[dict[str, Any], ...] = ()) -> Iterator[tuple[Way, tuple[dict[str, Any], ...]]]:
    """Each place of the schema, and what must stand beside each step to it; a name of one's own is `x`, a place in a list 0."""
    yield way, needs
    for one in resolved(node):
        beside = {key: RIGHT.get(key, "x") for key in one.get("required", ())}
        for key, inner in one.get("properties", {}).items():
            yield from ways(inner, (*way, key), (*needs, beside))
        for pattern, inner in one.get("patternProperties", {}).items():
            if pattern != "^x-":
                yield from ways(inner, (*way, "x"), (*needs, beside))
        if "items" in one:
            yield from ways(one["items"], (*way, 0), (*needs, {}))


WAYS = {way: needs for way, needs in ways(SCHEMA) if way}


def document(way: Way, value: Any) -> Any:
    """A file with a value at a place, and no more than it needs."""
    for key, beside in zip(reversed(way), reversed(WAYS[way]), strict=True):
        value = [value] if key == 0 else {**beside, key: value}
    return value


def said_of(value: Any) -> str:
    """Why we refuse a file, or nothing."""
    try:
        check(Document("file", value, {}))
    except ComposeError as error:
        return str(error)
    return ""


def compare(way: Way, value: Any) -> None:
    whole = document(way, value)
    if way[0] == "services" and len(way) == 1 and value is None:
        return  # told as: there are no services
    valid, said = VALIDATOR.is_valid(whole), said_of(whole)
    assert "\n" not in said and "JSON" not in said and "schema" not in said and " type '" not in said
    if not valid:
        empty = len(way) == 1 and value is None  # `volumes:` with nothing below it: docker compose takes that, the schema does not
        assert said or empty, f"we take {whole}, and the schema says {[error.message for error in VALIDATOR.iter_errors(whole)]}"
    elif said:
        absent = [one for pattern in (*ABSENT, *SWARM, *OTHERS) for one in places(whole, pattern.split("."))]
        own = [one for pattern in ONLY for one in places(whole, pattern.split("."))]
        text = "a number is expected" in said or "true or false is expected" in said
        assert absent or own or text, f"the schema takes {whole}, and we say {said}"


TOPS = sorted({way[0] for way in WAYS} - {"services"})  # of services there are some five hundred places


@pytest.mark.parametrize("top", [*TOPS, pytest.param("services", marks=pytest.mark.long)])
def test_of_each_value_at_each_place_the_schema_has_the_last_word(top: str) -> None:
    for way in WAYS:
        if way[0] == top and (top != "jobs" or len(way) < 3):  # which are not here at all
            for value in VALUES:
                compare(way, value)


def test_of_a_few_values_at_each_place_of_a_service_the_schema_has_the_last_word() -> None:
    for way in WAYS:
        if way[0] == "services":
            for value in (5, None, {"x": "y"}):
                compare(way, value)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats(0, 9) | st.text("ax5-.$", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ax-", min_size=1, max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200)
@given(st.sampled_from(sorted(WAYS, key=str)), ANY)
def test_of_any_value_the_schema_has_the_last_word(way: Way, value: Any) -> None:
    compare(way, value)


@pytest.mark.parametrize("pattern", [*ABSENT, *SWARM, *OTHERS, *ONLY])
def test_what_is_said_to_be_absent_is_in_the_schema(pattern: str) -> None:
    keys = pattern.split(".")
    assert any(len(way) == len(keys) and all(key in ("*", step) for key, step in zip(keys, way, strict=True)) for way in WAYS)


IGNORED = {  # taken, and of no consequence here
    *(f"services.*.{name}" for name in (
        "attach", "deploy.restart_policy.delay", "deploy.restart_policy.window", "develop", "platform", "ports.*.app_protocol",
        "ports.*.mode", "ports.*.name", "volumes.*.bind.selinux", "volumes.*.consistency",
    )),
    "networks.*.attachable", "version",
}  # fmt: skip


def test_each_field_that_is_taken_is_read_somewhere() -> None:
    """A field that the check lets through and no code knows would be lost without a word."""
    folder = Path(minirt.compose.__file__).parent
    code = "\n".join(path.read_text() for path in folder.glob("*.py") if path.name not in ("fields.py", "words.py"))
    refused = {*ABSENT, *SWARM, *OTHERS, *IGNORED}
    lost = set()
    for way in WAYS:
        steps = ["*" if key in (0, "x") else key for key in way]
        taken = not any(".".join(steps[:length]) in refused for length in range(1, len(steps) + 1))
        if steps[-1] != "*" and taken and not re.search(rf"[\"']{steps[-1]}[\"']", code):
            lost.add(".".join(steps))
    assert lost == set()
