"""Devices, the terminal, what is hidden, settings, network interfaces, the seccomp listener: by what the kernel says."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oci_bundle import Bundle, mounted

from minirt.errors import MinirtError
from minirt.linux import seccomp
from minirt.plan.birth import Birth, PlanFailed

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="device nodes and mounts need CAP_MKNOD and CAP_SYS_ADMIN"),
]


@pytest.fixture
def bundle() -> Iterator[Bundle]:
    path = Path(tempfile.mkdtemp(prefix="minirt-oci-", dir="/var/tmp"))
    path.chmod(0o755)
    yield Bundle(path)
    shutil.rmtree(path)


def device(path: str, type: str = "c", major: int = 1, minor: int = 3, **more: int) -> dict[str, Any]:
    numbers = {} if type == "p" else {"major": major, "minor": minor}
    return {"path": path, "type": type, **numbers, **more}


FORMAT = "%n %F %t %T %a %u %g"


# -- nodes ---------------------------------------------------------------------------------------------------


def test_nodes_of_each_type_have_their_numbers_modes_and_owners(bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        device("/dev/c", "c", 1, 5, fileMode=0o604, uid=7, gid=8),
        device("/dev/u", "u", 10, 229, fileMode=0),
        device("/dev/b", "b", 7, 3, fileMode=0o100660),
        device("/dev/p", "p", fileMode=0o642, gid=9),
        device("/deep/er/x", "c", 5, 1),
    ]
    text = bundle.run(f"stat -c '{FORMAT}' /dev/c /dev/u /dev/b /dev/p /deep/er/x")
    assert text.splitlines() == [
        "/dev/c character special file 1 5 604 7 8",
        "/dev/u character special file a e5 0 0 0",
        "/dev/b block special file 7 3 660 0 0",
        "/dev/p fifo 0 0 642 0 9",
        "/deep/er/x character special file 5 1 666 0 0",
    ]


def test_the_default_devices_and_links_are_there(bundle: Bundle) -> None:
    text = bundle.run(
        "cd /dev; stat -c '%n %t:%T %a' null zero full random urandom tty; for l in fd std* ptmx; do readlink $l; done; ls"
    )
    assert text.splitlines()[:6] == [
        "null 1:3 666", "zero 1:5 666", "full 1:7 666", "random 1:8 666", "urandom 1:9 666", "tty 5:0 666",
    ]  # fmt: skip
    assert text.splitlines()[6:11] == ["/proc/self/fd", "/proc/self/fd/2", "/proc/self/fd/0", "/proc/self/fd/1", "pts/ptmx"]
    assert ("core" in text.split()) == os.path.exists("/proc/kcore")


def test_a_default_device_that_is_listed_is_made_once_as_listed(bundle: Bundle) -> None:
    bundle.linux["devices"] = [device("/dev/../dev/null", fileMode=0o600, uid=5)]
    assert bundle.run(f"stat -c '{FORMAT}' /dev/null") == "/dev/null character special file 1 3 600 5 0\n"
    made = [r for r in compiled(bundle).records if r.call == "mknodat" and r.args[1] in ("/dev/null", "null")]
    assert len(made) == 1


def test_ptmx_is_the_container_s_own_even_if_the_host_s_is_listed(bundle: Bundle) -> None:
    bundle.linux["devices"] = [device("/dev/ptmx", "c", 5, 2), device("/dev/console", "c", 5, 1)]
    assert bundle.run("readlink /dev/ptmx; stat -c %t:%T /dev/console") == "pts/ptmx\n5:1\n"


def compiled(bundle: Bundle, **more: Any):
    from minirt.oci.compile import compile_plan

    return compile_plan(bundle.context(**more))


def test_another_file_at_a_device_s_path_is_an_error(bundle: Bundle) -> None:
    bundle.drop("/dev", "/dev/pts", "/dev/shm", "/dev/mqueue")
    (bundle.rootfs / "dev").mkdir()
    (bundle.rootfs / "dev" / "mine").write_text("")
    bundle.linux["devices"] = [device("/dev/mine")]
    with pytest.raises(PlanFailed, match=r"step devices: .*EEXIST.*another file is at the device's path"):
        bundle.run("true")
    os.remove(bundle.rootfs / "dev" / "mine")
    os.mknod(bundle.rootfs / "dev" / "mine", 0o020644, os.makedev(1, 3))
    assert bundle.run("stat -c %t:%T /dev/mine") == "1:3\n"


def test_in_a_user_namespace_nodes_are_the_host_s(bundle: Bundle) -> None:
    bundle.user_namespace()
    bundle.linux["devices"] = [device("/dev/zero", minor=5), device("/dev/pipe", "p", fileMode=0o622)]
    text = bundle.run(
        "stat -c '%n %t:%T %u' /dev/null /dev/zero; dd if=/dev/zero bs=3 count=1 2>/dev/null | cat >/dev/null; "
        "stat -c %F%a /dev/pipe; cat /proc/self/mountinfo"
    )
    assert text.splitlines()[:3] == ["/dev/null 1:3 65534", "/dev/zero 1:5 65534", "fifo622"]
    assert mounted(text, "/dev/zero").kind == "devtmpfs"


def test_a_descriptor_of_the_host_s_null_device_becomes_the_container_s(bundle: Bundle) -> None:
    before = os.stat("/dev/null").st_mode
    text = bundle.run("chmod 600 /proc/self/fd/0; stat -L -c '%a %m' /proc/self/fd/0 /dev/null", null_fds=(0,))
    assert [line.split()[0] for line in text.splitlines()] == ["600", "600"]
    assert os.stat("/dev/null").st_mode == before


# -- the terminal --------------------------------------------------------------------------------------------


def terminal(bundle: Bundle, script: str, **more: Any) -> str:
    """Run a script on a terminal of its own; return what came out of the master."""
    bundle.config["process"]["terminal"] = True
    said = []

    def at(name: str, birth: Birth) -> None:
        if name == "console":
            master, birth.received = birth.received, -1
            said.append(master)

    bundle.run(script, at=at, **more)
    text = b""
    try:
        while piece := os.read(said[0], 65536):
            text += piece
    except OSError:
        pass
    finally:
        os.close(said[0])
    return text.decode().replace("\r\n", "\n")


def test_the_console_is_the_program_s_terminal(bundle: Bundle) -> None:
    text = terminal(bundle, "stat -c %t:%T /dev/console /dev/pts/0; readlink /proc/self/fd/0; grep console /proc/self/mountinfo")
    first, second, tty = text.splitlines()[:3]
    assert first == second == "88:0" and tty in ("/dev/pts/0", "/dev/console")
    assert mounted(text, "/dev/console").kind == "devpts"


def test_a_dev_of_the_image_keeps_its_console(bundle: Bundle) -> None:
    bundle.drop("/dev", "/dev/shm", "/dev/mqueue")
    (bundle.rootfs / "dev").mkdir()
    os.mknod(bundle.rootfs / "dev" / "console", 0o020600, os.makedev(5, 1))
    (bundle.rootfs / "dev" / "ptmx").symlink_to("/nowhere")
    text = terminal(bundle, "stat -c %t:%T /dev/console; readlink /dev/ptmx")
    assert text == "88:0\npts/ptmx\n"
    assert os.stat(bundle.rootfs / "dev" / "console").st_rdev == os.makedev(5, 1)


# -- hidden and read-only paths ------------------------------------------------------------------------------


def test_hidden_paths_are_empty_and_stay_so(bundle: Bundle) -> None:
    (bundle.rootfs / "secret").mkdir()
    (bundle.rootfs / "secret" / "file").write_text("told")
    (bundle.rootfs / "file").write_text("told")
    bundle.linux["maskedPaths"] += ["/secret", "/file", "/not/there", "/file/nor/this"]
    text = bundle.run("ls /secret; cat /file; ! touch /secret/x; stat -c %t:%T /file")
    assert "told" not in text and "Read-only file system" in text and text.endswith("1:3\n")


def test_read_only_paths_are_with_all_that_is_below(bundle: Bundle) -> None:
    bundle.mount("/data", "tmpfs", type="tmpfs")
    bundle.mount("/data/below", "tmpfs", type="tmpfs")
    bundle.linux["readonlyPaths"] += ["/data", "/not/there"]
    text = bundle.run("! touch /data/x; ! touch /data/below/x; ! echo 1 >/proc/sys/kernel/shmmax")
    assert text.count("Read-only file system") == 3


# -- settings ------------------------------------------------------------------------------------------------


def test_sysctls_take_both_separators_and_values_with_spaces(bundle: Bundle) -> None:
    bundle.linux["sysctl"] = {
        "net.ipv4.ip_local_port_range": "2000 3000",
        "net/ipv4/conf/lo/forwarding": "1",
        "kernel.shm_rmid_forced": "1",
        "kernel.domainname": "by.sysctl",
    }
    text = bundle.run(
        "cd /proc/sys; cat net/ipv4/ip_local_port_range net/ipv4/conf/lo/forwarding kernel/shm_rmid_forced kernel/domainname"
    )
    assert text.split() == ["2000", "3000", "1", "1", "by.sysctl"]


def test_host_and_domain_name_are_set_in_the_container_alone(bundle: Bundle) -> None:
    before = os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()
    bundle.config |= {"hostname": "box", "domainname": "example.org"}
    assert bundle.run("cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname").split() == ["box", "example.org"]
    assert (os.uname().nodename, Path("/proc/sys/kernel/domainname").read_text()) == before


# -- network interfaces --------------------------------------------------------------------------------------


IPV6 = os.path.exists("/proc/net/if_inet6")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=20)


@pytest.fixture
def veth() -> Iterator[str]:
    """One end of a pair of interfaces; the other stays on the host."""
    if not shutil.which("ip"):
        pytest.skip("iproute2, which makes an interface to move, is not installed")
    name = f"mrt{os.getpid() % 100000}"
    ip("link", "add", name, "mtu", "1434", "type", "veth", "peer", "name", f"{name}p")
    try:
        ip("addr", "add", "192.0.2.7/25", "dev", name)
        if IPV6:
            ip("addr", "add", "2001:db8::7/64", "dev", name, "nodad")
        ip("addr", "add", "169.254.3.4/16", "scope", "link", "dev", name)
        ip("link", "set", name, "up")
        yield name
    finally:
        subprocess.run(["ip", "link", "del", f"{name}p"], capture_output=True, timeout=20)


@pytest.mark.parametrize(("wanted", "inside"), [({}, None), ({"name": "eth7"}, "eth7"), ({"name": "eth%d"}, "eth0")])
@pytest.mark.parametrize("userns", [False, True])
def test_an_interface_is_moved_with_its_addresses(
    bundle: Bundle, veth: str, wanted: dict[str, str], inside: str | None, userns: bool
) -> None:
    if userns:
        bundle.user_namespace()
    bundle.linux["netDevices"] = {veth: wanted}
    text = bundle.run(f"ip addr show {inside or veth}")
    assert not os.path.exists(f"/sys/class/net/{veth}")
    assert "UP" in text and "mtu 1434" in text
    assert "inet 192.0.2.7/25" in text
    assert ("inet6 2001:db8::7/64" in text) == IPV6
    assert "169.254.3.4" not in text  # of link scope


def test_a_name_that_the_container_has_is_an_error_and_the_interface_stays(bundle: Bundle, veth: str) -> None:
    bundle.linux["netDevices"] = {veth: {"name": "lo"}}
    with pytest.raises(MinirtError, match=r"linux\.netDevices\..*: the container has an interface lo already"):
        bundle.run("true")
    assert os.path.exists(f"/sys/class/net/{veth}")


def test_an_interface_that_is_not_there_is_an_error(bundle: Bundle) -> None:
    bundle.linux["netDevices"] = {"nosuch0": {}}
    with pytest.raises(MinirtError, match=r"netDevices\.nosuch0: the host has no such interface"):
        bundle.run("true")


def test_the_host_s_network_takes_no_interface(bundle: Bundle) -> None:
    bundle.share("network")
    bundle.linux["netDevices"] = {"lo": {}}
    with pytest.raises(MinirtError, match="the container has the host's network"):
        bundle.run("true")


# -- seccomp -------------------------------------------------------------------------------------------------


class Agent:
    """Listens where listenerPath says, takes one listener and answers each call that it hears of with an errno."""

    def __init__(self, path: Path, error: int) -> None:
        self.path = path
        self.error = error
        self.message: dict[str, Any] = {}
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        import fcntl
        import struct

        connection, _ = self.socket.accept()
        data, fds, _, _ = socket.recv_fds(connection, 1 << 16, 4)
        self.message = json.loads(data)
        (fd,) = fds
        while True:
            call = bytearray(80)  # struct seccomp_notif
            try:
                fcntl.ioctl(fd, 0xC0502100, call)  # SECCOMP_IOCTL_NOTIF_RECV
            except OSError:
                return os.close(fd)
            (id,) = struct.unpack_from("=Q", call)
            fcntl.ioctl(fd, 0xC0182101, bytearray(struct.pack("=QqiI", id, 0, -self.error, 0)))  # ..._NOTIF_SEND


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_an_agent_gets_the_listener_and_answers(bundle: Bundle, no_new_privileges: bool) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(bundle.path / "agent"),
        "listenerMetadata": "whose it is",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }
    bundle.linux["seccomp"] = profile
    bundle.config["process"]["noNewPrivileges"] = no_new_privileges
    made = seccomp.compile(profile)
    agent = Agent(bundle.path / "agent", 122)  # EDQUOT, which no mkdir here has from anywhere else
    text = bundle.run("! mkdir /x; grep Seccomp: /proc/self/status; echo $$", seccomp=(made.program, made.flags))
    agent.thread.join(10)
    assert "Disk quota exceeded" in text or "Quota exceeded" in text
    assert "Seccomp:\t2" in text
    message = agent.message
    assert message["fds"] == ["seccompFd"] and message["metadata"] == "whose it is" and message["ociVersion"] == "1.3.0"
    assert message["state"] == bundle.state and message["pid"] > 1


def test_without_an_agent_nothing_starts(bundle: Bundle) -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": str(bundle.path / "nobody"),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }  # fmt: skip
    bundle.linux["seccomp"] = profile
    made = seccomp.compile(profile)
    with pytest.raises(MinirtError, match="is the agent listening there"):
        bundle.run("true", seccomp=(made.program, made.flags))
