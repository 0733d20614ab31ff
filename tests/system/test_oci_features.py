"""`minirt oci spec` and `minirt oci features`, beside runc's; and whether what is claimed is so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_oci_runtime import Runtime, oci  # noqa: F401

from minirt.linux.seccomp import compile as compile_filter
from minirt.oci.features import features
from minirt.oci.validate import validate
from minirt.runtime import hooks

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN")

# What is otherwise than in Debian's runc 1.1, and why. Path -> reason; it must occur.
SPEC_DIFFERENCES = {
    "ociVersion": "1.3.0 is what is implemented",
    "hostname": "runc writes its own name",
    "process.capabilities.ambient": "not inheritable, so the kernel refuses them (man 7 capabilities); runc 1.2 left them out",
    "mounts./proc": "as docker and podman mount it: no device and no set-user-ID program is there",
    "linux.namespaces.cgroup": "runc adds it where cgroup v2 is alone, and that is the one there is here",
    "linux.maskedPaths./proc/interrupts": "moby's list is longer today",
    "linux.maskedPaths./sys/devices/virtual/powercap": "moby's list is longer today (CVE-2020-8694)",
}

def command(*words: object, cwd: Path | None = None) -> str:
    """Run minirt oci, which must succeed; return what it printed."""
    words = (sys.executable, "-m", "minirt", "oci", *words)
    return subprocess.run([*map(str, words)], capture_output=True, text=True, check=True, timeout=60, cwd=cwd).stdout


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return path -> value, lists of things with a name by that name, as their order says nothing."""
    if isinstance(value, dict) and value:
        return {k: v for key, item in value.items() for k, v in flat(item, f"{path}.{key}".lstrip(".")).items()}
    if path in ("linux.maskedPaths", "linux.readonlyPaths", "linux.namespaces"):
        return {f"{path}.{item if isinstance(item, str) else item['type']}": item for item in value}
    if path == "mounts":
        return {f"mounts.{item['destination']}": {**item, "options": sorted(item.get("options", []))} for item in value}
    return {path: sorted(value) if isinstance(value, list) and path.startswith("process.cap") else value}


@pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed (the Makefile's PACKAGES_PEERS)")
@pytest.mark.parametrize("rootless", [False, True])
def test_spec_writes_what_runc_writes_but_for_what_is_listed(tmp_path: Path, rootless: bool) -> None:
    flag = ["--rootless"] if rootless else []
    (tmp_path / "runc").mkdir()
    (tmp_path / "ours").mkdir()
    subprocess.run(["runc", "spec", *flag], cwd=tmp_path / "runc", check=True, timeout=20)
    command("spec", *flag, cwd=tmp_path / "ours")
    theirs, ours = (flat(json.loads((tmp_path / who / "config.json").read_text())) for who in ("runc", "ours"))
    found = {path for path in theirs.keys() | ours.keys() if theirs.get(path) != ours.get(path)}
    assert found == SPEC_DIFFERENCES.keys()
    assert validate(json.loads((tmp_path / "ours" / "config.json").read_text()), rootless) == []


def test_spec_does_not_write_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(subprocess.CalledProcessError):
        command("spec", cwd=tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"


@root_only
@pytest.mark.root
def test_what_spec_writes_runs(oci: Runtime) -> None:  # noqa: F811
    """With runc's own capabilities and its device rule; the terminal apart, as there is none."""
    command("spec", "--bundle", oci.path)
    config = json.loads((oci.path / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/sh", "-c", "hostname; grep -E 'CapPrm|NoNewPrivs' /proc/self/status"])
    oci.config.clear()
    oci.config.update(config)
    assert oci.good("run", "--bundle", oci.bundle.path, "box").split() == [
        "minirt", "CapPrm:", f"{1 << 29 | 1 << 5 | 1 << 10:016x}", "NoNewPrivs:", "1"
    ]  # fmt: skip


@root_only
@pytest.mark.root
def test_what_spec_rootless_writes_runs_for_a_user_without_rights(oci: Runtime) -> None:  # noqa: F811
    """Who is root inside, and nobody outside; without a terminal, as there is none."""
    if Path("/proc/sys/user/max_user_namespaces").read_text().strip() == "0":
        pytest.skip("this kernel makes no user namespaces: /proc/sys/user/max_user_namespaces is 0")
    user = 1500
    for folder, _, files in os.walk(oci.path):
        for name in (".", *files):
            os.chown(Path(folder, name), user, user, follow_symlinks=False)
    minirt = [sys.executable, "-m", "minirt", "oci"]
    run = {"cwd": oci.bundle.path, "user": user, "group": user, "extra_groups": [], "capture_output": True, "text": True}
    subprocess.run([*minirt, "spec", "--rootless"], check=True, timeout=60, **run)
    config = json.loads((oci.bundle.path / "config.json").read_text())
    config["process"].update(terminal=False, args=["/bin/sh", "-c", "id -u; cat /proc/self/uid_map; hostname; ls /sys"])
    (oci.bundle.path / "config.json").write_text(json.dumps(config))
    done = subprocess.run([*minirt, "--root", str(oci.path / "mine"), "run", "box"], timeout=60, **run)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:5] == ["0", "0", str(user), "1", "minirt"] and "kernel" in done.stdout
    assert list((oci.path / "mine").iterdir()) == []


def test_the_features_document_has_what_runc_s_has() -> None:
    """All of it but cgroup v1."""
    ours: dict[str, Any] = json.loads(command("features"))
    assert ours == features()
    assert shutil.which("runc"), "runc is not installed (the Makefile's PACKAGES_PEERS)"
    theirs = json.loads(subprocess.run(["runc", "features"], capture_output=True, check=True, timeout=20).stdout)
    assert theirs.keys() <= ours.keys() and theirs["linux"].keys() <= ours["linux"].keys()
    assert set(theirs["mountOptions"]) <= set(ours["mountOptions"])
    assert set(theirs["hooks"]) == set(ours["hooks"])
    assert set(theirs["linux"]["namespaces"]) | {"time"} == set(ours["linux"]["namespaces"])
    assert theirs["linux"]["capabilities"] == ours["linux"]["capabilities"]
    for key in ("actions", "operators", "archs"):
        assert set(theirs["linux"]["seccomp"][key]) <= set(ours["linux"]["seccomp"][key])
    assert {**theirs["linux"]["cgroup"], "v1": False}.items() <= ours["linux"]["cgroup"].items()


def test_each_version_that_is_claimed_is_accepted_and_the_next_major_one_is_not() -> None:
    document = features()
    config: dict[str, Any] = {"root": {"path": "x"}, "linux": {"namespaces": [{"type": "mount"}]}}
    for version in (document["ociVersionMin"], document["ociVersionMax"]):
        assert validate({**config, "ociVersion": version}) == []


def test_each_seccomp_word_that_is_claimed_compiles() -> None:
    words = features()["linux"]["seccomp"]
    for action in words["actions"]:
        for operator in words["operators"]:
            rule = {"names": ["getcwd"], "action": action, "args": [{"index": 0, "value": 1, "op": operator}]}
            profile = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "flags": words["knownFlags"]}
            assert compile_filter(profile).instructions > 4
    native = [name for name in words["archs"] if name.endswith(("X86_64", "X86", "X32", "AARCH64", "ARM", "RISCV64"))]
    assert len(native) == 6
    compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "architectures": native})


@root_only
@pytest.mark.root
def test_each_namespace_mount_option_and_capability_that_is_claimed_is_had(oci: Runtime) -> None:  # noqa: F811
    """A container with all namespaces at once, and a bind mount for each option: the program sees that it runs."""
    document = features()
    linux = oci.bundle.linux
    kinds = [kind for kind in document["linux"]["namespaces"] if kind != "user"]
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    held = Path("/proc/self/status").read_text()
    mine = int(next(line for line in held.splitlines() if line.startswith("CapPrm")).split()[1], 16)
    names = [name for n, name in enumerate(document["linux"]["capabilities"]) if mine >> n & 1]
    oci.config["process"]["capabilities"] = dict.fromkeys(("bounding", "permitted", "effective"), names)
    skipped = {"remount", "idmap", "ridmap", "tmpcopyup", "acl", "noacl", "mand", "nomand", "iversion", "noiversion"}
    for option in sorted(set(document["mountOptions"]) - skipped):
        oci.bundle.mount(f"/m/{option}", oci.bundle.rootfs / "bin", "bind", option)
    script = "ls /m | wc -l; grep CapEff /proc/self/status; for n in /proc/self/ns/*; do readlink $n; done"
    oci.config["process"]["args"] = ["sh", "-c", script]
    (oci.bundle.rootfs / "bin" / "wc").symlink_to("busybox")
    count, _, mask, *links = oci.good("run", "--bundle", oci.bundle.path, "box").split()
    assert int(count) == len(set(document["mountOptions"]) - skipped) and int(mask, 16) == mine
    files = {"mount": "mnt", "network": "net"}
    for kind in kinds:
        file = files.get(kind, kind)
        (link,) = {link for link in links if link.startswith(f"{file}:")}
        assert link != os.readlink(f"/proc/self/ns/{file}")


def test_the_hooks_that_are_claimed_are_those_that_are_run() -> None:
    assert set(features()["hooks"]) == hooks_in(Path(hooks.__file__).parent)


def hooks_in(folder: Path) -> set[str]:
    """Return the names of hooks that the runtime's code asks for."""
    text = "".join(file.read_text() for file in folder.glob("*.py"))
    names = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop", "postcreate")
    return {name for name in names if f'"{name}"' in text}


@root_only
@pytest.mark.root
def test_what_is_claimed_not_to_be_is_refused(oci: Runtime) -> None:  # noqa: F811
    document = features()["linux"]
    assert document["intelRdt"]["enabled"] is False
    oci.bundle.linux["intelRdt"] = {"closID": "x"}
    done = oci("run", "--bundle", oci.bundle.path, "box")
    assert done.returncode == 1 and "linux.intelRdt: is not supported" in done.stderr


@root_only
@pytest.mark.root
@pytest.mark.skipif(os.path.isdir("/run/systemd/system"), reason="systemd runs here (tests/lab asks a real one)")
@pytest.mark.parametrize("command", ["create", "run"])
def test_without_a_systemd_its_cgroups_are_refused_with_what_to_do(oci: Runtime, command: str) -> None:  # noqa: F811
    oci.bundle.linux["cgroupsPath"] = "user.slice:minirt:box"
    done = oci("--systemd-cgroup", command, "--bundle", oci.bundle.path, "box")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and oci.left() == []
    assert "/run/systemd/system is missing" in done.stderr and "cgroupfs" in done.stderr
