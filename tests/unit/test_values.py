"""docker's ways to write a value: good ones mean what docker says, all others are refused in one line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.engine import mounts, values
from minirt.errors import UsageError
from minirt.oci.lookup import parse_group, parse_passwd

pytestmark = pytest.mark.timeout(120)

# What can stand on a command line: any bytes but NUL, as Python shows them.
words = st.binary(max_size=60).map(lambda data: os.fsdecode(data.replace(b"\0", b"")))
numbers = st.text("0123456789.eE+-_ ", max_size=400) | st.integers().map(str) | st.just("9" * 5000)
pieces = st.sampled_from(
    ["type=bind", "type=tmpfs", "src=/etc", "target=/x", "readonly", "nofile=", "/dev/null", "/etc", ":", "=", ",", "64m",
     "-1", "unlimited", "rbps=", "ro", "net.ipv4.", "/", "..", "0", "9" * 5000, "1" * 400 + ".0", "tmpfs-size=", "∞", "٣", "²"]
)  # fmt: skip
text = words | numbers | st.lists(pieces, max_size=6).map("".join) | st.lists(pieces, max_size=6).map(",".join)

PARSERS: dict[str, Callable[[str], object]] = {
    "size": lambda t: values.parse_size(t, "--memory"),
    "cpus": values.parse_cpus,
    "environment": lambda t: values.parse_environment([t], []),
    "environment file": lambda t: values.parse_environment([], [t]),
    "ulimit": values.parse_ulimit,
    "volume": mounts.parse_volume,
    "mount": mounts.parse_mount,
    "tmpfs": mounts.parse_tmpfs,
    "device": values.parse_device,
    "sysctl": lambda t: values.parse_sysctl(t, {"network", "ipc"}),
    "id map": lambda t: values.parse_id_map(t, "--uidmap"),
    "io max": values.parse_io_max,
}


@pytest.mark.parametrize("name", PARSERS)
@settings(deadline=None, max_examples=300)
@given(given_text=text)
def test_any_text_is_read_or_refused_in_words(name: str, given_text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values.os, "makedirs", lambda path: None)  # of a volume's source
        try:
            PARSERS[name](given_text)
        except UsageError as error:
            assert str(error).strip()


@given(st.text(max_size=200) | st.lists(st.sampled_from(["root:x:0:", ":", "0", "\n", "9" * 5000, "-1", "x,y"])).map("".join))
def test_any_passwd_and_group_can_be_read(content: str) -> None:
    assert all(0 <= uid < 0xFFFFFFFF and 0 <= gid < 0xFFFFFFFF for _, uid, gid, _ in parse_passwd(content))
    assert all(0 <= gid < 0xFFFFFFFF for _, gid, _ in parse_group(content))


# -- good input ----------------------------------------------------------------------------------------------


@given(st.integers(0, 1 << 40), st.sampled_from(["", "b", "k", "m", "K", "M", "kb", "MB", "kib"]))
def test_sizes_are_in_units_of_1024(number: int, unit: str) -> None:
    factor = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20}[unit.lower()[:1]]
    assert values.parse_size(f"{number}{unit}", "--memory") == number * factor


def test_half_a_gigabyte() -> None:
    assert values.parse_size("0.5g", "--memory") == 512 << 20


@given(st.integers(1, 100 * (os.cpu_count() or 1)))
def test_cpus_are_a_share_of_a_period(hundredths: int) -> None:
    assert values.parse_cpus(f"{hundredths / 100:.2f}") == (hundredths * 1000, 100000)


names = st.text("abcdefghijklmnopqrstuvwxyzABC_0123456789", min_size=1, max_size=10)
contents = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@given(st.dictionaries(names, contents, max_size=5))
def test_environment_round_trip(env: dict[str, str]) -> None:
    assert values.parse_environment([f"{name}={value}" for name, value in env.items()], []) == env


def test_a_variable_without_a_value_is_ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OURS", "1")
    monkeypatch.delenv("NOBODYS", raising=False)
    (tmp_path / "env").write_text("# a comment\n\nA=1\nB=x=y # kept\n")
    got = values.parse_environment(["OURS", "NOBODYS", "A=2"], [str(tmp_path / "env")])
    assert got == {"A": "2", "B": "x=y # kept", "OURS": "1"}


@given(st.sampled_from(sorted(values.LIMITS)), st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_ulimit_round_trip(name: str, a: int, b: int) -> None:
    soft, hard = min(a, b), max(a, b)
    assert values.parse_ulimit(f"{name}={soft}:{hard}") == {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}
    assert values.parse_ulimit(f"{name}={soft}")["hard"] == soft


@pytest.mark.parametrize(
    "parse", [lambda n: values.parse_ulimit(f"nofile={n}"), lambda n: values.parse_id_map(f"0:{n}:1", "--uidmap"),
              lambda n: values.parse_size(f"{n}k", "--memory"), lambda n: values.parse_cpus(f"{n}.0")],
)  # fmt: skip
def test_a_number_of_5000_digits_is_refused_in_words(parse: Callable[[str], object]) -> None:
    with pytest.raises(UsageError):
        parse("9" * 5000)


def test_ulimit_beyond_64_bits_is_refused() -> None:
    with pytest.raises(UsageError):
        values.parse_ulimit(f"nofile={1 << 64}")


@given(st.integers(0, 1 << 31), st.integers(0, 1 << 31), st.integers(1, 65536))
def test_id_map_round_trip(inside: int, outside: int, size: int) -> None:
    want = {"containerID": inside, "hostID": outside, "size": size}
    assert values.parse_id_map(f"{inside}:{outside}:{size}", "--uidmap") == want


def test_a_volume_is_a_recursive_bind(tmp_path: Path) -> None:
    asked = mounts.parse_volume(f"{tmp_path}/new:/data/../x:ro")
    made = asked.entry()
    assert asked.make and not (tmp_path / "new").exists()  # that is for who makes the container
    options = ["rbind", "rprivate", "rro"]
    assert made == {"destination": "/x", "type": "bind", "source": f"{tmp_path}/new", "options": options}


@pytest.mark.parametrize("bad", ["/etc:relative", "/etc:/", "/etc:/x/..", "n:/x", ":/x", "a:b:c:d",
                                 "na/me:/x", "etc", "/", "/etc:/x:nosuch", "/etc:/x:nocopy", "name:/x:shared"])  # fmt: skip
def test_a_bad_volume_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        mounts.parse_volume(bad)


def test_a_volume_by_name_and_one_without() -> None:
    assert mounts.parse_volume("/y:/x:cached").as_dict() == {**mounts.parse_volume("/y:/x").as_dict(), "where": "-v /y:/x:cached"}
    named, without = mounts.parse_volume("data:/x:ro,nocopy"), mounts.parse_volume("/x/y")
    assert (named.kind, named.source, named.read_only, named.nocopy, named.anonymous) == ("volume", "data", True, True, False)
    assert (without.kind, without.source, without.target, without.anonymous) == ("volume", "", "/x/y", True)
    again = mounts.Request(**named.as_dict())
    assert again.as_dict() == named.as_dict()


def test_a_volume_in_all_its_fields() -> None:
    options = '"volume-opt=o=size=1m,uid=5",volume-opt=type=tmpfs'
    made = mounts.parse_mount(f"type=volume,src=data,dst=/x,volume-nocopy,volume-subpath=a/b,volume-label=k=v,{options}")
    assert (made.source, made.nocopy, made.subpath, made.labels) == ("data", True, "a/b", {"k": "v"})
    assert made.driver_options == {"o": "size=1m,uid=5", "type": "tmpfs"}


def test_mount_fields(tmp_path: Path) -> None:
    made = mounts.parse_mount(f"type=bind,source={tmp_path},target=/x,readonly").entry()
    assert made == {"destination": "/x", "type": "bind", "source": str(tmp_path), "options": ["rbind", "rprivate", "rro"]}
    assert "size=1048576" in mounts.parse_mount("type=tmpfs,target=/x,tmpfs-size=1m").options


@pytest.mark.parametrize(
    "bad", ["type=bind,target=/x", "type=bind,src=/no/such,dst=/x", "type=tmpfs", "type=tmpfs,target=/", "type=x,dst=/x",
            "type=tmpfs,dst=/x,nosuch=1", "type=bind,src=/etc,dst=/x,bind-propagation=nosuch", "",
            "src=a,dst=/x", "src=aa,dst=/x,volume-subpath=../y", "src=aa,dst=/x,volume-subpath=/y", "src=aa,dst=/x,tmpfs-size=1",
            "type=bind,src=/etc,dst=/x,volume-nocopy", "src=aa,dst=/x,volume-driver=nfs", 'src=aa,"dst=/x'],
)  # fmt: skip
def test_a_bad_mount_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        mounts.parse_mount(bad)


@pytest.mark.parametrize("bad", ["/", "relative", "/..", "", "//"])
def test_a_tmpfs_over_the_root_is_refused(bad: str) -> None:
    with pytest.raises(UsageError):
        mounts.parse_tmpfs(bad)


def test_io_max_names_the_device() -> None:
    made = values.parse_io_max("/dev/null:rbps=1m,wiops=5")
    assert made == {"major": 1, "minor": 3, "rbps": 1 << 20, "wiops": 5}


def test_a_device_is_read_from_the_host_s_node() -> None:
    made = values.parse_device("/dev/full:/dev/mine:rw")
    assert (made["path"], made["type"], made["major"], made["minor"]) == ("/dev/mine", "c", 1, 7)


def test_a_number_of_5000_digits_is_no_user() -> None:
    assert parse_passwd("a:x:" + "9" * 5000 + ":0::/") == []


def test_passwd_and_group_lines() -> None:
    assert parse_passwd("root:x:0:0:r:/root:/bin/sh\nbad:x:-1:0::/\n\nb:x:7:8::/b") == [("root", 0, 0, "/root"), ("b", 7, 8, "/b")]
    assert parse_group("a:x:5:x,y\nbad\nb:x:6:") == [("a", 5, ["x", "y"]), ("b", 6, [])]
