"""config.json's mounts to records: what options come to, and that no path of the image is named where it could lead out."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci.compile import compile_plan
from minirt.oci.options import OPTIONS, Mount, read_mounts
from minirt.oci.spec import default_spec
from minirt.oci.step import Context, Overlay
from minirt.oci.targets import HOW_SIZE, how
from minirt.plan.decode import call_text, describe
from minirt.plan.lower import lower
from minirt.plan.record import Label, Record, Words


def mount(*options: str, **entry: Any) -> Mount:
    return Mount({"destination": "/x", "source": "/y", "type": "none", "options": list(options), **entry}, "mounts[0]")


# -- options -------------------------------------------------------------------------------------------------

SPECIFICATION = """async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev nodiratime noexec
noiversion nolazytime norelatime nostrictatime nosuid nosymfollow private ratime rbind rdev rdiratime relatime remount rexec
rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared
rslave rstrictatime rsuid rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable
idmap ridmap mand nomand"""


def test_every_option_of_the_specification_is_known() -> None:
    assert set(SPECIFICATION.split()) <= set(OPTIONS)
    for option in OPTIONS:
        assert mount("rbind", option).data == [], option


PAIRS = {  # option that sets -> that clears -> the kernel's flag
    ("ro", "rw"): k.MS_RDONLY, ("nosuid", "suid"): k.MS_NOSUID, ("nodev", "dev"): k.MS_NODEV, ("noexec", "exec"): k.MS_NOEXEC,
    ("sync", "async"): k.MS_SYNCHRONOUS, ("mand", "nomand"): k.MS_MANDLOCK, ("noatime", "atime"): k.MS_NOATIME,
    ("nodiratime", "diratime"): k.MS_NODIRATIME, ("relatime", "norelatime"): k.MS_RELATIME,
    ("strictatime", "nostrictatime"): k.MS_STRICTATIME, ("lazytime", "nolazytime"): k.MS_LAZYTIME,
    ("silent", "loud"): k.MS_SILENT, ("iversion", "noiversion"): k.MS_I_VERSION, ("nosymfollow", "symfollow"): k.MS_NOSYMFOLLOW,
}  # fmt: skip


@given(st.lists(st.sampled_from([name for pair in PAIRS for name in pair])))
def test_of_two_that_contradict_the_last_one_counts(options: list[str]) -> None:
    flags = cleared = 0
    for (sets, clears), flag in PAIRS.items():
        said = [option for option in options if option in (sets, clears)]
        if said:
            flags |= flag if said[-1] == sets else 0
            cleared |= flag if said[-1] == clears else 0
    read = mount(*options)
    assert (read.flags, read.cleared) == (flags, cleared)


@given(st.lists(st.sampled_from(OPTIONS)), st.booleans())
def test_attributes_are_what_mount_setattr_takes(options: list[str], keep: bool) -> None:
    read = mount("bind", *options)
    known = (
        k.MOUNT_ATTR_RDONLY | k.MOUNT_ATTR_NOSUID | k.MOUNT_ATTR_NODEV | k.MOUNT_ATTR_NOEXEC | k.MOUNT_ATTR__ATIME
        | k.MOUNT_ATTR_NODIRATIME | k.MOUNT_ATTR_NOSYMFOLLOW
    )  # fmt: skip
    for wanted, cleared in (read.attributes(keep), (read.recursive_set, read.recursive_clear)):
        assert not (wanted | cleared) & ~known
        assert cleared & k.MOUNT_ATTR__ATIME in (0, k.MOUNT_ATTR__ATIME)  # one value: all of it or nothing (man 2 mount_setattr)
        if wanted & k.MOUNT_ATTR__ATIME:
            assert cleared & k.MOUNT_ATTR__ATIME
            assert wanted & k.MOUNT_ATTR__ATIME in (k.MOUNT_ATTR_NOATIME, k.MOUNT_ATTR_STRICTATIME)
        assert not wanted & cleared & ~k.MOUNT_ATTR__ATIME
    if keep:  # nothing is cleared that no option names
        assert not read.attributes(True)[1] & ~(read.attributes(False)[1])


@given(st.lists(st.text("abcdefgh=,:0123456789-", min_size=1).filter(lambda o: o not in OPTIONS)))
def test_what_is_unknown_is_the_file_system_s(options: list[str]) -> None:
    assert mount(*options).data == options


@pytest.mark.parametrize(("entry", "message"), [
    ({"options": ["idmap"]}, r"mounts\[0\]\.options: idmap is for bind mounts"),
    ({"options": ["bind"], "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}]}, "must be given together"),
])  # fmt: skip
def test_what_cannot_be_names_its_place(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(MinirtError, match=message):
        read_mounts({"mounts": [{"destination": "/x", "type": "tmpfs", "source": "/y", **entry}]})


# -- records -------------------------------------------------------------------------------------------------

PLACES = ["/data", "/data/x/y", "/etc/hosts", "/dev/mine", "/dev/a/b", "/run", "x/../y", "/sys/fs/cgroup", "/proc/cpuinfo", "/dev"]
ENTRIES = st.builds(
    lambda place, source, options, kind: {"destination": place, "source": source, "type": kind, "options": options},
    st.sampled_from(PLACES),
    st.sampled_from(["/etc", "/etc/passwd", "relative", "tmpfs"]),
    st.lists(st.sampled_from([o for o in OPTIONS if "idmap" not in o]), max_size=5),
    st.sampled_from(["none", "bind", "tmpfs", "cgroup", "mqueue", "ext4"]),
).map(lambda e: {**e, "options": [*e["options"], "bind"]} if e["type"] in ("none", "bind") else e)
DEVICES = st.builds(
    lambda path, kind: {"path": path, "type": kind, "major": 1, "minor": 5},
    st.sampled_from(["/dev/null", "/dev/x", "/data/x", "/deep/er/x"]),
    st.sampled_from("cubp"),
)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    config = default_spec()
    config["process"]["args"] = ["/bin/true"]
    config["process"]["terminal"] = draw(st.booleans())
    config["process"]["cwd"] = draw(st.sampled_from(["/", "/a/b", "/proc/self/fd/7"]))
    config["mounts"] = draw(st.permutations(config["mounts"])) if draw(st.booleans()) else config["mounts"]
    config["mounts"] += draw(st.lists(ENTRIES, max_size=4))
    linux = config["linux"]
    linux["devices"] = draw(st.lists(DEVICES, max_size=3))
    linux["sysctl"] = draw(st.sampled_from([{}, {"net.ipv4.ip_forward": "1"}]))
    linux["rootfsPropagation"] = draw(st.sampled_from(["", "shared", "rslave", "private"]))
    if draw(st.booleans()):
        linux["namespaces"].append({"type": "user"})
    overlay = Overlay(["/l"], "/u", "/w", "/r") if draw(st.booleans()) else None
    return Context(config, "/b", overlay, no_pivot=draw(st.booleans()), null_fds=draw(st.sampled_from([(), (0, 2)])))


NAMED = {"mkdirat": (0, 1), "mknodat": (0, 1), "symlinkat": (1, 2), "unlinkat": (0, 1), "fchownat": (0, 1), "move_mount": (2, 3),
         "fchmodat": (0, 1)}  # fmt: skip


def named(record: Record) -> str:
    """Return the path of the container that a record makes or changes something at, if it names one."""
    if record.call == "mount" and record.step not in ("masked", "readonly", "propagation", "pivot_root"):
        return str(record.args[1])
    at, path = NAMED.get(record.call, (-1, -1))
    return str(record.args[path]) if at >= 0 and record.args[at] == k.AT_FDCWD else ""


@settings(deadline=None, max_examples=300)
@given(contexts())
def test_paths_that_the_image_could_have_prepared_are_never_named(context: Context) -> None:
    """Of two components and more only below what this plan has mounted, and as long as nothing of another's is there."""
    plan = compile_plan(context)
    records = plan.records
    start = next(i for i, r in enumerate(records) if r.call == "chroot" or (r.step == "old_root" and r.call == "umount2"))
    ours: set[str] = set()
    opened = ""
    for record in records[start:]:
        if record.call == "openat2" and isinstance(record.args[1], str):
            flags, _, resolve = struct.unpack("<QQQ", record.args[2])  # type: ignore[arg-type]
            assert record.args[3] == HOW_SIZE and flags & k.O_CLOEXEC
            assert resolve & (k.RESOLVE_NO_MAGICLINKS | k.RESOLVE_NO_SYMLINKS), call_text(record)
            opened = record.args[1]
        if record.call in ("openat", "newfstatat") and record.args[0] == k.AT_FDCWD:
            opened = str(record.args[1])
        path = named(record)
        if path and not path.startswith("/"):
            assert path == "." or record.step in ("masked", "readonly"), call_text(record)  # of the working directory
            path = ""
        made = record.call in ("mkdirat", "mknodat", "symlinkat", "unlinkat", "fchownat")
        assert not (made and context.shared_root and path.count("/") > 1), call_text(record)
        if path.count("/") > 1:
            above = path
            while above not in ours:
                above = os.path.dirname(above)
                assert above != "/", f"{call_text(record)} in step {record.step}, ours: {ours}"
        foreign = record.call == "move_mount" and record.step.startswith("mount:")
        if record.call == "mount" and record.args[2] in ("tmpfs", "sysfs", "devpts", "mqueue", "cgroup2"):
            target = path or opened
            if target in ("/dev", "/sys") or any(target.startswith(f"{one}/") for one in ours):
                ours.add(target)
        elif record.call == "move_mount" and record.step == "sys":
            ours.add("/sys")  # in a user namespace it was made before pivot_root
        elif foreign and path:
            ours.discard(path)


@settings(deadline=None, max_examples=150)
@given(contexts())
def test_any_configuration_lowers_and_can_be_told(context: Context) -> None:
    plan = compile_plan(context)
    labels = [item.name for item in plan.items if isinstance(item, Label)]
    assert len(labels) == len(set(labels))
    assert lower(plan).image and list(describe(plan))
    jumps = [r for r in plan.records if r.call == "check" and r.otherwise]
    assert all(any(r.otherwise.values()) for r in jumps)
    setattrs = [r.args[3] for r in plan.records if r.call == "mount_setattr"]
    assert all(isinstance(words, Words) and words.size == 32 for words in setattrs)


@settings(deadline=None, max_examples=100)
@given(contexts())
def test_what_is_taken_from_the_host_is_taken_before_its_root_is_gone(context: Context) -> None:
    plan = compile_plan(context)
    records = plan.records
    pivot = next(i for i, r in enumerate(records) if r.step == "pivot_root")
    for i, record in enumerate(records):
        if record.call == "open_tree" and record.args[0] == k.AT_FDCWD:
            assert i < pivot, call_text(record)


def test_a_default_container_is_not_longer_for_it() -> None:
    """The checks cost it two calls: one for /dev, one look at /dev/null."""
    config = default_spec()
    config["process"] |= {"args": ["/bin/true"], "env": ["HOME=/"]}
    plan = compile_plan(Context(config, "/b", Overlay(["/l"], "/u", "/w", "/r")))
    calls = [r.call for r in plan.records]
    assert not plan.barriers
    assert calls.count("openat2") == calls.count("fchdir") == calls.count("statfs") == 0
    assert calls.count("newfstatat") == 4


def test_how_is_the_kernel_s_structure() -> None:
    assert how(k.O_PATH, 0o644, 3) == struct.pack("=QQQ", k.O_PATH | k.O_CLOEXEC, 0o644, 3)
    assert len(how(0)) == HOW_SIZE


def test_nothing_heavy_is_loaded_for_a_plan() -> None:
    import subprocess
    import sys

    program = (
        "import sys; before = set(sys.modules)\n"
        "from minirt.oci.compile import compile_plan; from minirt.oci.step import Context\n"
        "from minirt.oci.spec import default_spec; from minirt.oci import parent\n"
        "c = default_spec(); c['process']['args'] = ['/x']; compile_plan(Context(c, '/b'))\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    here = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {[str(here), *sys.path]!r}\n{program}"],
                          capture_output=True, text=True, timeout=60)  # fmt: skip
    assert done.returncode == 0, done.stderr
    heavy = {"re", "json", "typing", "argparse", "dataclasses", "enum", "pathlib", "logging", "socket", "tempfile", "subprocess"}
    assert not heavy & set(done.stdout.split())
