"""What `minirt oci` does with a configuration that is wrong: one line with the JSON path, and nothing is left.

Its neighbours run, with a warning where something cannot be had; what is not said has the meaning that runc gives it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_oci_runtime import Runtime, oci, wait_for  # noqa: F401

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]


def change(config: dict[str, Any], path: str, value: Any) -> None:
    """Give a field a value."""
    *above, last = path.split(".")
    for key in above:
        config = config.setdefault(key, {})
    config[last] = value


@pytest.mark.parametrize(("path", "value", "where"), [
    ("ociVersion", "2.0.0", "ociVersion"),
    ("process.cwd", "tmp", "process.cwd"),
    ("root.path", "nowhere", "root.path"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj"),
    ("linux.sysctl", {"vm.swappiness": "1"}, "linux.sysctl['vm.swappiness']"),
    ("linux.intelRdt", {}, "linux.intelRdt"),
    ("hooks", {"poststop": [{"path": "touch"}]}, "hooks.poststop[0].path"),
    ("linux.namespaces", [{"type": "pid"}], "linux.namespaces"),
])  # fmt: skip
@pytest.mark.parametrize("command", ["run", "create"])
def test_a_wrong_configuration_is_refused_in_one_line_and_leaves_nothing(
    oci: Runtime, command: str, path: str, value: Any, where: str  # noqa: F811
) -> None:
    change(oci.config, path, value)
    for key in ("maskedPaths", "readonlyPaths"):
        oci.bundle.linux.pop(key)
    done = oci(command, "--bundle", oci.bundle.path, "box")
    assert done.returncode == 1 and done.stdout == ""
    assert f"config.json: {where}: " in done.stderr and done.stderr.count("\n") == 1
    assert oci.left() == [] and str(oci.path) not in Path("/proc/self/mountinfo").read_text()


def test_an_unknown_capability_is_warned_of_in_the_log_and_the_others_are_granted(oci: Runtime) -> None:  # noqa: F811
    """runtime-spec config.md#linux-process: "Runtimes SHOULD NOT fail", and MUST log a warning."""
    sets = ["CAP_KILL", "CAP_TIME_TRAVEL"]
    oci.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), sets)
    oci.config["process"]["args"] = ["grep", "Cap", "/proc/self/status"]
    log = oci.path / "log"
    done = oci("--log", log, "--log-format", "json", "run", "--bundle", oci.bundle.path, "box")
    assert done.returncode == 0, done.stderr
    masks = {line.split()[0]: int(line.split()[1], 16) for line in done.stdout.splitlines()}
    assert masks["CapPrm:"] == masks["CapBnd:"] == 1 << 5
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert any(line["level"] == "warning" and "CAP_TIME_TRAVEL" in line["msg"] for line in lines)


def test_a_capability_that_the_runtime_has_not_is_left_out_with_a_warning(oci: Runtime) -> None:  # noqa: F811
    """runtime-spec config.md#linux-process: "for example, if the runtime operates in a restricted environment"."""
    names = ["CAP_KILL", "CAP_SYS_TIME"]
    oci.config["process"]["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), names)
    oci.config["process"]["args"] = ["grep", "Cap", "/proc/self/status"]
    oci.write()
    command = ["setpriv", "--bounding-set=-sys_time", sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "run"]
    done = subprocess.run([*command, "--bundle", str(oci.bundle.path), "box"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert {int(line.split()[1], 16) for line in done.stdout.splitlines()} == {0, 1 << 5}
    assert "CAP_SYS_TIME cannot be granted here" in done.stderr and "CAP_KILL" not in done.stderr


def test_of_an_environment_variable_twice_the_last_counts(oci: Runtime) -> None:  # noqa: F811
    oci.config["process"].update(env=["PATH=/bin", "A=1", "HOME=/", "A=2"], args=["env"])
    (oci.bundle.rootfs / "bin" / "env").symlink_to("busybox")
    assert oci.good("run", "--bundle", oci.bundle.path, "box").split() == ["PATH=/bin", "A=2", "HOME=/"]


def test_without_capabilities_in_config_json_there_are_none(oci: Runtime) -> None:  # noqa: F811
    """Of the first process, and of one that joins it: absent is not the same as all."""
    oci.config["process"].pop("capabilities", None)
    oci.config["process"]["args"] = ["sh", "-c", "grep CapEff /proc/self/status; exec sleep 1000"]
    oci.create()
    oci.good("start", "box")
    file = oci.path / "process.json"
    file.write_text(json.dumps({"args": ["grep", "CapEff", "/proc/self/status"], "cwd": "/"}))
    assert oci.good("exec", "--process", file, "box").split() == ["CapEff:", "0" * 16]
    assert (oci.path / "out").read_text().split() == ["CapEff:", "0" * 16]


def test_a_joined_uts_namespace_gets_the_name_too(oci: Runtime) -> None:  # noqa: F811
    """runtime-spec config.md#hostname: as seen by processes running inside the container."""
    holder = subprocess.Popen(["unshare", "-u", "sleep", "1000"])
    try:
        path, host = f"/proc/{holder.pid}/ns/uts", os.readlink("/proc/self/ns/uts")
        wait_for(lambda: os.readlink(path) != host)
        oci.bundle.share("uts")
        oci.bundle.linux["namespaces"].append({"type": "uts", "path": path})
        oci.config["hostname"] = "joined"
        oci.config["process"]["args"] = ["hostname"]
        assert oci.good("run", "--bundle", oci.bundle.path, "box") == "joined\n"
        assert os.uname().nodename != "joined"
    finally:
        holder.kill()
        holder.wait()


def test_the_clocks_of_a_user_namespace_can_be_set(oci: Runtime) -> None:  # noqa: F811
    """man 7 time_namespaces; its file in /proc is the host's root's once the process has changed its user."""
    oci.bundle.user_namespace()
    oci.bundle.linux["namespaces"].append({"type": "time"})
    oci.bundle.linux["timeOffsets"] = {"boottime": {"secs": 86400}}
    oci.config["process"]["args"] = ["cat", "/proc/self/timens_offsets", "/proc/uptime"]
    words = oci.good("run", "--bundle", oci.bundle.path, "box").split()
    assert words[4] == "86400" and float(words[6]) > 86400


def test_a_process_for_exec_is_checked_too(oci: Runtime) -> None:  # noqa: F811
    oci.config["process"]["args"] = ["sleep", "1000"]
    oci.good("run", "--detach", "--bundle", oci.bundle.path, "box", capture_output=False)
    file = oci.path / "process.json"
    file.write_text(json.dumps({"args": ["true"], "cwd": "/", "rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}))
    done = oci("exec", "--process", file, "box")
    assert done.returncode != 0 and f"--process {file}: process.rlimits[0].type: 'RLIMIT_X' is none of" in done.stderr
    file.write_text(json.dumps({"args": ["true"], "cwd": "/"}))
    oci.good("exec", "--process", file, "box")
