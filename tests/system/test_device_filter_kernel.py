"""The kernel asks the filter: open(2) and mknod(2) of devices by a process in the group."""

import errno
import os
import signal
import stat
import struct

import pytest
from cgroup_child import child
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_cgroup_live import MOUNT, NAME

from minirt.linux import capabilities as caps
from minirt.linux import cgroup2, cgroup_bpf
from minirt.linux import constants as k
from minirt.linux._sys import ffi, lib
from minirt.linux.device_filter import DeviceFilterError, attach, parse, program

try:
    os.close(cgroup_bpf.load(program(parse([]))))
    REASON = ""
except DeviceFilterError as error:
    REASON = str(error)
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not MOUNT or not os.access(MOUNT, os.W_OK), reason="no cgroup2 mount that is ours to write to"),
    pytest.mark.skipif(bool(REASON), reason=REASON),
]
DENY = {"allow": False, "access": "rwm"}
FLAGS = {2: os.O_RDONLY, 4: os.O_WRONLY, 6: os.O_RDWR}
SECRET = 240  # "local/experimental use" (Documentation/admin-guide/devices.txt): no driver, so ENXIO where allowed


@pytest.fixture
def group():
    with cgroup2.create(NAME, {}) as made:
        yield made


@pytest.fixture
def nodes(tmp_path):
    """A node for each number, and room for new ones; the test directory's file system must have devices."""
    if os.statvfs(tmp_path).f_flag & os.ST_NODEV:
        pytest.skip(f"{tmp_path} is mounted nodev")
    for kind, mode in (("b", stat.S_IFBLK), ("c", stat.S_IFCHR)):
        for minor in range(3):
            os.mknod(tmp_path / f"{kind}{minor}", mode | 0o600, os.makedev(SECRET, minor))
    return tmp_path


def errno_of(call, *args):
    try:
        fd = call(*args)
    except OSError as error:
        return error.errno
    if fd is not None:
        os.close(fd)
    return 0


def in_group(group, requests, nodes):
    """Let a process in the group make (kind, access, minor) requests; return their errnos."""
    out, into = os.pipe()

    def work():
        for kind, access, minor in requests:
            path, said = str(nodes / f"{kind}{minor}"), 0
            if access & 6:
                said = errno_of(os.open, path, FLAGS[access & 6])
            if access & 1 and said != errno.EPERM:
                mode = stat.S_IFBLK if kind == "b" else stat.S_IFCHR
                said = errno_of(os.mknod, path + "-new", mode, os.makedev(SECRET, minor)) or said
                if os.path.exists(path + "-new"):
                    os.unlink(path + "-new")
            os.write(into, struct.pack("<i", said))
        return 0

    with child(group, work) as pid:
        os.waitpid(pid, 0)
        said = os.read(out, 65536)
    os.close(out)
    os.close(into)
    return [value for (value,) in struct.iter_unpack("<i", said)]


def test_a_denied_device_is_eperm_and_an_allowed_one_is_not(group, nodes):
    every = [(kind, access, 1) for kind in "bc" for access in (1, 2, 4, 6)]
    assert errno.EPERM not in in_group(group, every, nodes)
    assert attach(group.path, [DENY, {"allow": True, "type": "c", "major": SECRET, "minor": 1, "access": "r"}])
    said = in_group(group, every, nodes)
    assert dict(zip(every, said, strict=True)) == {
        ("b", 1, 1): 0, ("b", 2, 1): errno.EPERM, ("b", 4, 1): errno.EPERM, ("b", 6, 1): errno.EPERM,
        ("c", 1, 1): 0, ("c", 2, 1): errno.ENXIO, ("c", 4, 1): errno.EPERM, ("c", 6, 1): errno.EPERM,
    }  # fmt: skip


def test_what_the_kernel_is_asked_is_told(group):
    told = []
    attach(group.path, [DENY, {"allow": True, "type": "b", "major": 8, "access": "r"}], told.append)
    assert [(event.call, event.args[0], event.errno) for event in told] == [
        ("bpf", "BPF_PROG_LOAD", 0), ("bpf", "BPF_PROG_ATTACH", 0)
    ]  # fmt: skip
    assert told[0].change[-1].startswith("allow b 8:* r ") and "allow c 1:3 rwm" in "\n".join(told[0].change)


def test_what_every_container_may_use_can_be_used(group):
    attach(group.path, [DENY])

    def work():
        said = [errno_of(os.open, f"/dev/{name}", os.O_RDWR) for name in ("null", "zero", "full", "random", "urandom", "ptmx")]
        return 0 if said == [0] * 6 and errno_of(os.open, "/dev/kmsg", os.O_RDONLY) == errno.EPERM else 1

    with child(group, work) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_a_filter_is_replaced_and_holds_for_groups_below(group, nodes):
    below = cgroup2.Cgroup(f"{group.path}/below")
    os.mkdir(below.path)
    fd = os.open(group.path, os.O_RDONLY)
    read = [("c", 2, 0)]
    for allow, said in ((False, errno.EPERM), (True, errno.ENXIO), (False, errno.EPERM)):
        attach(group.path, [{"allow": allow, "access": "rwm"}])
        assert len(cgroup_bpf.attached(fd)) == 1
        assert in_group(group, read, nodes) == in_group(below, read, nodes) == [said]
    os.close(fd)


def test_a_program_is_loaded_once_for_groups_of_the_same_rules(group):
    rules = [{"allow": True, "type": "c", "major": SECRET, "minor": 7, "access": "r"}]
    with cgroup2.create(f"{NAME}-2", {}) as other:
        ids = []
        for one in (group, other, group):
            attach(one.path, rules)
            fd = os.open(one.path, os.O_RDONLY | os.O_DIRECTORY)
            ids += cgroup_bpf.attached(fd)
            os.close(fd)
    assert len(ids) == 3 and len(set(ids)) == 1


def test_signals_do_not_keep_a_program_from_being_loaded():
    """The kernel's check of a program breaks off with EAGAIN where a signal waits; this one takes it about a millisecond."""
    rules = [{"allow": True, "type": "c", "major": SECRET, "minor": minor, "access": "rw"} for minor in range(10)]
    code = program(parse(rules))
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.003)
    try:
        for _ in range(200):
            os.close(cgroup_bpf.load(code))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_several_former_filters_are_all_replaced(group, nodes):
    """As another runtime may have left them: each attached beside the others."""
    fd, code = os.open(group.path, os.O_RDONLY), program(parse([DENY]))
    for _ in range(2):
        loaded = cgroup_bpf.load(code)
        cgroup_bpf._put(fd, loaded, [], None)
        os.close(loaded)
    assert len(cgroup_bpf.attached(fd)) == 2
    attach(group.path, [{"allow": True, "access": "rwm"}])
    assert len(cgroup_bpf.attached(fd)) == 1 and in_group(group, [("b", 6, 2)], nodes) == [errno.ENXIO]
    os.close(fd)


rule = st.fixed_dictionaries(
    {"allow": st.booleans(), "access": st.sets(st.sampled_from("rwm"), min_size=1).map("".join)},
    optional={"type": st.sampled_from("abc"), "major": st.sampled_from([-1, SECRET, 7]), "minor": st.sampled_from([-1, 0, 1])},
)
LETTERS = {1: "m", 2: "r", 4: "w"}


def last_word(rules, kind, letter, minor):
    """Return what the last rule that names a device and an access says."""
    verdicts = [
        entry["allow"] for entry in rules
        if entry.get("type", "a") in ("a", kind) and letter in entry["access"]
        and entry.get("major", -1) in (-1, SECRET) and entry.get("minor", -1) in (-1, minor)
    ]  # fmt: skip
    return bool(verdicts and verdicts[-1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rule, max_size=6))
def test_the_kernel_says_what_the_rules_mean(group, nodes, rules):
    requests = [(kind, access, minor) for kind in "bc" for access in (1, 2, 4, 6) for minor in range(3)]
    cgroup_bpf.attach(group.path, program(parse(rules, default=False)))
    for (kind, access, minor), said in zip(requests, in_group(group, requests, nodes), strict=True):
        wanted = all(last_word(rules, kind, letter, minor) for bit, letter in LETTERS.items() if access & bit)
        assert (said != errno.EPERM) == wanted, (kind, access, minor, said)


def test_the_verifier_s_words_are_told(group):
    with pytest.raises(DeviceFilterError, match=r"BPF_PROG_LOAD.*: R0 !read_ok"):
        cgroup_bpf.attach(group.path, struct.pack("<BBhi", 0x95, 0, 0, 0))


def test_a_directory_that_is_no_group_is_refused(tmp_path):
    with pytest.raises(DeviceFilterError, match="not a group of cgroup v2"):
        attach(str(tmp_path), [DENY])


def test_a_user_without_privilege_runs_without_a_filter(group):
    def work():
        os.setresgid(4711, 4711, 4711)
        os.setresuid(4711, 4711, 4711)
        return 7 if attach(group.path, [DENY]) is False else 1

    with child(group, work) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_root_of_a_user_namespace_runs_without_a_filter(group):
    def work():
        assert lib.plan_syscall(k.SYS_unshare, k.CLONE_NEWUSER, 0, 0, 0, 0, 0) == 0
        with open("/proc/self/uid_map", "w") as file:
            file.write("0 0 1")
        return 7 if attach(group.path, [DENY]) is False else 1

    with child(group, work) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_root_without_the_capability_is_told_what_is_missing(group):
    def work():
        header, sets = ffi.new("char[]", caps.pack_header()), ffi.new("char[]", bytes(24))
        lib.plan_syscall(k.SYS_capset, int(ffi.cast("uintptr_t", header)), int(ffi.cast("uintptr_t", sets)), 0, 0, 0, 0)
        try:
            attach(group.path, [DENY])
        except DeviceFilterError as error:
            every = attach(group.path, [{"allow": True, "access": "rwm"}])
            return 7 if "this needs CAP_BPF" in str(error) and every is False else 2
        return 1

    with child(group, work) as pid:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_the_limit_on_locked_memory_is_what_it_was():
    import resource

    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    os.close(cgroup_bpf.load(program(parse([DENY]))))
    memlock = cgroup_bpf._Memlock()
    memlock.restore()
    assert resource.getrlimit(resource.RLIMIT_MEMLOCK) == before
