"""What config.json's resources come to in cgroup v2's files, and how the tree's files are read."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux import cgroup2, cgroup_limits
from minirt.linux.cgroup_files import CgroupError, cause
from minirt.linux.cgroup_limits import blkio_to_io_weight, io_weight, limits, shares_to_weight, swap_alone
from minirt.linux.cgroup_tree import Place, is_whole_tree, tree_options

GIB = 1 << 30
shares = st.integers(0, 1 << 20)
size = st.integers(1, 1 << 50)


@given(shares, shares)
def test_more_shares_are_never_less_weight(a, b):
    low, high = sorted((a, b))
    assert 1 <= shares_to_weight(low) <= shares_to_weight(high) <= 10000


def test_shares_weigh_as_under_runc_1_1_and_crun_1_8():
    assert [shares_to_weight(n) for n in (0, 2, 1024, 2048, 262144, 1 << 20)] == [1, 1, 39, 79, 10000, 10000]


@given(st.integers(10, 1000), st.integers(10, 1000))
def test_a_greater_blkio_weight_is_a_greater_io_weight(a, b):
    low, high = sorted((a, b))
    assert 1 <= blkio_to_io_weight(low) <= blkio_to_io_weight(high) <= 10000
    assert low == high or blkio_to_io_weight(low) < blkio_to_io_weight(high)


@given(size, size)
def test_memory_and_swap_come_together_again(memory, swap):
    files = dict(limits({"memory": {"limit": memory, "swap": memory + swap}}))
    assert int(files["memory.max"]) + int(files["memory.swap.max"]) == memory + swap


@pytest.mark.parametrize(("memory", "wanted"), [
    ({"limit": 64}, [("memory.max", "64")]),
    ({"limit": -1}, [("memory.max", "max"), ("memory.swap.max", "max")]),
    ({"limit": 64, "swap": -1}, [("memory.max", "64"), ("memory.swap.max", "max")]),
    ({"limit": 64, "swap": 64}, [("memory.max", "64"), ("memory.swap.max", "0")]),
    ({"limit": 0, "swap": None}, []),
    ({"limit": -1, "swap": 64}, [("memory.max", "max"), ("memory.swap.max", "64")]),
    ({"reservation": 32}, [("memory.low", "32")]),
])  # fmt: skip
def test_memory(memory, wanted):
    assert limits({"memory": memory}) == wanted


@pytest.mark.parametrize(("swap", "memory"), [(64, 0), (32, 64)])
def test_swap_that_cannot_be_told_from_memory_is_refused(swap, memory):
    with pytest.raises(CgroupError, match="memory and swap together"):
        swap_alone(swap, memory)


@given(st.integers(-1, 10**7), st.integers(1000, 10**6))
def test_quota_and_period_stand_in_cpu_max(quota, period):
    ((name, text),) = limits({"cpu": {"quota": quota, "period": period}})
    first, second = text.split()
    assert name == "cpu.max" and int(second) == period
    assert first == ("max" if quota <= 0 else str(quota))


def test_burst_is_written_after_the_quota_that_bounds_it():
    assert limits({"cpu": {"burst": 10, "quota": 50}}) == [("cpu.max", "50 100000"), ("cpu.max.burst", "10")]


def test_each_throttled_device_is_a_write_of_its_own():
    devices = [{"major": 8, "minor": 0, "rate": 1000}, {"major": 8, "minor": 16, "rate": 0}]
    io = {"throttleReadBpsDevice": devices, "throttleWriteIOPSDevice": devices[:1]}
    assert limits({"blockIO": io}) == [
        ("io.max", "8:0 rbps=1000"), ("io.max", "8:16 rbps=max"), ("io.max", "8:0 wiops=1000")
    ]  # fmt: skip


def test_unified_comes_last_and_line_by_line():
    resources = {"unified": {"memory.max": "1G", "io.max": "8:0 rbps=1\n8:16 rbps=2"}, "memory": {"limit": GIB}}
    assert limits(resources) == [
        ("memory.max", str(GIB)), ("memory.max", "1G"), ("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2")
    ]  # fmt: skip


@pytest.mark.parametrize(("resources", "word"), [
    ({"unified": {"../x": "1"}}, "no file of a cgroup"),
    ({"unified": {"tasks": "1"}}, "no file of a cgroup"),
    ({"unified": {"..": "1"}}, "no file of a cgroup"),
    ({"unified": {"memory.": "1"}}, "no file of a cgroup"),
    ({"unified": {"cgroup.procs": "0"}}, "limits nothing"),
    ({"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]}, "pageSize"),
    ({"hugepageLimits": [{"pageSize": "2M", "limit": 1}]}, "pageSize"),
    ({"rdma": {"mlx5 hca_handle=max": {"hcaHandles": 1}}}, "no name of a device"),
    ({"cpu": {"idle": 2}}, "0 or 1"),
    ({"cpu": {"realtimePeriod": 1}}, "real-time"),
    ({"network": {"classID": 7}}, "network.classID"),
    ({"memory": {"kernelTCP": 7}}, "memory.kernelTCP"),
    ({"blockIO": {"leafWeight": 7}}, "leafWeight"),
    ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 9}]}}, "from 10 to 1000"),
    ({"memory": {"swappiness": 10}}, "swappiness"),
    ({"memory": {"disableOOMKiller": True}}, "disableOOMKiller"),
    ({"cpu": {"realtimeRuntime": 1}}, "real-time"),
    ({"blockIO": {"weight": 5}}, "from 10 to 1000"),
])  # fmt: skip
def test_what_version_2_cannot_do_is_refused(resources, word):
    with pytest.raises(CgroupError, match=word):
        limits(resources)


def test_what_docker_sends_unset_is_not_set():
    resources = {"memory": {"disableOOMKiller": False}, "cpu": {"shares": 0}, "pids": {}, "blockIO": {"weight": 0}}
    assert limits(resources) == []


number = st.one_of(st.none(), st.integers(-1, 1 << 62))
device = st.fixed_dictionaries({"major": st.integers(0, 4095), "minor": st.integers(0, 1 << 20), "rate": st.integers(0, 1 << 62)})
size_name = st.from_regex(r"[1-9][0-9]{0,3}[KMG]B", fullmatch=True)
page = st.fixed_dictionaries({"pageSize": size_name, "limit": st.integers(0, 1 << 62)})
every = st.fixed_dictionaries({}, optional={
    "memory": st.dictionaries(st.sampled_from(["limit", "reservation", "swap", "kernel", "swappiness"]), number),
    "cpu": st.dictionaries(st.sampled_from(["shares", "quota", "period", "burst"]), number),
    "pids": st.fixed_dictionaries({}, optional={"limit": number}),
    "blockIO": st.dictionaries(st.sampled_from([f"throttle{way}Device" for way in cgroup_limits.THROTTLES]), st.lists(device)),
    "hugepageLimits": st.lists(page),
    "unified": st.dictionaries(st.text(max_size=9), st.text(max_size=9)),
})  # fmt: skip


@given(every)
def test_whatever_is_asked_comes_to_files_of_a_group_a_line_each(resources):
    try:
        files = limits(resources, lambda sentence: None)
    except CgroupError as error:
        assert "\n" not in str(error)
        return
    for name, text in files:
        assert "/" not in name and "\0" not in name and all(name.partition(".")[::2])
        assert text.splitlines() in ([], [text])


def test_what_runc_leaves_out_is_left_out_with_a_warning_where_one_can_be_given():
    told = []
    memory = {"swappiness": 60, "disableOOMKiller": True, "kernel": 1 << 20, "kernelTCP": 1 << 20, "limit": GIB}
    resources = {"memory": memory, "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]}}
    assert limits(resources, told.append) == [("memory.max", str(GIB))]
    assert len(told) == 6 and all("cgroup v2" in sentence for sentence in told)


def test_weights_are_said_to_bfq_and_translated_for_others():
    io = {"weight": 500, "weightDevice": [{"major": 8, "minor": 0, "weight": 10}, {"major": 8, "minor": 1}]}
    assert limits({"blockIO": io}) == [("io.bfq.weight", "default 500"), ("io.bfq.weight", "8:0 10")]
    assert [io_weight(text) for _, text in limits({"blockIO": io})] == ["default 4950", "8:0 1"]


def test_an_idle_group_gets_its_weight_while_it_is_not_idle():
    names = [[name for name, _ in limits({"cpu": {"idle": idle, "shares": 1024}})] for idle in (0, 1)]
    assert names == [["cpu.idle", "cpu.weight"], ["cpu.weight", "cpu.idle"]]


def test_rdma_is_a_line_a_device_and_kind():
    rdma = {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "mlx4_0": {"hcaObjects": 1}}
    assert [text for _, text in limits({"rdma": rdma})] == ["mlx5_1 hca_handle=3", "mlx5_1 hca_object=10000", "mlx4_0 hca_object=1"]


def test_no_pids_limit_is_said_as_zero_or_less():
    assert [limits({"pids": {"limit": n}})[0][1] for n in (-1, 0, 7)] == ["max", "max", "7"]


def test_huge_pages_are_limited_when_reserved_and_when_touched():
    pages = {"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}
    assert limits(pages) == [("hugetlb.2MB.max", "4096"), ("hugetlb.2MB.rsvd.max", "4096")]


def mountinfo(tmp_path, *mounts):
    lines = [f"{n} 1 0:{n} {root} {where} rw - {kind} {kind} rw" for n, (root, where, kind) in enumerate(mounts)]
    (tmp_path / "mountinfo").write_text("\n".join(lines) + "\n")
    return str(tmp_path / "mountinfo")


def test_the_mount_is_found_on_a_pure_and_on_a_hybrid_host(tmp_path):
    pure = mountinfo(tmp_path, ("/", "/", "ext4"), ("/", "/sys/fs/cgroup", "cgroup2"))
    assert cgroup2.find_mount(pure) == "/sys/fs/cgroup"
    hybrid = mountinfo(tmp_path, ("/", "/sys/fs/cgroup/cpu", "cgroup"), ("/", "/sys/fs/cgroup/unified", "cgroup2"))
    assert cgroup2.find_mount(hybrid) == "/sys/fs/cgroup/unified"
    assert cgroup2.find_mount(mountinfo(tmp_path, ("/", "/sys/fs/cgroup/cpu", "cgroup"))) == ""


def test_the_whole_tree_goes_before_a_bound_part_and_a_name_may_hold_a_space(tmp_path):
    both = mountinfo(tmp_path, ("/box", "/box/sys/fs/cgroup", "cgroup2"), ("/", "/mnt/my\\040tree", "cgroup2"))
    assert cgroup2.find_mount(both) == "/mnt/my tree"


def test_the_root_of_the_tree_is_known_without_the_table_of_mounts(tmp_path):
    """procfs's root is inode 1, too, and a group is of cgroup2, too: it takes both."""
    assert not is_whole_tree("/proc") and not is_whole_tree(str(tmp_path)) and not is_whole_tree("/nowhere")
    mount = cgroup2.find_mount("/proc/self/mountinfo")
    first = os.path.exists("/proc/self/ns/cgroup") and os.readlink("/proc/self/ns/cgroup") == "cgroup:[4026531835]"
    if mount and first:  # in another cgroup namespace the root that is seen is a group of the tree
        assert is_whole_tree(mount)
        groups = [entry.path for entry in os.scandir(mount) if entry.is_dir()]
        assert not any(is_whole_tree(path) for path in groups)


def test_the_own_group_is_the_line_of_version_2(tmp_path):
    (tmp_path / "cgroup").write_text("4:memory:/else\n0::/user.slice/a\n")
    assert cgroup2.own_group("/sys/fs/cgroup", str(tmp_path / "cgroup")) == "/sys/fs/cgroup/user.slice/a"
    (tmp_path / "cgroup").write_text("0::/\n")
    assert cgroup2.own_group("/sys/fs/cgroup", str(tmp_path / "cgroup")) == "/sys/fs/cgroup"


def test_events_and_pressure_are_read_as_numbers(tmp_path):
    group = cgroup2.Cgroup(str(tmp_path))
    assert group.oom_kills() == 0  # no such file: memory is not counted
    (tmp_path / "memory.events").write_text("low 0\nmax 12\noom_kill 3\n")
    (tmp_path / "cpu.pressure").write_text("some avg10=1.50 avg60=0.20 avg300=0.00 total=4711\n")
    assert group.oom_kills() == 3 and group.keyed("memory.events")["max"] == 12
    assert group.pressure("cpu")["some"] == {"avg10": 1.5, "avg60": 0.2, "avg300": 0.0, "total": 4711}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A directory that looks like the root of a tree with two controllers."""
    for name, text in (("cgroup.controllers", "hugetlb pids\n"), ("cgroup.subtree_control", "\n")):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cgroup2, "find_mount", lambda: str(tmp_path))
    return tmp_path


def test_a_missing_controller_is_named_with_those_there_are_and_the_lab(tree):
    with pytest.raises(CgroupError) as error:
        cgroup2.create("box", {"memory": {"limit": GIB}})
    assert str(error.value).startswith("memory limit: this host's cgroup v2 tree has no memory controller")
    assert "(it has: hugetlb pids)" in str(error.value) and "lab/run minirt run" in str(error.value)
    assert {path.name for path in tree.iterdir()} == {"cgroup.controllers", "cgroup.subtree_control"}


def test_without_a_limit_no_cgroup_is_no_failure(monkeypatch):
    monkeypatch.setattr(cgroup2, "find_mount", lambda: "")
    with cgroup2.create("box", {}) as group:
        assert group is None
    assert "not mounted" in cgroup2.create("box", {}).reason
    with pytest.raises(CgroupError, match="pids limit: cgroup v2 is not mounted"):
        cgroup2.create("box", {"pids": {"limit": 5}})


def test_no_limit_needs_no_controller(tree, monkeypatch):
    resources = {"memory": {"limit": -1}, "cpu": {"quota": -1}, "blockIO": {}}
    assert limits(resources) != []
    assert cgroup_limits.possible(limits(resources), ["pids"]) == []


names = st.text("ab./", max_size=12)


@given(names, st.booleans())
def test_a_path_never_leaves_its_tree(text, absolute):
    """Walked name by name, `..` at the top staying there, as in a root directory (path_resolution(7))."""
    path = ("/" if absolute else "") + text.lstrip("/")
    walked: list[str] = []
    for name in path.split("/"):
        if name == "..":
            walked = walked[:-1]
        elif name not in ("", "."):
            walked.append(name)
    if not path:
        walked = ["id"]
    if not walked:
        with pytest.raises(CgroupError, match="root of the tree"):
            Place("id", path, "/nowhere")
        return
    place = Place("id", path, "/nowhere")
    above = [] if path.startswith("/") else place.directory.split("/")[2 : -len(walked)]
    assert place.directory.split("/")[2:] == [*above, *walked]
    assert place.steps()[-1] == place.directory and all(step.startswith("/nowhere/") for step in place.steps())


@pytest.mark.parametrize("path", ["/a\0b", "a\nb"])
def test_a_path_with_a_character_that_no_group_can_have_is_refused(path):
    with pytest.raises(CgroupError, match="cannot hold this character"):
        Place("id", path, "/nowhere")


@pytest.mark.parametrize(("file", "words"), [("cpu.max.burst", "the quota"), ("cpu.max", "1000 us"), ("cpu.weight", "cpu.idle")])
def test_what_a_file_refuses_for_a_reason_of_its_own_is_told_with_it(file, words):
    assert words in cause("/nowhere", file, errno.EINVAL)
    assert "not a value" in cause("/nowhere", "memory.max", errno.EINVAL)


def test_the_tree_s_options_are_those_of_its_file_system(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "20 1 0:19 / /sys rw,nosuid - sysfs sysfs rw\n"
        "25 20 0:22 / /sys/fs/cgroup rw,nosuid,relatime - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n"
    )
    assert tree_options(str(mountinfo)) == ["nsdelegate", "memory_recursiveprot"]
    mountinfo.write_text("20 1 0:19 / /sys rw - sysfs sysfs rw\n")
    assert tree_options(str(mountinfo)) == []
