"""The same linux.resources under runc and crun come to the same files of a group; and runc's statistics to the same form."""

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from minirt.linux import cgroup2

MIB = 1 << 20
MOUNT = Path("/sys/fs/cgroup")
DISK = os.stat("/dev/vda").st_rdev if os.path.exists("/dev/vda") else 0
DEVICE = {"major": os.major(DISK), "minor": os.minor(DISK)}
RESOURCES = [
    {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB, "checkBeforeUpdate": True},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "burst": 10_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "blockIO": {
            "weight": 500,
            "throttleReadBpsDevice": [{**DEVICE, "rate": 1000}],
            "throttleWriteIOPSDevice": [{**DEVICE, "rate": 50}],
        },
        "unified": {"memory.high": str(48 * MIB), "cgroup.max.depth": "7"},
    },
    {"memory": {"limit": -1, "swap": -1}, "cpu": {"shares": 2, "quota": -1}, "pids": {"limit": -1}},
    {"memory": {"limit": 64 * MIB, "swap": 64 * MIB}, "cpu": {"shares": 262144, "period": 50_000, "idle": 1}},
    {"cpu": {"shares": 1024}, "blockIO": {"weight": 10}, "unified": {"cpu.weight": "77", "pids.max": "9"}},
]
FILES = ("cpu.weight", "cpu.max", "cpu.max.burst", "cpu.idle", "cpuset.cpus", "cpuset.mems", "memory.max", "memory.low",
         "memory.high", "memory.swap.max", "pids.max", "io.max", "io.weight", "hugetlb.2MB.max", "hugetlb.2MB.rsvd.max",
         "cgroup.max.depth")  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A bundle over the machine's own programs; the process is created and never started."""
    path = tmp_path_factory.mktemp("bundle")
    root = path / "rootfs"
    for name in ("usr", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    subprocess.run(["runc", "spec"], cwd=path, check=True)
    (path / "config.json").rename(path / "spec.json")
    yield path
    if (MOUNT / "peers").is_dir():
        (MOUNT / "peers").rmdir()  # the peers leave it


def said(directory):
    """Return what the group's files say; the weight that runc 1.1 writes says no `default`."""
    return {name: (directory / name).read_text() for name in FILES if (directory / name).exists()}


def under(peer, bundle, resources, look):
    """Create a container with the peer in a group of its own; return what `look` finds there."""
    config = json.loads((bundle / "spec.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    config["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
    config["linux"] |= {"cgroupsPath": f"/peers/{peer}", "resources": resources}
    (bundle / "config.json").write_text(json.dumps(config))
    # A pipe would never end: the process that waits to be started holds it.
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "timeout": 60}
    log = bundle / "log"
    try:
        done = subprocess.run([peer, "--log", str(log), "create", "-b", str(bundle), "peer"], **quiet, check=False)
        assert done.returncode == 0, log.read_text()
        return look(MOUNT / "peers" / peer)
    finally:
        subprocess.run([peer, "delete", "--force", "peer"], **quiet, check=False)
        remove(MOUNT / "peers" / peer)


def remove(group):
    """Remove a group that a peer left: its process may end after the peer has given up, and the next limits would be mixed."""
    end = time.monotonic() + 60
    while group.is_dir():
        try:
            group.rmdir()
        except OSError:
            assert time.monotonic() < end, (group / "cgroup.procs").read_text()
            time.sleep(0.05)


@pytest.mark.parametrize("resources", RESOURCES)
def test_the_same_limits_come_to_the_same_files(bundle, resources):
    with cgroup2.create("ours", resources, path="/peers/ours", every=True) as group:
        ours = said(Path(group.path))
        assert len(ours) == len(FILES)
        theirs = {peer: under(peer, bundle, resources, said) for peer in ("runc", "crun")}
        newer = ("cpu.idle", "cpu.weight") if "idle" in resources["cpu"] else ("cpu.max.burst",)  # than runc 1.1
        theirs["runc"] |= {name: ours[name] for name in newer}
        theirs["crun"]["hugetlb.2MB.rsvd.max"] = ours["hugetlb.2MB.rsvd.max"]  # crun limits touching alone
        assert theirs["runc"] == ours
        assert theirs["crun"] == ours


def test_statistics_have_the_form_of_runc_events(bundle):
    def look(directory):
        for _ in range(10):  # the kernel gathers its counters now and then, and so between the two readings
            text = subprocess.run(["runc", "events", "--stats", "peer"], capture_output=True, text=True, check=True).stdout
            theirs, ours = json.loads(text)["data"], cgroup2.Cgroup(str(directory)).stats()
            if theirs["memory"]["raw"] == ours["memory"]["raw"] and theirs["cpu"]["usage"] == ours["cpu"]["usage"]:
                break
        return theirs, ours

    theirs, ours = under("runc", bundle, RESOURCES[0], look)
    assert set(theirs) == set(ours)
    for part, key in (("cpu", "usage"), ("memory", "raw"), ("memory", "cache"), ("memory", "usage"), ("memory", "kernel")):
        assert ours[part][key] == theirs[part][key], key  # nothing runs there in between
    assert ours["memory"]["swap"] == {"max": 0, **theirs["memory"]["swap"]}
    assert ours["pids"] == theirs["pids"] and set(ours["cpu"]["throttling"]) >= set(theirs["cpu"]["throttling"])
    assert {**theirs["cpuset"], "cpus": [0, 1], "mems": [0]} == ours["cpuset"]  # runc leaves out what was set
