"""config.json checked before anything is made: each error names the JSON path and the rule, and no valid one is refused.

The wrong values come from the specification's text (oci_fields.py, oci_edits.py), not from the validator's table.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oci_edits import EDITS, right_values, wrong_values
from oci_fields import FIELDS, SCALARS, full, json_path, put, remove
from oci_json_schema import LATER, OTHERS, RECORDED

from minirt.errors import MinirtError
from minirt.linux.seccomp.profile import ACTIONS, FLAGS, OPERATORS
from minirt.linux.seccomp.tables import architecture
from minirt.oci import schema
from minirt.oci.compile import compile_plan
from minirt.oci.namespaces import TYPES
from minirt.oci.scheduling import CLASSES, POLICIES
from minirt.oci.shapes import List, Map, Object, Text
from minirt.oci.spec import default_spec
from minirt.oci.step import Context
from minirt.oci.validate import ConfigError, validate, validate_process, validate_resources
from minirt.plan.decode import plan_as_dict
from minirt.runtime.command import main

Case = tuple[str, str, dict[str, Any]]  # path, a word of the rule, the configuration
NEIGHBOURS = 200


def refused(config: Any, path: str, rule: str) -> None:
    """Assert that a configuration is refused, at this path and for this rule, in one line."""
    with pytest.raises(ConfigError) as caught:
        validate(config)
    text = str(caught.value)
    assert text.startswith(f"config.json: {path}: "), (path, text)
    assert rule in text.removeprefix(f"config.json: {path}: "), (rule, text)
    assert "\n" not in text


def accepted(config: dict[str, Any]) -> list[str]:
    """Assert that a configuration is accepted, and not changed; return the warnings."""
    before = copy.deepcopy(config)
    warnings = validate(config)
    assert config == before
    return warnings


@st.composite
def one_field_wrong(draw: st.DrawFn) -> Case:
    """FULL with a value that its field does not take, or without a field that is required."""
    field = draw(st.sampled_from(FIELDS))
    config = full()
    path = json_path(field.path, config)
    if field.required and draw(st.booleans()):
        remove(config, field.path)
        return path, "missing", config
    value, rule = draw(st.sampled_from(wrong_values(field.kind)))
    put(config, field.path, value)
    return path, rule, config


@st.composite
def one_rule_broken(draw: st.DrawFn) -> Case:
    """FULL with a rule broken that binds several fields."""
    edit = draw(st.sampled_from(EDITS))
    config = full()
    edit.wrong(config)
    return edit.path, edit.rule, config


@st.composite
def one_field_other(draw: st.DrawFn) -> dict[str, Any]:
    """FULL with another value that its field takes too; a field of another one's company is left to the edits."""
    field = draw(st.sampled_from([field for field in SCALARS if field.path not in IN_COMPANY]))
    config = full()
    put(config, field.path, draw(st.sampled_from(right_values(field.kind))))
    return config


# What of these is right is said by another field: EDITS has them.
IN_COMPANY = {
    "linux.namespaces[].type", "linux.seccomp.defaultAction", "linux.seccomp.syscalls[].action", "linux.memoryPolicy.mode",
    "process.scheduler.policy", "process.scheduler.priority", "process.scheduler.runtime", "process.scheduler.deadline",
    "process.scheduler.period", "linux.resources.cpu.burst", "linux.resources.cpu.quota", "linux.resources.memory.swap",
    "linux.resources.memory.limit", "process.rlimits[].soft", "process.rlimits[].hard", "linux.memoryPolicy.flags[]",
    "linux.memoryPolicy.nodes", "linux.uidMappings[].containerID", "linux.uidMappings[].hostID", "linux.uidMappings[].size",
    "linux.gidMappings[].containerID", "linux.gidMappings[].hostID", "linux.gidMappings[].size",
    "mounts[].uidMappings[].containerID", "mounts[].uidMappings[].hostID", "mounts[].uidMappings[].size",
    "mounts[].gidMappings[].containerID", "mounts[].gidMappings[].hostID", "mounts[].gidMappings[].size",
    "mounts[].source", "mounts[].options[]", "linux.seccomp.listenerPath", "linux.seccomp.defaultErrnoRet",
    "linux.seccomp.syscalls[].errnoRet",
}  # fmt: skip


def distinct(strategy: st.SearchStrategy[Any], check: Any, key: Any, examples: int = 700) -> int:
    """Check what a strategy draws, and return how many distinct ones there were."""
    seen = set()

    @settings(max_examples=examples, deadline=None, database=None)
    @given(strategy)
    def each(drawn: Any) -> None:
        seen.add(json.dumps(key(drawn), sort_keys=True))
        check(drawn)

    each()
    return len(seen)


def test_the_full_configuration_is_accepted_without_a_warning() -> None:
    assert accepted(full()) == []


def test_one_wrong_edit_is_refused_with_its_path_and_rule() -> None:
    wrong = st.one_of(one_field_wrong(), one_rule_broken())
    found = distinct(wrong, lambda case: refused(case[2], case[0], case[1]), lambda case: case[2])
    assert found >= NEIGHBOURS


def test_as_many_neighbours_one_edit_away_are_accepted() -> None:
    def edited(edit: Any) -> dict[str, Any]:
        config = full()
        edit.right(config)
        return config

    right = st.one_of(one_field_other(), st.sampled_from(EDITS).map(edited))
    assert distinct(right, accepted, lambda config: config) >= NEIGHBOURS


def test_two_hundred_wrong_configurations_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Through the command: one line on standard error, exit status 1, no state, and the bundle as it was."""
    state = tmp_path / "state"
    file = tmp_path / "config.json"

    def refused_by_create(case: Case) -> None:
        file.write_text(json.dumps(case[2]))
        assert main(["--root", str(state), "create", "--bundle", str(tmp_path), "box"]) == 1
        out, error = capsys.readouterr()
        assert out == "" and error.count("\n") == 1 and f"config.json: {case[0]}: " in error
        assert [path.name for path in tmp_path.iterdir()] == ["config.json"] or not any(state.iterdir())

    assert distinct(st.one_of(one_field_wrong(), one_rule_broken()), refused_by_create, lambda case: case[2], 300) >= NEIGHBOURS


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: f"{edit.path}-{edit.rule}".replace(" ", "_"))
def test_each_rule_between_fields_has_both_sides(edit: Any) -> None:
    wrong, right = full(), full()
    edit.wrong(wrong)
    refused(wrong, edit.path, edit.rule)
    edit.right(right)
    accepted(right)


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.path)
def test_each_field_refuses_what_its_kind_does_not_take(field: Any) -> None:
    for value, rule in wrong_values(field.kind):
        config = full()
        path = json_path(field.path, config)
        put(config, field.path, value)
        refused(config, path, rule)
    config = full()
    path = json_path(field.path, config)
    remove(config, field.path)
    if field.required:
        refused(config, path, "missing")


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.floats(),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)),
       st.sampled_from(FIELDS))  # fmt: skip
def test_any_json_anywhere_is_refused_in_one_line_or_accepted(value: Any, field: Any) -> None:
    config = full()
    put(config, field.path, value)
    for document in (config, value):
        try:
            validate(document)
        except ConfigError as error:
            assert "\n" not in str(error) and len(str(error)) < 600  # seccomp.architectures: 25 names


@pytest.mark.parametrize("document", [None, [], "x", 1, True, {}])
def test_what_is_no_configuration_is_refused(document: Any) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: .*(object|missing)"):
        validate(document)


def test_unknown_properties_are_ignored() -> None:
    """config.md#extensibility: runtimes MUST NOT generate an error."""
    for path in ("", "root", "process", "process.user", "linux", "linux.resources.memory", "mounts[]", "hooks"):
        config = full()
        owner = config
        for part in path.replace("[]", ".0").split(".") if path else ():
            owner = owner[int(part) if part.isdigit() else part]
        owner["com.example.unknown"] = {"a": [1]}
        assert accepted(config) == []


def test_null_is_absent() -> None:
    """Go's encoders write it for a nil pointer, and its decoders take it so."""
    for field in FIELDS:
        config = full()
        path = json_path(field.path, config)
        if path.endswith("]"):
            continue
        put(config, field.path, None)
        if field.required:
            refused(config, path, "missing")


def test_null_gives_the_plan_that_absence_gives() -> None:
    # These this machine's kernel may not have, and a plan that asks for them is refused then.
    optional = ("process.apparmorProfile", "process.selinuxLabel")
    named = [field for field in FIELDS if not json_path(field.path, full()).endswith("]")]
    fields = [field for field in named if not field.required and field.path not in optional]
    for field in fields:
        null, absent = full(), full()
        for config in (null, absent):
            for path in optional:
                put(config, path, "")
        put(null, field.path, None)
        remove(absent, field.path)
        assert planned(null) == planned(absent), field.path
    assert len(fields) > 100


def planned(config: dict[str, Any]) -> object:
    """Return the plan of a configuration, or why there can be none."""
    try:
        validate(config)
        return plan_as_dict(compile_plan(Context(config, "/bundle")))
    except MinirtError as error:
        return str(error)


def test_a_process_is_not_required_to_create() -> None:
    config = full()
    del config["process"]
    accepted(config)


def test_unknown_capabilities_are_warned_of() -> None:
    """config.md#linux-process: "Runtimes SHOULD NOT fail" for what cannot be granted, and MUST log a warning."""
    config = full()
    config["process"]["capabilities"]["ambient"] = ["CAP_KILL", "CAP_TIME_TRAVEL"]
    (warning,) = accepted(config)
    assert "process.capabilities.ambient: 'CAP_TIME_TRAVEL'" in warning


@pytest.mark.parametrize(("path", "value", "words"), [
    ("ociVersion", "1.4.0", "newer"), ("mounts[].destination", "data", "counts from /"),
])  # fmt: skip
def test_what_is_deprecated_or_newer_is_warned_of(path: str, value: str, words: str) -> None:
    config = full()
    put(config, path, value)
    (warning,) = accepted(config)
    assert words in warning


def test_other_platforms_are_ignored_with_a_warning() -> None:
    config = full()
    config["windows"] = {"layerFolders": 7}
    (warning,) = accepted(config)
    assert "windows is ignored" in warning


def test_an_unprivileged_user_s_container_needs_a_user_namespace() -> None:
    config = full()
    assert validate(config, rootless=True) == []
    config["linux"]["namespaces"] = [entry for entry in config["linux"]["namespaces"] if entry["type"] != "user"]
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    with pytest.raises(ConfigError, match=r"linux\.namespaces: a user namespace"):
        validate(config, rootless=True)


def test_the_default_configuration_is_accepted() -> None:
    config = default_spec()
    config["process"]["args"] = ["sh"]
    assert accepted(config) == []


def test_a_process_and_resources_can_be_checked_alone() -> None:
    assert validate_process(full()["process"], "--process FILE") == []
    with pytest.raises(ConfigError, match=r"^--process FILE: process\.rlimits\[1\]\.type: .*twice"):
        validate_process({**full()["process"], "rlimits": full()["process"]["rlimits"] * 2}, "--process FILE")
    with pytest.raises(ConfigError, match=r"^--process FILE: process\.cwd: missing"):
        validate_process({"args": ["x"]}, "--process FILE")
    validate_resources(full()["linux"]["resources"], "r.json")
    with pytest.raises(ConfigError, match=r"^r\.json: linux\.resources\.memory\.swappiness: 101 "):
        validate_resources({"memory": {"swappiness": 101}}, "r.json")
    with pytest.raises(ConfigError, match=r"^r\.json: linux\.resources\.cpu\.burst: 2 is more"):
        validate_resources({"cpu": {"quota": 1, "burst": 2}}, "r.json")


# -- the table and the specification -------------------------------------------------------------------------------


def paths_of(shape: Any, path: str = "") -> dict[str, bool]:
    """Return the paths of a shape's fields, and whether each is required in what holds it."""
    found: dict[str, bool] = {}
    if isinstance(shape, Object):
        for key, field in shape.fields.items():
            found[f"{path}.{key}".lstrip(".")] = key in shape.required
            found.update(paths_of(field, f"{path}.{key}".lstrip(".")))
    elif isinstance(shape, (List, Map)):
        below = path + ("[]" if isinstance(shape, List) else "{}")
        found[below] = False
        found.update(paths_of(shape.of, below))
    return found


def test_the_schema_has_the_fields_of_the_specification_and_no_others() -> None:
    ours, theirs = paths_of(schema.CONFIG), {field.path: field.required for field in FIELDS}
    for hook in schema.HOOKS:  # the table has the fields of a hook once
        theirs.update({path.replace("prestart", hook): needed for path, needed in theirs.items() if "prestart" in path})
    for kind in ("ReadBps", "WriteBps", "ReadIOPS", "WriteIOPS"):
        theirs.update({p.replace("ReadBps", kind): needed for p, needed in theirs.items() if "throttleReadBps" in p})
    only_refused = {path for path in ours if path.startswith("linux.intelRdt")}
    extra = {"linux.personality.flags[]"}
    assert {path: ours[path] for path in ours.keys() - only_refused - extra} == theirs


def values(path: str) -> set[str]:
    """Return the enumeration of a field of the schema."""
    shape: Any = schema.CONFIG
    for part in path.replace("[]", ".[]").split("."):
        shape = shape.of if part == "[]" else shape.fields[part]
    assert isinstance(shape, Text)
    return set(shape.values)


def type_of(kind: str) -> str:
    """Return the JSON type of a kind of oci_fields.py."""
    if kind in ("object", "array", "bool"):
        return {"bool": "boolean"}.get(kind, kind)
    texts = ("string", "filled", "path", "variable", "semver", "cpus", "access", "pages", "interface")
    return "string" if kind in texts or kind.startswith("one:") else "integer"


def test_the_fields_read_by_hand_are_those_of_the_specification_s_json_schema() -> None:
    """Each that it has is there with its type, and required where it says so; each that it has not came later."""
    ours = {field.path: (type_of(field.kind), field.required) for field in FIELDS}
    # written out once: the others of a kind have the same below them (oci_fields.py)
    once = ("hooks.", "linux.resources.blockIO.throttle")
    missing = {path for path in RECORDED if path not in ours and not path.startswith(once)}
    assert missing == OTHERS
    known = {path: ours[path] for path in RECORDED if path in ours}
    assert {path: kind for path, (kind, _) in known.items()} == {path: RECORDED[path][0] for path in known}
    assert [path for path in known if RECORDED[path][1] and not known[path][1]] == []
    assert [path for path in ours if path not in RECORDED and not path.startswith(LATER)] == []
    assert all(any(path.startswith(later) for path in ours) for later in LATER)


def test_what_the_schema_lets_pass_is_known_to_the_code_that_does_it() -> None:
    assert values("linux.namespaces[].type") == set(TYPES)
    assert values("process.scheduler.policy") == set(POLICIES)
    assert values("process.ioPriority.class") == set(CLASSES)
    assert values("linux.seccomp.defaultAction") == set(ACTIONS)
    assert values("linux.seccomp.syscalls[].args[].op") == set(OPERATORS)
    assert values("linux.seccomp.flags[]") == set(FLAGS)
    for name in values("linux.seccomp.architectures[]"):
        assert architecture(name).name == name
