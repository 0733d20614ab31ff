"""The default profile does what podman's does, for every call, calling convention and argument rule.

The measure is seccomp.json of Debian's golang-github-containers-common, judged three ways: by the
meaning of its JSON, compiled by libseccomp, and compiled here.
"""

import json
import os

import pytest
from test_seccomp_oracles import judge, libseccomp, needs_libseccomp, run

from minirt.linux import seccomp
from minirt.linux.capabilities import DEFAULT, NAMES
from minirt.linux.seccomp import tables
from minirt.linux.seccomp.engines import resolve
from minirt.linux.seccomp.profile import ACTIONS

THEIRS = "/usr/share/containers/seccomp.json"

# Of bookworm's version (0.50) nothing differs. Later ones know these too; each is left as in 0.50 until Debian stable's
# oldest supported release has moved on. A name here that no longer differs fails the test.
LATER = {
    "bpf": "allowed with CAP_BPF too",
    "perf_event_open": "allowed with CAP_PERFMON, not with CAP_SYS_ADMIN",
    "quotactl_fd": "as quotactl",
    "fchmodat2": "allowed",
    "riscv_flush_icache": "allowed on riscv64",
    "swapcontext": "allowed on ppc64le",
    **dict.fromkeys(["readdir", "sigaction", "sigpending", "sigsuspend", "timerfd"], "no longer listed"),
    "syscall": "EPERM",
    **dict.fromkeys(["cachestat", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake"], "EPERM"),
    **dict.fromkeys(["io_pgetevents_time64", "map_shadow_stack"], "EPERM"),
}

ALONE = [
    *(
        "CAP_DAC_READ_SEARCH",
        "CAP_SYS_ADMIN",
        "CAP_SYS_CHROOT",
        "CAP_SYS_MODULE",
        "CAP_SYS_PACCT",
        "CAP_SYS_PTRACE",
    ),
    *("CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_AUDIT_WRITE", "CAP_BPF", "CAP_PERFMON"),
]
SETS = {"none": [], "docker": list(DEFAULT), "all": list(NAMES), **{name: [name] for name in ALONE}}
MACHINES = ["x86_64", "i686", "aarch64", "riscv64", "ppc64le", "s390x", "mips64"]


def theirs():
    """The packaged profile, and the names that it is known to treat otherwise."""
    if not os.path.exists(THEIRS):
        pytest.skip(f"{THEIRS} is missing: install golang-github-containers-common")
    with open(THEIRS) as file:
        profile = json.load(file)
    later = any("fchmodat2" in entry["names"] for entry in profile["syscalls"])
    return profile, set(LATER) if later else set()


def arguments(name):
    """Arguments that reach every side of every argument rule of both profiles."""
    if name == "personality":
        return [[value] for value in (0, 1, 8, 9, 0x20000, 0x20008, 0x40000, 2**32 - 1, 2**32, 2**32 + 8, 2**64 - 1)]
    if name == "socket":
        return [[family, 0, protocol] for family in (1, 2, 16, 40, 2**32 + 16) for protocol in (0, 9, 2**32 + 9)]
    if name in ("socketcall", "ipc"):
        return [[function, 16, 9] for function in range(25)]
    return [[], [1, 16, 9]]


def calls(machine, profile):
    """Every call of every convention that a filter knows: name, convention, number as in seccomp_data."""
    for arch in map(tables.architecture, {tables.native(machine).name: 0, **dict.fromkeys(profile["architectures"])}):
        base = tables.X32_BIT if arch.column == "x32" else 0
        table = tables.numbers(arch.column)
        for name, number in table.items():
            yield name, arch, base + number
        for gap in set(range(700)) - set(table.values()):
            yield "", arch, base + gap


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("capabilities", SETS.values(), ids=SETS.keys())
def test_ours_equals_podmans_in_every_verdict(machine, capabilities):
    profile, different = theirs()
    ours = seccomp.resolve(seccomp.default_profile(), capabilities, machine)
    packaged = resolve(profile, capabilities, machine)
    program = seccomp.compile(ours, arch=machine).program
    theirs_here = seccomp.compile(packaged, arch=machine).program
    order, native = tables.native(machine).order, tables.native(machine).name
    differ = set()
    for name, arch, number in calls(machine, ours):
        for args in arguments(name):
            words = [value % 2**32 for value in args] if arch.column in ("x86", "arm", "s390", "mips") else args
            said = run(program, number, arch.audit, words, order)
            convention = "SCMP_ARCH_X86_64" if arch.column == "x32" else arch.name
            assert said == judge(ours, convention, number, words, native), (name, arch.name)
            meant = judge(packaged, convention, number, words, native)
            assert run(theirs_here, number, arch.audit, words, order) == meant, (name, arch.name)
            if said != meant:
                differ.add(name)
    assert differ <= different


def test_no_difference_is_listed_that_does_not_exist():
    profile, different = theirs()
    unlike = set()
    for machine in MACHINES:
        for capabilities in SETS.values():
            ours = seccomp.resolve(seccomp.default_profile(), capabilities, machine)
            packaged = resolve(profile, capabilities, machine)
            native = tables.native(machine).name
            for name, arch, number in calls(machine, ours):
                if name not in different - unlike or arch.column == "x32":
                    continue
                if judge(ours, arch.name, number, (), native) != judge(packaged, arch.name, number, (), native):
                    unlike.add(name)
    assert unlike == different


@pytest.mark.parametrize("capabilities", SETS.values(), ids=SETS.keys())
def test_libseccomp_makes_the_same_of_podmans(capabilities):
    needs_libseccomp()
    profile, different = theirs()
    packaged = resolve(profile, capabilities, "x86_64")
    reference = libseccomp(packaged, optimize=True)
    program = seccomp.compile_default(capabilities, "x86_64").program
    for name, arch, number in calls("x86_64", packaged):
        if name in different:
            continue
        for args in arguments(name):
            words = [value % 2**32 for value in args] if arch.column == "x86" else args
            assert run(program, number, arch.audit, words) == run(reference, number, arch.audit, words), (
                name,
                args,
            )


def test_every_name_in_the_default_profile_exists_somewhere():
    known = {name for column in tables._table()[1][1:] for name in tables.numbers(column)}
    assert {name for entry in seccomp.default_profile()["syscalls"] for name in entry["names"]} <= known


def test_every_group_of_the_default_profile_says_why():
    entries = seccomp.default_profile()["syscalls"]
    assert all(len(entry["comment"]) > 15 and entry["action"] in ACTIONS for entry in entries)
    assert all(entry["names"] == sorted(set(entry["names"])) for entry in entries)


def test_what_a_learner_would_ask():
    profile = seccomp.default_profile()
    assert seccomp.verdict(profile, "mkdir") == "SCMP_ACT_ALLOW"
    assert seccomp.verdict(profile, "bpf") == "SCMP_ACT_ERRNO(EPERM)"
    assert seccomp.verdict(profile, "bpf", [], ["CAP_SYS_ADMIN"]) == "SCMP_ACT_ALLOW"
    assert seccomp.verdict(profile, "io_uring_setup") == "SCMP_ACT_ERRNO(ENOSYS)"
    assert seccomp.verdict(profile, "personality", [0x40000], arch="x86_64") == "SCMP_ACT_ERRNO(ENOSYS)"
    assert seccomp.verdict(profile, "socket", [16, 3, 9]) == "SCMP_ACT_ERRNO(EINVAL)"
