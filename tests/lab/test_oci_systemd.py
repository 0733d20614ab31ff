"""--systemd-cgroup, with Debian's systemd: what systemctl and the kernel say of a container's scope, and what runc's is."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import Bundle
from systemd_box import Box, box  # noqa: F401

MIB = 1 << 20
OURS = [sys.executable, "-m", "minirt", "oci", "--root", "/run/oci-ours"]
RUNC = ["runc", "--root", "/run/oci-runc"]
# What differs from one unit to the next, whoever made it.
OTHER = ("Timestamp", "InvocationID", "Usage", "CPUUsageNSec", "ExecMain", "MemoryCurrent", "MemoryPeak", "MemoryAvailable",
         "MemorySwapCurrent", "MemorySwapPeak", "MemoryZSwapCurrent", "TasksCurrent", "IOReadBytes", "IOReadOperations",
         "IOWriteBytes", "IOWriteOperations", "ControlGroupId", "DropInPaths")  # fmt: skip
FILES = ("memory.max", "memory.low", "memory.high", "memory.swap.max", "cpu.weight", "cpu.max", "cpuset.cpus", "cpuset.mems",
         "pids.max", "cgroup.controllers", "hugetlb.2MB.max")  # fmt: skip


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    with tempfile.TemporaryDirectory(prefix="minirt-oci-", dir="/var/tmp") as place:
        os.chmod(place, 0o755)
        made = Bundle(Path(place, "bundle"))
        made.config["process"]["args"] = ["sleep", "1000"]
        yield made


def write(bundle: Bundle, path: str, resources: dict[str, Any] | None = None, **more: Any) -> None:
    config = bundle.config
    config["linux"]["cgroupsPath"] = path
    config["linux"]["resources"] = resources or {}
    config.update(more)
    (bundle.path / "config.json").write_text(json.dumps(config))


def show(text: str) -> dict[str, list[str]]:
    """Return what `systemctl show` says of a unit: each property's lines, without what is another each time."""
    found: dict[str, list[str]] = {}
    for line in sorted(text.splitlines()):
        key, _, value = line.partition("=")
        if not any(word in key for word in OTHER):
            found.setdefault(key, []).append(value)
    return found


RESOURCES: list[dict[str, Any]] = [
    {},
    {
        "memory": {"limit": 64 * MIB, "swap": 96 * MIB, "reservation": 32 * MIB},
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000, "cpus": "0-1", "mems": "0"},
        "pids": {"limit": 100},
        "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}],
        "unified": {"memory.high": str(48 * MIB)},
        "devices": [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}],
    },
    {
        "memory": {"limit": -1}, "cpu": {"quota": 33_333}, "pids": {"limit": -1}, "unified": {"cpu.weight": "77"},
        "devices": [{"allow": True, "access": "rwm"}],
    },
]


CASES = [RESOURCES[1], *(pytest.param(RESOURCES[n], marks=pytest.mark.long) for n in (0, 2))]


@pytest.mark.parametrize("resources", CASES)
def test_the_unit_is_the_one_that_runc_makes(box: Box, bundle: Bundle, resources: dict[str, Any]) -> None:  # noqa: F811
    write(bundle, "peer-test.slice:lab:one", resources, annotations={"org.systemd.property.TimeoutStopSec": "uint64 7"})
    group = "/sys/fs/cgroup/peer.slice/peer-test.slice/lab-one.scope"
    found = []
    for runtime in (RUNC, OURS):
        oci = shlex.join(runtime)
        script = f"""{oci} --systemd-cgroup create -b {bundle.path} one >/dev/null
            systemctl show lab-one.scope; echo; cd {group}; grep -H . {" ".join(FILES)}; echo; cd /
            {oci} delete --force one; systemctl is-active lab-one.scope || true; ls -d {group} 2>&1 || true"""
        unit, said, left = box.good("sh", "-ec", script).split("\n\n")
        assert "No such file" in left and left.startswith("inactive\n")
        found.append((show(unit), said.splitlines()))
    (theirs, their_files), (ours, our_files) = found
    assert (ours["Slice"], ours["Delegate"], ours["TimeoutStopUSec"]) == (["peer-test.slice"], ["yes"], ["7s"])
    for unit in (ours, theirs):  # runc 1.1 says a major's name in /proc/devices, newer ones its number
        unit["DeviceAllow"] = sorted({line.replace("char-pts", "char-136") for line in unit.get("DeviceAllow", ())})
    assert ours == theirs
    assert our_files == their_files and len(our_files) > 8


@pytest.fixture
def one(box: Box, bundle: Bundle) -> Iterator[Path]:  # noqa: F811
    """The group of a container that runs."""
    write(bundle, "system.slice:lab:one", {"memory": {"limit": 64 * MIB}, "pids": {"limit": 50}})
    box.good(*OURS, "--systemd-cgroup", "run", "--detach", "-b", bundle.path, "one")
    yield box.group / "system.slice/lab-one.scope"
    box.good(*OURS, "delete", "--force", "one")
    assert not (box.group / "system.slice/lab-one.scope").exists()
    assert "could not be found" in box("systemctl", "status", "lab-one.scope").stderr


def test_the_process_is_born_in_the_scope_and_nobody_else_stays_there(box: Box, one: Path) -> None:  # noqa: F811
    """Its cgroup namespace has the scope as its root; the executor that systemd was given has gone."""
    pids = (one / "cgroup.procs").read_text().split()
    assert len(pids) == 1 and Path(f"/proc/{pids[0]}/cmdline").read_bytes() == b"sleep\0" b"1000\0"
    assert box.good(*OURS, "exec", "one", "cat", "/proc/1/cgroup") == "0::/\n"
    assert box.good(*OURS, "exec", "one", "cat", "/proc/self/cgroup") == "0::/\n"
    assert box.good(*OURS, "exec", "one", "cat", "/sys/fs/cgroup/pids.max") == "50\n"


def test_an_update_is_known_to_systemd_and_survives_its_reload(box: Box, one: Path) -> None:  # noqa: F811
    more = ["--memory", 80 * MIB, "--cpu-quota", 33333, "--cpu-period", 100000, "--cpuset-cpus", 1]
    box.good(*OURS, "update", *more, "one")
    wanted = {"memory.max": str(80 * MIB), "cpu.max": "33333 100000", "cpuset.cpus": "1", "pids.max": "50"}
    assert {name: (one / name).read_text().strip() for name in wanted} == wanted
    unit = show(box.good("systemctl", "show", "lab-one.scope"))
    assert (unit["MemoryMax"], unit["CPUQuotaPerSecUSec"], unit["AllowedCPUs"]) == ([str(80 * MIB)], ["340ms"], ["1"])
    box.good("systemctl", "daemon-reload")
    assert (one / "memory.max").read_text() + (one / "pids.max").read_text() == f"{80 * MIB}\n50\n"
    done = box(*OURS, "update", "--cpuset-cpus", "7", "one")
    assert done.returncode == 1 and "cpuset" in done.stderr
    assert "AllowedCPUs=1\n" in box.good("systemctl", "show", "lab-one.scope")


@pytest.mark.long
def test_a_container_is_paused_and_killed_as_any_other(box: Box, one: Path) -> None:  # noqa: F811
    box.good(*OURS, "pause", "one")
    assert "frozen 1" in (one / "cgroup.events").read_text()
    box.good(*OURS, "resume", "one")
    box.good(*OURS, "kill", "one", "KILL")
    assert '"stopped"' in box.good(*OURS, "state", "one")


@pytest.mark.long
def test_what_fails_leaves_no_unit(box: Box, bundle: Bundle) -> None:  # noqa: F811
    def refused(text: str) -> None:
        oci = shlex.join([*OURS, "--systemd-cgroup", "run", "-b", str(bundle.path), "two"])
        done = box("sh", "-c", f"{oci}; code=$?; systemctl list-units --all 'lab-*'; ls /run/oci-ours; exit $code")
        assert done.returncode != 0 and text in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert "0 loaded units" in done.stdout and "two" not in done.stdout

    write(bundle, "/lab/two")
    refused("slice:prefix:name")
    write(bundle, "system:lab:two")
    refused("no slice")
    write(bundle, "a--b.slice:lab:two")
    refused("a--b.slice")
    write(bundle, "system.slice:lab:two", {"cpu": {"cpus": "9"}})
    refused("cpus")
    write(bundle, "system.slice:lab:two", annotations={"org.systemd.property.NoSuchThing": "true"})
    refused("NoSuchThing")
    bundle.config["annotations"] = {}
    bundle.config["process"]["args"] = ["nothing"]
    write(bundle, "system.slice:lab:two")
    refused("nothing")
    bundle.config["process"]["args"] = ["sleep", "1"]
    write(bundle, "system.slice:lab:two", hooks={"createRuntime": [{"path": "/bin/false"}]})
    refused("createRuntime")


@pytest.mark.long
def test_another_s_unit_of_the_same_name_is_left_alone(box: Box, bundle: Bundle, one: Path) -> None:  # noqa: F811
    write(bundle, "system.slice:lab:one")
    done = box(*OURS, "--systemd-cgroup", "run", "-b", bundle.path, "two")
    assert done.returncode == 1 and "lab-one.scope" in done.stderr
    assert len((one / "cgroup.procs").read_text().split()) == 1


@pytest.mark.long
def test_a_run_in_the_foreground_ends_with_its_status_and_leaves_nothing(box: Box, bundle: Bundle) -> None:  # noqa: F811
    bundle.config["process"]["args"] = ["sh", "-c", "sleep 100 & exit 7"]
    write(bundle, "system.slice:lab:two")
    assert box(*OURS, "--systemd-cgroup", "run", "-b", bundle.path, "two").returncode == 7
    assert "lab-two.scope" not in box.good("systemctl", "list-units", "--all")
    assert not (box.group / "system.slice/lab-two.scope").exists()


@pytest.mark.long
def test_a_create_that_is_killed_in_a_hook_leaves_nothing_that_delete_cannot_clean(box: Box, bundle: Bundle) -> None:  # noqa: F811
    hook = [{"path": "/bin/sh", "args": ["sh", "-c", "kill -9 $PPID; sleep 1000"]}]
    write(bundle, "system.slice:lab:two", hooks={"createRuntime": hook})
    assert box(*OURS, "--systemd-cgroup", "create", "-b", bundle.path, "two").returncode != 0
    box.good(*OURS, "delete", "--force", "two")
    assert "lab-two.scope" not in box.good("systemctl", "list-units", "--all") and not box("ls", "/run/oci-ours").stdout


@pytest.mark.long
def test_a_restored_container_is_in_a_scope_again(box: Box, bundle: Bundle) -> None:  # noqa: F811
    bundle.config["process"]["args"] = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done"]
    write(bundle, "system.slice:lab:two", {"pids": {"limit": 30}})
    box.good(*OURS, "--systemd-cgroup", "run", "--detach", "-b", bundle.path, "two")
    image, group = bundle.path / "image", box.group / "system.slice/lab-two.scope"
    box.good(*OURS, "checkpoint", "--image-path", image, "two")
    assert not group.exists() and "lab-two.scope" not in box.good("systemctl", "list-units", "--all")
    # what it had as its output is gone with the box's command: a restored program gets ours
    box.good(*OURS, "--systemd-cgroup", "restore", "--detach", "--image-path", image, "-b", bundle.path, "two")
    procs = (group / "cgroup.procs").read_text().split()
    assert procs and Path(f"/proc/{procs[0]}/cmdline").read_bytes().startswith((b"sh\0", b"sleep\0"))
    assert "TasksMax=30\n" in box.good("systemctl", "show", "lab-two.scope") and (group / "pids.max").read_text() == "30\n"
    box.good(*OURS, "delete", "--force", "two")
    assert not group.exists()


@pytest.mark.long
def test_a_container_s_own_groups_go_with_it(box: Box, bundle: Bundle) -> None:  # noqa: F811
    script = "mkdir /sys/fs/cgroup/below && echo 1 > /sys/fs/cgroup/below/cgroup.procs && exec sleep 1000"
    bundle.config["process"]["args"] = ["sh", "-c", script]
    for mount in bundle.config["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"].remove("ro")
    write(bundle, "system.slice:lab:two")
    box.good(*OURS, "--systemd-cgroup", "run", "--detach", "-b", bundle.path, "two")
    group = box.group / "system.slice/lab-two.scope"
    assert (group / "below").is_dir()
    assert box.good(*OURS, "exec", "two", "cat", "/proc/self/cgroup") == "0::/below\n"
    box.good(*OURS, "delete", "--force", "two")
    assert not group.exists()


# -- a user's own systemd ------------------------------------------------------------------------------------

USER, UID = "student", 1234


@pytest.fixture
def student(box: Box) -> Iterator[dict[str, Any]]:  # noqa: F811
    box.good("useradd", "-u", UID, "-U", "-m", USER)
    box.good("systemctl", "start", f"user@{UID}.service")
    yield {"user": UID, "XDG_RUNTIME_DIR": f"/run/user/{UID}", "HOME": f"/home/{USER}"}
    box.good("systemctl", "stop", f"user@{UID}.service")
    box.good("userdel", "-r", USER)


def test_a_user_s_container_is_in_a_scope_of_the_user_s_systemd(box: Box, bundle: Bundle, student: dict[str, Any]) -> None:  # noqa: F811
    bundle.config["linux"]["namespaces"].append({"type": "user"})
    for kind in ("uidMappings", "gidMappings"):
        bundle.config["linux"][kind] = [{"containerID": 0, "hostID": UID, "size": 1}]
    for mount in bundle.config["mounts"]:  # no group 5 there
        mount["options"] = [option for option in mount.get("options", ()) if option != "gid=5"]
    write(bundle, ":lab:mine", {"pids": {"limit": 40}, "memory": {"limit": 64 * MIB}})
    box.good("chown", "-R", USER, bundle.path)
    oci = [sys.executable, "-m", "minirt", "oci", "--root", f"/run/user/{UID}/oci"]
    box.good(*oci, "--systemd-cgroup", "run", "--detach", "-b", bundle.path, "mine", **student)
    group = box.group / f"user.slice/user-{UID}.slice/user@{UID}.service/user.slice/lab-mine.scope"
    assert (group / "pids.max").read_text() == "40\n" and (group / "memory.max").read_text() == f"{64 * MIB}\n"
    (pid,) = (group / "cgroup.procs").read_text().split()
    assert os.stat(f"/proc/{pid}").st_uid == UID
    unit = box.good("systemctl", "--user", "show", "lab-mine.scope", **student)
    assert "TasksMax=40\n" in unit and "Slice=user.slice\n" in unit
    # From another part of the tree, where the user may not move processes: the user's systemd does.
    assert box.good(*oci, "exec", "mine", "cat", "/proc/self/cgroup", **student) == "0::/\n"
    box.good(*oci, "update", "--pids-limit", "30", "mine", **student)
    assert (group / "pids.max").read_text() == "30\n"
    box.good(*oci, "delete", "--force", "mine", **student)
    assert not group.exists()
