"""What systemd is told of a container: names, limits, devices, annotations; pure, and compared with runc's in the lab."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux.cgroup_limits import CgroupError
from minirt.linux.dbus_values import marshal
from minirt.linux.systemd_limits import device_properties, of_files, properties
from minirt.linux.systemd_unit import from_annotations, unit_of

NONE = (1 << 64) - 1


def test_a_path_is_slice_prefix_and_name() -> None:
    unit = unit_of("id", "machine.slice:libpod:0123")
    assert (unit.name, unit.slice, unit.title) == ("libpod-0123.scope", "machine.slice", "0123")
    assert unit_of("id", ":lab:x").slice == "" and unit_of("id", "").name == "minirt-id.scope"


@pytest.mark.parametrize("path", ["/a/b", "a:b", "a.slice:b:c:d", "system:b:c", "a.slice:b/c:d", "a.slice:b:c.slice"])
def test_another_form_is_refused(path: str) -> None:
    with pytest.raises(CgroupError, match=r"linux\.cgroupsPath"):
        unit_of("id", path)


@pytest.mark.parametrize(("resources", "wanted"), [
    ({}, {}),
    ({"memory": {"limit": 9, "swap": 12, "reservation": 4}}, {"MemoryMax": 9, "MemorySwapMax": 3, "MemoryLow": 4}),
    ({"memory": {"limit": -1}, "pids": {"limit": -1}}, {"MemoryMax": NONE, "MemorySwapMax": NONE, "TasksMax": NONE}),
    ({"cpu": {"quota": 50_000}}, {"CPUQuotaPerSecUSec": 500_000}),
    ({"cpu": {"quota": 33_333, "period": 100_000}}, {"CPUQuotaPeriodUSec": 100_000, "CPUQuotaPerSecUSec": 340_000}),
    ({"cpu": {"quota": -1, "period": 5000}}, {"CPUQuotaPeriodUSec": 5000, "CPUQuotaPerSecUSec": NONE}),
    ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
    ({"unified": {"cpu.max": "max", "memory.high": "max", "cgroup.max.depth": "3"}},
     {"CPUQuotaPeriodUSec": 100_000, "CPUQuotaPerSecUSec": NONE, "MemoryHigh": NONE}),
    ({"cpu": {"cpus": "0-1,9"}, "unified": {"cpuset.cpus": "2"}}, {"AllowedCPUs": [4]}),
    ({"cpu": {"mems": "0"}}, {"AllowedMemoryNodes": [1]}),
])  # fmt: skip
def test_limits_are_properties(resources: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Of one that is said twice the last counts, as for systemd."""
    assert {name: value for name, (_, value) in properties(resources)} == wanted


@given(st.sets(st.integers(0, 300), min_size=1))
def test_processors_are_bits_the_first_in_the_first_byte(cpus: set[int]) -> None:
    ((name, (kind, mask)),) = of_files([("cpuset.cpus", ",".join(map(str, sorted(cpus))))])
    assert (name, kind) == ("AllowedCPUs", "ay")
    assert {8 * at + bit for at, byte in enumerate(mask) for bit in range(8) if byte >> bit & 1} == cpus


@given(st.integers(1000, 1_000_000), st.integers(1000, 10_000_000))
def test_a_quota_is_never_narrower_for_systemd_than_for_the_kernel(period: int, quota: int) -> None:
    told = dict(of_files([("cpu.max", f"{quota} {period}")]))["CPUQuotaPerSecUSec"][1]
    assert told * period >= quota * 1_000_000 - period and told % 10_000 == 0
    assert told < quota * 1_000_000 / period + 10_000


@given(st.text("0123456789-,x ", max_size=8))
def test_a_list_of_processors_is_read_or_refused(text: str) -> None:
    try:
        made = of_files([("cpuset.cpus", text)])
    except CgroupError:
        return
    assert marshal("a(sv)", [made])


ALL = {"allow": True, "access": "rwm"}
KVM = {"allow": True, "type": "c", "major": 10, "minor": 232, "access": "rw"}


def devices(*rules: dict[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    made = dict(device_properties(rules))
    return made["DevicePolicy"][1], made["DeviceAllow"][1]


def test_what_is_allowed_is_listed_and_the_rest_forbidden() -> None:
    policy, allowed = devices({"allow": False, "access": "rwm"}, KVM)
    assert policy == "strict"
    assert {("/dev/char/10:232", "rw"), ("/dev/char/1:3", "rwm"), ("char-136", "rwm"), ("block-*", "m")} < set(allowed)
    assert ("/dev/char/10:232", "rw") not in devices()[1]


def test_what_systemd_has_no_words_for_is_left_to_our_filter() -> None:
    assert devices(ALL) == ("auto", [])
    assert devices(ALL, {"allow": False, "type": "c", "major": 5, "minor": 1, "access": "w"}) == ("auto", [])
    assert devices({"allow": True, "type": "c", "minor": 7, "access": "r"}) == ("auto", [])


def test_annotations_are_properties() -> None:
    asked = {"TimeoutStopUSec": "uint64 5", "TimeoutStopSec": "2", "CollectMode": "'inactive-or-failed'",
             "After": "['a.service', \"b\"]", "SendSIGHUP": "true", "IOWeight": "uint64 7",
             "Count": "-3", "Ratio": "0.5"}  # fmt: skip
    annotations = {f"org.systemd.property.{key}": text for key, text in asked.items()}
    assert from_annotations({**annotations, "other": "x"}) == [
        ("TimeoutStopUSec", ("t", 5)), ("TimeoutStopUSec", ("t", 2_000_000)), ("CollectMode", ("s", "inactive-or-failed")),
        ("After", ("as", ["a.service", "b"])), ("SendSIGHUP", ("b", True)), ("IOWeight", ("t", 7)), ("Count", ("i", -3)),
        ("Ratio", ("d", 0.5)),
    ]  # fmt: skip


@given(st.text("abT'\"[]{}, 0123456789.-uint64true\\", max_size=12))
def test_an_annotation_is_read_or_refused(text: str) -> None:
    try:
        made = from_annotations({"org.systemd.property.Name": text})
    except CgroupError:
        return
    assert marshal("a(sv)", [[(name, value) for name, value in made]])


NO_VALUES = ["uint64 -1", "uint32 4294967296", "byte 256", "uint64", "wide 5", "'a", "['a', b]", "", "{}", "1 2"]


@pytest.mark.parametrize("text", NO_VALUES)
def test_a_value_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(CgroupError, match="is no value"):
        from_annotations({"org.systemd.property.Name": text})
    with pytest.raises(CgroupError, match="is no value"):
        from_annotations({"org.systemd.property.NameSec": "'x'"})


@pytest.mark.parametrize("key", ["", "x", "9A", "A-b", "A.B"])
def test_a_property_has_a_property_s_name(key: str) -> None:
    with pytest.raises(CgroupError, match="no name of a property"):
        from_annotations({f"org.systemd.property.{key}": "1"})
