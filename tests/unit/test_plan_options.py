"""Whatever valid options are asked for: the plan's steps are in a legal order, and it can be lowered, whole or cut."""

from __future__ import annotations

import ctypes
import os
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minirt.engine.context import INIT
from minirt.engine.options import RunOptions
from minirt.engine.spec import make_spec
from minirt.errors import UsageError
from minirt.linux import constants as k
from minirt.oci.compile import compile_plan
from minirt.oci.step import Context, Overlay
from minirt.plan import Plan
from minirt.plan.cut import ALWAYS, SAFETY, cut, inject
from minirt.plan.decode import FLAGS, call_text, describe, flags_text, plan_as_dict
from minirt.plan.layout import CAPACITY, EXTENT_AT, HEADER, HEADER_AT, OUTCOME, RECORD, USED_AT
from minirt.plan.lower import lower

pytestmark = pytest.mark.timeout(120)

PLAN_H = Path(__file__).parents[2] / "csrc" / "plan" / "plan.h"
FILTER = (bytes(16), 0)

CHOICES = {
    "command": [["true"], ["/bin/true"], ["sh", "-c", "a b"]],
    "hostname": ["", "box"],
    "env": [[], ["A=b"], ["HOME=/x"], ["A=b", "PATH=/bin"]],
    "workdir": ["", "/", "/a/b/c", "/proc/self"],
    "user": ["", "0", "nobody", "1000:1000"],
    "group_add": [[], ["5", "disk"]],
    "volume": [[], ["/etc:/data"], ["/etc:/proc/cpuinfo:ro"], ["/etc/passwd:/etc/hosts:ro", "/usr:/usr"]],
    "mount": [[], ["type=tmpfs,target=/x/y"], ["type=bind,src=/etc,dst=/e,readonly,bind-recursive=disabled"]],
    "tmpfs": [[], ["/run"], ["/tmp:size=1m,exec", "/dev/shm:mode=700"]],
    "device": [[], ["/dev/null:/dev/a"], ["/dev/full:/x/y:rw"]],
    "userns": ["host", "auto"],
    "cap_add": [[], ["ALL"], ["SYS_ADMIN", "net_admin"]],
    "cap_drop": [[], ["ALL"], ["CHOWN"]],
    "security_opt": [[], ["no-new-privileges"]],
    "ulimit": [[], ["nofile=5"], ["core=0:unlimited", "nproc=1:2"]],
    "oom_score_adj": [None, 5],
    "shm_size": ["64m", "1g"],
    "ipc": ["private", "host"],
    "uts": ["private", "host"],
    "network": ["none", "host"],
    "pid": ["private", "host"],
    "cgroupns": ["private", "host"],
}
BOOLEANS = ("read_only", "tty", "init", "privileged")
SYSCTLS = {"network": "net.ipv4.ip_forward=1", "ipc": "kernel.msgmax=1"}


@st.composite
def run_options(draw: st.DrawFn) -> RunOptions:
    """A set of options that minirt takes."""
    chosen = {name: draw(st.sampled_from(values)) for name, values in CHOICES.items()}
    chosen |= {name: draw(st.booleans()) for name in BOOLEANS}
    if chosen["uts"] == "host":
        chosen["hostname"] = ""
    if chosen["userns"] == "auto" or os.geteuid() != 0:  # without root a user namespace comes by itself
        chosen["pid"] = "private"
    private = [s for name, s in SYSCTLS.items() if chosen[name] != "host"]
    if private:
        chosen["sysctl"] = draw(st.lists(st.sampled_from(private), unique=True))
    return RunOptions("image", **chosen)


def compiled(options: RunOptions) -> Plan:
    """Return the plan that `minirt run` makes of options, from an image of two layers, without running it."""
    spec = make_spec(options, {"Env": ["LANG=C"]}, "c" * 64)
    if options.init:
        spec["mounts"].append({"destination": INIT, "type": "bind", "source": "/etc/passwd", "options": ["bind", "ro"]})
    overlay = Overlay(["/l/a", "/l/b"], "/c/upper", "/c/work", "/c/merged")
    init = INIT if options.init else ""
    return compile_plan(Context(spec, "/c", overlay, options.user, "/sys/fs/cgroup/x", FILTER, init=init))


DEFAULT = compiled(RunOptions("image", ["true"]))


def assert_legal(plan: Plan) -> None:
    """The order of the records keeps what the steps promise."""
    first: dict[str, int] = {}
    for at, record in enumerate(plan.records):
        assert record.step in plan.steps, call_text(record)
        first.setdefault(record.step, at)
    for step in plan.steps.values():
        for need in step.needs:
            if need in first:
                assert first[need] < first[step.name], f"{step.name} needs {need}"
    assert HEADER_AT == k.PLAN_HEADER - k.PLAN_BASE
    lowered = lower(plan)
    assert len(lowered.records) == len(plan.records) <= CAPACITY // 2
    assert HEADER_AT + len(lowered.image) < k.PLAN_SPAN


def position(plan: Plan, call: str) -> int:
    """Return where a call is made for the first time."""
    return next(i for i, record in enumerate(plan.records) if record.call == call)


@settings(deadline=None, max_examples=150)
@given(run_options())
def test_any_options_make_a_plan_in_a_legal_order(options: RunOptions) -> None:
    plan = compiled(options)
    assert_legal(plan)
    calls = [record.call for record in plan.records if record.side == "container"]
    assert calls[-1] == "execve"
    assert calls.count("execve") == calls.count("pivot_root") == 1
    assert position(plan, "clone3") < position(plan, "pivot_root") < position(plan, "umount2")
    assert list(describe(plan)) and plan_as_dict(plan)["records"]


@settings(deadline=None, max_examples=80)
@given(run_options())
def test_no_path_of_the_image_is_followed_while_the_old_root_is_there(options: RunOptions) -> None:
    plan = compiled(options)
    for record in plan.records[position(plan, "pivot_root") + 1 : position(plan, "umount2")]:
        assert not any(isinstance(arg, str) and arg.startswith("/") for arg in record.args), call_text(record)


@settings(deadline=None, max_examples=80)
@given(run_options())
def test_rights_are_given_up_last_and_in_an_order_that_works(options: RunOptions) -> None:
    plan = compiled(options)
    steps = [record.step for record in plan.records if record.side == "container"]
    for earlier, later in pairwise([s for s in ("bounding", "user", "capabilities", "no_new_privs") if s in steps]):
        assert len(steps) - steps[::-1].index(earlier) <= steps.index(later)
    if "seccomp" in steps:  # loading a filter needs CAP_SYS_ADMIN, or no_new_privs
        before = "no_new_privs" in steps and steps.index("no_new_privs") < steps.index("seccomp")
        assert before or steps.index("seccomp") < steps.index("capabilities")
    groups = [r.call for r in plan.records if r.step == "user" and r.call.startswith("set")]
    assert groups == ["setgroups", "setresgid", "setresuid"]


@settings(deadline=None, max_examples=80)
@given(run_options(), st.data())
def test_a_cut_plan_starts_in_a_mount_namespace_of_its_own(options: RunOptions, data: st.DataObject) -> None:
    plan = compiled(options)
    steps = list(plan.steps)
    upto = data.draw(st.none() | st.sampled_from(steps))
    without = tuple(data.draw(st.lists(st.sampled_from([s for s in steps if s not in ALWAYS]), unique=True, max_size=3)))
    piece = cut(plan, upto, without)
    assert_legal(piece)
    first, second = piece.records[:2]
    assert (first.step, first.call, first.args[0]) == (SAFETY, "unshare", k.CLONE_NEWNS)
    assert (second.call, second.args[3]) == ("mount", k.MS_REC | k.MS_PRIVATE)
    assert not set(without) & set(piece.steps)
    assert [r.call for r in piece.records if r.call == "execve"] == ["execve"]
    for step in piece.steps.values():  # nothing is left whose need was cut
        assert step.name in ALWAYS or all(need in piece.steps for need in step.needs if need in plan.steps)


@pytest.mark.parametrize("step", DEFAULT.steps)
def test_each_step_can_be_cut_after_and_left_out(step: str) -> None:
    assert_legal(cut(DEFAULT, step))
    if step in ALWAYS:
        with pytest.raises(UsageError, match="nothing would be left to run"):
            cut(DEFAULT, without=(step,))
    else:
        piece = cut(DEFAULT, without=(step,))
        assert_legal(piece)
        assert step not in piece.steps


def test_what_a_cut_takes_along_is_said() -> None:
    assert "without proc there can be no masked" in cut(DEFAULT, without=("proc",)).notes


def test_cutting_changes_no_plan() -> None:
    before = [call_text(record) for record in DEFAULT.records]
    cut(DEFAULT, "pivot_root", ("proc",))
    assert [call_text(record) for record in DEFAULT.records] == before


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("", "it is written"), ("mount", "it is written"), ("mount=", "it is written"), ("mount=1", "it is written"),
        ("mount=ENOSUCH", "it is written"), ("mount:0=EPERM", "it is written"), ("mount:x=EPERM", "it is written"),
        ("mount:=EPERM", "it is written"), ("mount:999=EPERM", "times"), ("kexec_load=EPERM", "makes no call kexec_load"),
        ("read=EPERM", "makes no call read"),
    ],
)  # fmt: skip
def test_a_failure_that_cannot_be_planted_is_refused(what: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        inject(compiled(RunOptions("image", ["true"])), what)


def test_a_failure_is_planted_in_one_record() -> None:
    plan = inject(compiled(RunOptions("image", ["true"])), "mount:3=ENOSPC")
    planted = [record for record in plan.records if record.inject]
    assert planted == [[r for r in plan.records if r.call == "mount"][2]]
    assert planted[0].inject == 28
    assert_legal(plan)


def test_structures_have_the_sizes_that_c_gives_them(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    source.write_text(
        f'#include "{PLAN_H}"\n#include <stdio.h>\n#include <stddef.h>\n'
        'int main(void) { printf("%zu %zu %zu %zu %zu %zu %zu", sizeof(struct plan), sizeof(struct record),'
        " sizeof(struct outcome), offsetof(struct record, store), offsetof(struct record, inject),"
        " offsetof(struct plan, records), offsetof(struct plan, used)); return 0; }\n"
    )
    try:
        subprocess.run(["gcc", "-o", tmp_path / "sizes", source], check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("gcc is not installed")
    sizes = subprocess.run([tmp_path / "sizes"], capture_output=True, text=True, timeout=10).stdout.split()
    fields = [EXTENT_AT - HEADER_AT, USED_AT - HEADER_AT]
    assert [int(size) for size in sizes] == [HEADER.size, RECORD.size, OUTCOME.size, 56, 70, *fields]


@pytest.mark.parametrize("kind", FLAGS)
@given(value=st.integers(0, (1 << 32) - 1))
def test_flags_are_told_without_loss(kind: str, value: int) -> None:
    parts = flags_text(value, FLAGS[kind]).split("|")
    total = 0
    for part in parts:
        total |= int(part, 0) if part[0].isdigit() else getattr(k, part)
    assert total == value


def test_calls_are_told_as_strace_does() -> None:
    plan = Plan().mount("proc", "/proc", "proc", k.MS_NOSUID | k.MS_NODEV).sethostname('a"b')
    assert [call_text(record) for record in plan.records] == [
        'mount("proc", "/proc", "proc", MS_NOSUID|MS_NODEV, NULL)', 'sethostname("a\\"b", 3)',
    ]  # fmt: skip


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=80))
def test_text_reaches_the_plan_s_memory_as_it_is(text: str) -> None:
    lowered = lower(Plan().chdir(text))
    address = RECORD.unpack_from(lowered.image, HEADER.size)[3]
    assert ctypes.string_at(bytes(lowered.image[address - k.PLAN_HEADER :])) == os.fsencode(text)
