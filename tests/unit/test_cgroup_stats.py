"""The kernel's files read into the form of `runc events --stats`; the texts are from a Linux 6.12."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux.cgroup_stats import UNLIMITED, stats
from minirt.linux.cpulist import mask, numbers

FILES = {
    "cgroup.procs": "12\n14\n",
    "cpu.stat": "usage_usec 16\nuser_usec 5\nsystem_usec 11\nnr_periods 3\nnr_throttled 2\nthrottled_usec 7\n"
    "nr_bursts 1\nburst_usec 4\n",
    "cpu.pressure": "some avg10=1.50 avg60=0.20 avg300=0.00 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "memory.stat": "anon 4096\nfile 8192\n",
    "memory.current": "20480\n",
    "memory.max": "67108864\n",
    "memory.peak": "30000\n",
    "memory.swap.current": "4096\n",
    "memory.swap.max": "1048576\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6 cost.usage=9\nunknown\n253:1 rbytes=7\n",
    "hugetlb.2MB.current": "0\n",
    "hugetlb.2MB.rsvd.current": "4194304\n",
    "hugetlb.2MB.events": "max 2\n",
    "hugetlb.1GB.current": "1073741824\n",
    "rdma.current": "mlx4_0 hca_handle=2 hca_object=2000\n",
    "cpuset.cpus": "0-2,5\n",
    "cpuset.mems": "\n",
}


@pytest.fixture
def said(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    return stats(str(tmp_path))


def test_processor_time_is_in_nanoseconds(said):
    assert said["cpu"]["usage"] == {"total": 16000, "user": 5000, "kernel": 11000}
    assert said["cpu"]["throttling"] == {"periods": 3, "throttledPeriods": 2, "throttledTime": 7000}
    assert said["cpu"]["burst"] == {"burstsPeriods": 1, "burstTime": 4000}
    assert said["cpu"]["psi"]["some"] == {"avg10": 1.5, "avg60": 0.2, "avg300": 0.0, "total": 4711}


def test_swap_is_told_together_with_memory(said):
    memory = said["memory"]
    assert memory["usage"] == {"limit": 67108864, "usage": 20480, "max": 30000, "failcnt": 0}
    assert memory["swap"] == {"limit": 67108864 + 1048576, "usage": 24576, "max": 0, "failcnt": 0}
    assert memory["cache"] == 8192 and memory["raw"] == {"anon": 4096, "file": 8192}


def test_reads_and_writes_are_entries_by_device(said):
    first = [(e["major"], e["minor"], e["op"], e["value"]) for e in said["blkio"]["ioServiceBytesRecursive"]]
    assert first == [(8, 0, "Read", 1), (8, 0, "Write", 2), (8, 0, "Discard", 5), (253, 1, "Read", 7)]
    assert [e["value"] for e in said["blkio"]["ioServicedRecursive"]] == [3, 4, 6]


def test_the_rest(said):
    assert said["pids"] == {"current": 3}  # no limit is none
    assert said["hugetlb"]["2MB"] == {"usage": 4194304, "failcnt": 2}
    assert said["hugetlb"]["1GB"] == {"usage": 1 << 30, "failcnt": 0}  # before .rsvd: what was touched
    assert said["rdma"] == {"mlx4_0": {"hca_handle": 2, "hca_object": 2000}}
    assert said["cpuset"]["cpus"] == [0, 1, 2, 5] and "mems" not in said["cpuset"]


def test_without_controllers_there_are_processes_and_no_failure(tmp_path):
    (tmp_path / "cgroup.procs").write_text("12\n14\n")
    (tmp_path / "memory.max").write_text("max\n")
    said = stats(str(tmp_path))
    assert said["pids"] == {"current": 2} and said["memory"]["usage"]["limit"] == UNLIMITED
    assert said["cpu"]["usage"]["total"] == 0 and "rdma" not in said
    with pytest.raises(FileNotFoundError):
        stats(str(tmp_path / "gone"))


@given(st.sets(st.integers(0, 40)))
def test_a_list_of_processors_is_expanded(wanted):
    ordered = sorted(wanted)
    starts = [n for n in ordered if n - 1 not in wanted]
    ends = [n for n in ordered if n + 1 not in wanted]
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))
    assert numbers(text) == ordered
    assert mask(text) == sum(1 << number for number in ordered)


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_a_blank_list_has_no_processor(text):
    assert (numbers(text), mask(text)) == ([], 0)
