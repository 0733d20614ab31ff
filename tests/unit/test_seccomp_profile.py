"""Reading profiles: what is refused and where, what engines' conditions come to, what is kept on disk."""

import copy
import doctest
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.linux import seccomp
from minirt.linux.seccomp import SeccompError, bpf, cache
from minirt.linux.seccomp.engines import is_engine_format, resolve

GOOD = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["personality"],
            "action": "SCMP_ACT_ALLOW",
            "args": [{"index": 0, "value": 8, "valueTwo": 0, "op": "SCMP_CMP_EQ"}],
        },
    ],
}


def changed(path, value):
    """GOOD with one thing in it changed; a value of ... takes it away."""
    profile = copy.deepcopy(GOOD)
    *steps, last = path
    owner = profile
    for step in steps:
        owner = owner[step]
    if value is ...:
        del owner[last]
    else:
        owner[last] = value
    return profile


CALL, ARG = ("syscalls", 1), ("syscalls", 1, "args", 0)
BAD = [
    (("defaultAction",), ..., ".defaultAction: missing"),
    (("defaultAction",), "SCMP_ACT_MAYBE", ".defaultAction: unknown action 'SCMP_ACT_MAYBE'"),
    (("defaultAction",), None, ".defaultAction: unknown action None"),
    (("defaultErrnoRet",), 4096, ".defaultErrnoRet: must be a whole number from 0 to 4095"),
    (("architectures",), "SCMP_ARCH_X86", ".architectures: must be a list"),
    (("architectures", 1), "SCMP_ARCH_Z80", ".architectures[1]: unknown architecture 'SCMP_ARCH_Z80'"),
    (("architectures", 1), "SCMP_ARCH_S390X", ".architectures[1]: SCMP_ARCH_S390X has another byte order"),
    (("architectures", 1), 7, ".architectures[1]: must be a string"),
    (("flags",), ["SECCOMP_FILTER_FLAG_FAST"], ".flags[0]: unknown flag 'SECCOMP_FILTER_FLAG_FAST'"),
    (("listenerMetadata",), "x", ".listenerMetadata: must not be set where listenerPath is not"),
    (("syscalls",), {}, ".syscalls: must be a list"),
    (CALL, "read", ".syscalls[1]: must be an object"),
    ((*CALL, "names"), ..., ".syscalls[1].names: needs at least one name"),
    ((*CALL, "names"), [], ".syscalls[1].names: needs at least one name"),
    ((*CALL, "names"), [""], ".syscalls[1].names: needs at least one name"),
    ((*CALL, "names"), [1], ".syscalls[1].names[0]: must be a string"),
    ((*CALL, "action"), ..., ".syscalls[1].action: missing"),
    ((*CALL, "action"), "ALLOW", ".syscalls[1].action: unknown action 'ALLOW'"),
    ((*CALL, "errnoRet"), 5, ".syscalls[1].errnoRet: SCMP_ACT_ALLOW returns no errno"),
    ((*CALL, "args"), {}, ".syscalls[1].args: must be a list"),
    ((*ARG, "index"), 6, ".syscalls[1].args[0].index: must be a whole number from 0 to 5"),
    ((*ARG, "index"), True, ".syscalls[1].args[0].index: must be a whole number from 0 to 5"),
    ((*ARG, "index"), ..., ".syscalls[1].args[0].index: missing"),
    ((*ARG, "op"), "SCMP_CMP_ISH", ".syscalls[1].args[0].op: unknown operator 'SCMP_CMP_ISH'"),
    ((*ARG, "op"), ..., ".syscalls[1].args[0].op: missing"),
    ((*ARG, "value"), -1, ".syscalls[1].args[0].value: must be a whole number"),
    ((*ARG, "value"), 2**64, ".syscalls[1].args[0].value: must be a whole number"),
    ((*ARG, "valueTwo"), "8", ".syscalls[1].args[0].valueTwo: must be a whole number"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD)
def test_a_bad_profile_names_the_place(path, value, message):
    with pytest.raises(SeccompError) as caught:
        seccomp.compile(changed(path, value), arch="x86_64")
    assert str(caught.value).startswith("linux.seccomp" + message)
    assert "\n" not in str(caught.value)


def test_a_profile_must_be_an_object():
    with pytest.raises(SeccompError, match=r"^linux\.seccomp: must be an object, not list$"):
        seccomp.compile([], arch="x86_64")  # type: ignore[arg-type]


def test_an_unknown_machine_is_named():
    with pytest.raises(SeccompError, match="vax"):
        seccomp.compile(GOOD, arch="vax")


def test_unknown_names_are_skipped_and_told():
    profile = changed(("syscalls", 0, "names"), ["read", "socketcall", "open_sesame"])
    assert seccomp.compile(profile, arch="x86_64").skipped == ("open_sesame",)


@pytest.mark.parametrize(
    ("profile", "flags"),
    [
        ({}, 4),  # as runc and crun: SPEC_ALLOW where nothing is said
        ({"flags": []}, 0),
        ({"flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"]}, 3),
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]}, 0),  # EINVAL without a listener
        ({"flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "notify": True}, 8 | 32),
        ({"flags": ["SECCOMP_FILTER_FLAG_TSYNC"], "notify": True}, 1 | 8 | 16),
    ],
)
def test_flags_are_those_of_seccomp_2(profile, flags):
    action = "SCMP_ACT_NOTIFY" if profile.pop("notify", False) else "SCMP_ACT_LOG"
    entries = [{"names": ["mkdir"], "action": action}]
    made = seccomp.compile({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": entries, **profile})
    assert made.flags == flags
    assert made.notifies == bool(flags & 8)


def engine(**conditions):
    """An engines' profile whose one entry holds under these conditions."""
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW", **conditions}],
    }


@pytest.mark.parametrize(
    ("conditions", "holds"),
    [
        ({}, True),
        ({"includes": {"caps": ["CAP_BPF"]}}, True),
        ({"includes": {"caps": ["CAP_BPF", "CAP_KILL"]}}, False),
        ({"excludes": {"caps": ["CAP_BPF", "CAP_KILL"]}}, False),
        ({"excludes": {"caps": ["CAP_KILL"]}}, True),
        ({"includes": {"arches": ["amd64", "arm"]}}, True),
        ({"includes": {"arches": ["arm64"]}}, False),
        ({"excludes": {"arches": ["amd64"]}}, False),
        ({"includes": {"minKernel": "4.8"}}, True),
        ({"includes": {"minKernel": "6.2"}}, False),
        ({"excludes": {"minKernel": "4.8"}}, False),
        ({"includes": {}, "excludes": None}, True),
    ],
)
def test_conditions_of_engines_are_decided(conditions, holds):
    resolved = resolve(engine(**conditions), ["CAP_BPF"], "x86_64", "6.1.0-13-amd64")
    assert len(resolved["syscalls"]) == holds


def test_what_is_resolved_is_plain_oci():
    resolved = resolve(engine(comment="why", errno="EINVAL", includes={}, action="SCMP_ACT_ERRNO"), [], "x86_64")
    assert resolved["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert resolved["syscalls"] == [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22}]
    null = resolve(engine(errno=None, action="SCMP_ACT_ERRNO"), [], "x86_64")
    assert null["syscalls"] == [{"names": ["bpf"], "action": "SCMP_ACT_ERRNO"}], "as absent"
    silent = resolve(engine(errno="EINVAL", action="SCMP_ACT_ALLOW"), [], "x86_64")
    assert silent["syscalls"] == [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW"}]
    assert not is_engine_format(resolved) and is_engine_format(engine())
    assert resolve(resolved, [], "x86_64") == resolved


def test_a_machine_that_archmap_lacks_gets_its_own_convention_only():
    assert resolve(engine(), [], "riscv64")["architectures"] == []


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (engine(includes={"phase": "full"}), r"^profile\.syscalls\[0\]\.includes: unknown condition 'phase'$"),
        (
            engine(includes={"minKernel": "new"}),
            r"^profile\.syscalls\[0\]\.includes\.minKernel: not a kernel",
        ),
        (engine(errno="EWHAT"), r"^profile\.syscalls\[0\]\.errno: unknown errno 'EWHAT'$"),
        (engine(name="read"), r"^profile\.syscalls\[0\]\.name: must not be set together with names$"),
        ({**engine(), "architectures": ["SCMP_ARCH_X86"]}, r"^profile\.archMap: must not be set together"),
    ],
)
def test_a_bad_engine_profile_names_the_place(profile, message):
    with pytest.raises(SeccompError, match=message):
        resolve(profile, [], "x86_64", "6.1.0")


def test_docker_s_old_single_name_is_taken():
    profile = engine()
    profile["syscalls"] = [{"name": "bpf", "action": "SCMP_ACT_ALLOW"}]
    assert resolve(profile, [], "x86_64")["syscalls"] == [{"names": ["bpf"], "action": "SCMP_ACT_ALLOW"}]


def test_a_filter_from_the_cache_is_the_one_compiled(tmp_path):
    folder = str(tmp_path / "new" / "seccomp")
    first = seccomp.compile(GOOD, cache=folder)
    (kept,) = os.listdir(folder)
    second = seccomp.compile(copy.deepcopy(GOOD), cache=folder)
    assert (second.program, second.flags, second.skipped) == (first.program, first.flags, first.skipped)
    assert os.listdir(folder) == [kept]
    assert os.stat(os.path.join(folder, kept)).st_mode & 0o777 == 0o600


def test_names_that_no_call_could_have_survive_the_cache(tmp_path):
    profile = changed(("syscalls", 0, "names"), ["a b", "\ud800", "read"])
    first, second = (seccomp.compile(profile, cache=str(tmp_path)) for _ in range(2))
    assert first.skipped == second.skipped == ("a b", "\ud800")


def test_another_profile_machine_or_compiler_has_another_key(monkeypatch):
    keys = {
        cache.key_of(GOOD, "x86_64"),
        cache.key_of(GOOD, "i686"),
        cache.key_of(changed(("defaultErrnoRet",), 1), "x86_64"),
    }
    monkeypatch.setattr(cache, "_version", b"another compiler")
    assert len(keys | {cache.key_of(GOOD, "x86_64")}) == 4


@pytest.mark.parametrize("harm", ["cut", "flip", "empty", "other", "writable", "link"])
def test_a_damaged_or_foreign_cache_file_is_not_used(tmp_path, harm):
    folder, key = str(tmp_path), cache.key_of(harm)
    assert cache.store(folder, key, b"\x06\0\0\0\0\0\xff\x7f", 4, ("a", "b"))
    assert cache.load(folder, key) == (b"\x06\0\0\0\0\0\xff\x7f", 4, ("a", "b"))
    path = tmp_path / key.hex()
    data = path.read_bytes()
    if harm == "cut":
        path.write_bytes(data[:-1])
    elif harm == "flip":
        path.write_bytes(data[:-6] + b"\x01" + data[-5:])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "other":
        key = cache.key_of("another profile")
        path.rename(tmp_path / key.hex())
    elif harm == "writable":
        path.chmod(0o622)
    else:
        path.rename(tmp_path / "aside")
        path.symlink_to(tmp_path / "aside")
    assert cache.load(folder, key) is None


@pytest.mark.parametrize("folder", ["/proc/none", "/dev/null/x"])
def test_a_cache_that_cannot_be_written_costs_only_time(folder):
    assert seccomp.compile(GOOD, cache=folder).instructions
    assert cache.store(folder, b"k" * 32, b"p" * 8, 0, ()) is False


def test_a_cached_filter_needs_neither_compiler_nor_json(tmp_path):
    script = (
        "import sys; from minirt.linux import seccomp;"
        f"made = seccomp.compile_default(['CAP_KILL'], cache={str(tmp_path)!r});"
        "print(made.instructions, *[name in sys.modules for name in ('json', 're', 'minirt.linux.seccomp.compiler')])"
    )
    command = [sys.executable, "-S", "-c", script]
    root = os.path.dirname(os.path.dirname(os.path.dirname(seccomp.__file__)))
    environment = {"PYTHONPATH": os.path.dirname(root)}
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert first[0] == second[0]
    assert second[1:] == ["False", "False", "False"]


def test_a_filter_can_be_read():
    made = seccomp.compile(GOOD, arch="x86_64")
    lines = seccomp.disassemble(made)
    assert len(lines) == made.instructions
    assert lines[0].split(None, 1)[1] == "A = arch"
    assert any("return SCMP_ACT_ERRNO(ENOSYS)" in line for line in lines)


def test_a_profile_is_told_in_a_few_lines():
    made = seccomp.compile(GOOD, arch="x86_64")
    assert seccomp.explain(GOOD, made, arch="x86_64") == [
        f"1 filter, {made.instructions} instructions of at most {bpf.MAX_INSTRUCTIONS}, "
        "for SCMP_ARCH_X86_64 and SCMP_ARCH_X86",
        "2 calls SCMP_ACT_ALLOW: read, write",
        "1 call by argument: personality",
        "all others SCMP_ACT_ERRNO(ENOSYS)",
    ]


def test_a_verdict_follows_arguments_and_capabilities():
    assert seccomp.verdict(GOOD, "personality", [8], arch="x86_64") == "SCMP_ACT_ALLOW"
    assert seccomp.verdict(GOOD, "personality", [9], arch="x86_64") == "SCMP_ACT_ERRNO(ENOSYS)"
    gated = engine(includes={"caps": ["CAP_BPF"]})
    assert seccomp.verdict(gated, "bpf", [], ["CAP_BPF"], "x86_64") == "SCMP_ACT_ALLOW"
    with pytest.raises(SeccompError, match="no such system call"):
        seccomp.verdict(GOOD, "open_sesame")


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
rubbish = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
)


def places(value, path=()):
    """Every path in a JSON value, the root's first."""
    yield path
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in pairs:
        yield from places(inner, (*path, key))


WHOLE = {
    **GOOD,
    **engine(includes={"caps": ["CAP_KILL"], "minKernel": "4.8"}, excludes={"arches": ["arm"]}),
    "flags": [],
}
del WHOLE["architectures"]
WHOLE["syscalls"] = [*WHOLE["syscalls"], *GOOD["syscalls"]]


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(places(WHOLE))), rubbish)
def test_rubbish_anywhere_is_taken_or_refused_in_one_line(path, value):
    profile = copy.deepcopy(WHOLE)
    owner = profile
    for step in path[:-1]:
        owner = owner[step]
    if path:
        owner[path[-1]] = value
    else:
        profile = value
    try:
        seccomp.compile(profile, ["CAP_KILL"], "x86_64")
    except SeccompError as error:
        assert "\n" not in str(error) and str(error).startswith("linux.seccomp")


def test_the_examples_in_the_room_s_description_are_true():
    assert doctest.testmod(seccomp).failed == 0
