"""`minirt run`, by what the kernel says of the container: its namespaces, mounts, rights, limits and exit codes."""

from __future__ import annotations

import io
import json
import os
import select
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from errno import EPERM, ESRCH
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="bind mounts and device nodes need CAP_SYS_ADMIN and CAP_MKNOD"),
]

DOCKER = 0xA80425FB  # moby's default capabilities, as a mask
NAMESPACES = ("mnt", "pid", "net", "ipc", "uts", "cgroup")
READ_NAMESPACES = "cd /proc/self/ns; for n in mnt pid net ipc uts cgroup user; do echo $n $(readlink $n); done"


def status(text: str, key: str) -> str:
    """Return a field of a /proc/PID/status."""
    return dict(line.split(":", 1) for line in text.splitlines())[key].strip()


def capabilities(minirt, *options: str) -> int:
    """Return the effective capabilities of a container's process; the bounding and permitted sets are the same."""
    text = minirt.sh("cat /proc/self/status", *options)
    assert status(text, "CapEff") == status(text, "CapBnd") == status(text, "CapPrm")
    return int(status(text, "CapEff"), 16)


def eventually(condition: Callable[[], object], seconds: float = 20) -> object:
    """Return the condition's value as soon as it is true."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.01)
    return value


@pytest.fixture(scope="session")
def static_call(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that makes one system call by number and prints its errno."""
    folder = tmp_path_factory.mktemp("call")
    source = folder / "call.c"
    source.write_text(
        "#include <errno.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\n"
        "int main(int c, char **v) { long r = syscall(atol(v[1]), 0, 0, 0, 0, 0, 0);\n"
        '  printf("%d\\n", r < 0 ? errno : 0); return 0; }\n'
    )
    done = subprocess.run(["gcc", "-static", "-o", folder / "call", source], capture_output=True, text=True, timeout=60)
    if done.returncode:
        pytest.skip(f"no static C program can be made: {done.stderr.splitlines()[:1]}")
    return folder / "call"


@pytest.fixture
def hostile(minirt, tmp_path: Path) -> str:
    """An image whose links point out of it: /out to the host's tmp_path/victim, /up to far above its root."""
    (tmp_path / "victim").mkdir()
    busybox = subprocess.run(["which", "busybox"], capture_output=True, text=True).stdout.strip()
    archive = tmp_path / "hostile.tar"
    with tarfile.open(archive, "w") as tar:

        def add(name: str, kind: bytes, data: bytes = b"", link: str = "", mode: int = 0o755) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mode, info.size = kind, link, mode, len(data)
            tar.addfile(info, io.BytesIO(data))

        add("bin", tarfile.DIRTYPE)
        add("bin/sh", tarfile.REGTYPE, Path(busybox).read_bytes())
        add("bin/busybox", tarfile.LNKTYPE, link="bin/sh")
        add("out", tarfile.SYMTYPE, link=str(tmp_path / "victim"))
        add("up", tarfile.SYMTYPE, link="../" * 20 + str(tmp_path / "victim").lstrip("/"))
        add("evil", tarfile.REGTYPE, b"#!/proc/self/exe\n")
    # Importing changes the store, which other tests share: so this one has its own.
    (minirt.root / "lib" / "image").unlink()
    done = minirt("image", "import", archive, "hostile")
    assert done.returncode == 0, done.stderr
    return "hostile"


# -- walls ---------------------------------------------------------------------------------------------------


def test_every_namespace_but_the_user_one_is_new(minirt) -> None:
    inside = dict(line.split() for line in minirt.sh(READ_NAMESPACES).splitlines())
    for name in NAMESPACES:
        assert inside[name] != os.readlink(f"/proc/self/ns/{name}")
    assert inside["user"] == os.readlink("/proc/self/ns/user")


@pytest.mark.parametrize("name", ["net", "pid", "ipc", "uts", "cgroup"])
def test_a_namespace_can_be_shared_with_the_host(minirt, name: str) -> None:
    option = "--cgroupns" if name == "cgroup" else f"--{name}"
    inside = dict(line.split() for line in minirt.sh(READ_NAMESPACES, option, "host").splitlines())
    same = {n for n in NAMESPACES if inside[n] == os.readlink(f"/proc/self/ns/{n}")}
    assert same == {name}


def test_no_mount_of_the_host_is_in_the_container(minirt) -> None:
    container = f"{minirt.root}/lib/containers/"
    for line in minirt.sh("cat /proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        root, point, kind = before.split()[3], before.split()[4], after.split()[0]
        if kind in ("overlay", "proc", "tmpfs", "sysfs", "devpts", "mqueue", "cgroup2"):
            assert root == "/" or point.startswith("/proc/"), line
        else:  # a piece of the host's disk: only what was written for this container
            assert os.path.basename(root) in ("hosts", "hostname", "resolv.conf"), line
            assert container.rpartition("/minirt/")[2] in root, line


def test_mounts_in_the_container_do_not_appear_on_the_host(minirt) -> None:
    script = "mount -t tmpfs of-the-container /mnt && touch /mnt/seen && cat /proc/mounts"
    assert "of-the-container /mnt" in minirt.sh(script, "--cap-add", "SYS_ADMIN", "--tmpfs", "/run")
    on_host = Path("/proc/self/mountinfo").read_text()  # others may mount there meanwhile
    assert "of-the-container" not in on_host and str(minirt.root) not in on_host


def test_a_secret_of_the_host_is_out_of_reach(minirt, tmp_path: Path) -> None:
    secret = tmp_path / os.urandom(8).hex()
    secret.write_text(os.urandom(16).hex())
    places = ["", "/proc/1/root", "/proc/self/cwd/../../../../../..", "/proc/1/cwd/.."]
    done = minirt("run", "--rm", "busybox", "cat", *(f"{place}{secret}" for place in places))
    assert done.returncode != 0
    assert secret.read_text() not in done.stdout
    assert done.stderr.count("No such file") == len(places)


def test_nothing_lies_above_the_root(minirt) -> None:
    above, root = minirt.sh("stat -c %d:%i /proc/1/root/../../.. /").split()
    assert above == root


def test_proc_shows_only_the_container_s_processes(minirt) -> None:
    pids = [int(name) for name in minirt.sh("ls /proc").split() if name.isdigit()]
    assert pids[0] == 1
    assert len(pids) <= 2


def test_masked_paths_read_as_empty(minirt) -> None:
    assert Path("/proc/interrupts").read_bytes()
    paths = [p for p in ("/proc/interrupts", "/proc/keys", "/proc/timer_list", "/proc/kcore") if os.path.exists(p)]
    assert minirt.sh(f"cat {' '.join(paths)} | wc -c") == "0"
    assert minirt.sh("ls -A /sys/firmware /proc/acpi 2>/dev/null | grep -v : || true").split() == []


@pytest.mark.parametrize(
    "path", ["/proc/sys/kernel/core_pattern", "/proc/sys/vm/drop_caches", "/sys/x"]
)
def test_the_kernel_s_settings_are_read_only(minirt, path: str) -> None:
    done = minirt("run", "--rm", "busybox", "sh", "-c", f"echo > {path}")
    assert done.returncode == 1
    assert "Read-only file system" in done.stderr


# -- rights --------------------------------------------------------------------------------------------------


def test_default_capabilities_are_docker_s(minirt) -> None:
    assert capabilities(minirt) == DOCKER


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (("--cap-add", "SYS_ADMIN"), DOCKER | 1 << 21),
        (("--cap-add", "cap_net_admin"), DOCKER | 1 << 12),
        (("--cap-drop", "NET_RAW"), DOCKER & ~(1 << 13)),
        (("--cap-drop", "ALL"), 0),
        (("--cap-drop", "ALL", "--cap-add", "CHOWN"), 1),
    ],
)
def test_capabilities_are_added_and_dropped(minirt, options: tuple[str, ...], wanted: int) -> None:
    assert capabilities(minirt, *options) == wanted


@pytest.mark.parametrize("option", ["--cap-add=ALL", "--privileged"])
def test_all_capabilities_are_those_that_we_have(minirt, option: str) -> None:
    assert capabilities(minirt, option) == int(status(Path("/proc/self/status").read_text(), "CapEff"), 16)


def test_an_ordinary_user_has_no_effective_capabilities(minirt) -> None:
    text = minirt.sh("cat /proc/self/status", "--user", "1000")
    assert int(status(text, "CapEff"), 16) == 0
    assert int(status(text, "CapBnd"), 16) == DOCKER


def test_no_new_privs_is_set_when_asked_for(minirt) -> None:
    assert status(minirt.sh("cat /proc/self/status"), "NoNewPrivs") == "0"
    asked = minirt.sh("cat /proc/self/status", "--security-opt", "no-new-privileges")
    assert status(asked, "NoNewPrivs") == "1"
    assert status(asked, "Seccomp") == "2"


def test_a_filter_is_loaded_unless_unconfined(minirt) -> None:
    assert status(minirt.sh("cat /proc/self/status"), "Seccomp") == "2"
    assert status(minirt.sh("cat /proc/self/status", "--security-opt", "seccomp=unconfined"), "Seccomp") == "0"


def test_the_filter_denies_a_call_that_the_kernel_would_allow(minirt, static_call: Path) -> None:
    options = ("-v", f"{static_call}:/call:ro")
    kcmp = 312  # the default profile wants CAP_SYS_PTRACE for it; the kernel only says that there is no process 0
    assert minirt.sh(f"/call {kcmp}", *options) == str(EPERM)
    assert minirt.sh(f"/call {kcmp}", *options, "--security-opt", "seccomp=unconfined") == str(ESRCH)


def test_mount_is_denied(minirt) -> None:
    done = minirt("run", "--rm", "busybox", "mount", "-t", "tmpfs", "none", "/mnt")
    assert done.returncode != 0
    assert "ermission denied" in done.stderr or "not permitted" in done.stderr


def test_rlimits_are_the_kernel_s(minirt) -> None:
    text = minirt.sh("cat /proc/self/limits", "--ulimit", "nofile=100:200", "--ulimit", "core=0")
    lines = {line[:26].strip(): line[26:].split()[:2] for line in text.splitlines()}
    assert lines["Max open files"] == ["100", "200"]
    assert lines["Max core file size"] == ["0", "0"]


def test_a_sysctl_is_set_in_the_container_alone(minirt) -> None:
    host = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
    assert minirt.sh("cat /proc/sys/net/ipv4/ip_default_ttl", "--sysctl", "net.ipv4.ip_default_ttl=77") == "77"
    assert Path("/proc/sys/net/ipv4/ip_default_ttl").read_text() == host


@pytest.mark.parametrize("options", [["kernel.core_pattern=x"], ["net.ipv4.ip_forward=1", "--net", "host"]])
def test_a_sysctl_that_would_change_the_host_is_refused(minirt, options: list[str]) -> None:
    done = minirt("run", "--rm", "--sysctl", *options, "busybox", "true")
    assert done.returncode == 125
    assert "would change the host" in done.stderr


def test_oom_score_is_set(minirt) -> None:
    assert minirt.sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "321") == "321"


# -- who and where -------------------------------------------------------------------------------------------


def test_hostname_is_the_container_s_alone(minirt) -> None:
    host = os.uname().nodename
    assert minirt.sh("cat /proc/sys/kernel/hostname", "--hostname", "box") == "box"
    assert len(minirt.sh("cat /proc/sys/kernel/hostname")) == 12
    assert os.uname().nodename == host


def test_environment_is_what_was_asked_and_no_more(minirt, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# comment\nFROM_FILE=1 2\n")
    done = minirt("run", "--rm", "-e", "A=b=c", "--env-file", tmp_path / "env", "busybox", "cat", "/proc/self/environ")
    env = dict(item.split("=", 1) for item in done.stdout.split("\0") if item)
    assert env.pop("A") == "b=c"
    assert env.pop("FROM_FILE") == "1 2"
    assert set(env) == {"PATH", "HOSTNAME", "HOME"}


def test_working_directory_is_made_if_missing(minirt) -> None:
    assert minirt.sh("readlink /proc/self/cwd", "-w", "/a/b") == "/a/b"


@pytest.mark.parametrize(
    ("options", "uid", "gid", "groups", "home"),
    [
        ((), "0", "0", "", "/root"),
        (("-u", "www-data"), "33", "33", "", "/var/www"),
        (("-u", "1000"), "1000", "0", "", "/"),
        (("-u", "1000:50", "--group-add", "disk", "--group-add", "7"), "1000", "50", "6 7", "/"),
        (("-u", "nobody:users"), "65534", "100", "", "/home"),
    ],
)
def test_user_groups_and_home(minirt, options: tuple[str, ...], uid: str, gid: str, groups: str, home: str) -> None:
    lines = minirt.sh("echo $HOME; cat /proc/self/status", *options)
    got_home, text = lines.split("\n", 1)
    assert status(text, "Uid").split() == [uid] * 4
    assert status(text, "Gid").split() == [gid] * 4
    assert status(text, "Groups") == groups
    assert got_home == home


def test_an_unknown_user_is_refused(minirt) -> None:
    done = minirt("run", "--rm", "-u", "nosuchuser", "busybox", "true")
    assert done.returncode == 125
    assert "nosuchuser" in done.stderr and done.stderr.count("\n") == 1


def test_root_of_a_user_namespace_is_an_ordinary_user_outside(minirt) -> None:
    shared = minirt.root / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    script = "cat /proc/self/uid_map; stat -c %u /bin/busybox; touch /shared/mine"
    text = minirt.sh(script, "--userns", "auto", "-v", f"{shared}:/shared")
    assert text.split() == ["0", "100000", "65536", "0"]  # and the image's files are root's
    assert (shared / "mine").stat().st_uid == 100000


def test_user_namespace_is_new_when_asked_for(minirt) -> None:
    assert minirt.sh("readlink /proc/self/ns/user", "--userns", "auto") != os.readlink("/proc/self/ns/user")


# -- files ---------------------------------------------------------------------------------------------------


def test_read_only_root(minirt) -> None:
    done = minirt("run", "--rm", "--read-only", "busybox", "sh", "-c", "touch /dev/shm/x && touch /x")
    assert "/x: Read-only file system" in done.stderr
    assert done.returncode == 1


def test_tmpfs_is_there_and_of_its_size(minirt) -> None:
    text = minirt.sh("grep ' /data ' /proc/self/mountinfo", "--tmpfs", "/data:size=1m")
    assert " - tmpfs " in text and "size=1024k" in text
    assert {"nosuid", "nodev", "noexec"} <= set(text.split()[5].split(","))


def test_shm_size(minirt) -> None:
    assert "size=2048k" in minirt.sh("grep ' /dev/shm ' /proc/self/mountinfo", "--shm-size", "2m")


def test_a_volume_is_the_host_s_directory(minirt, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    minirt.sh("echo told > /data/file", "-v", f"{source}:/data")
    assert (source / "file").read_text() == "told\n"


def test_a_read_only_volume_cannot_be_written(minirt, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("seen")
    options = ("-v", f"{tmp_path}:/data:ro", "-v", f"{tmp_path}/file:/one:ro")
    assert minirt.sh("cat /data/file /one", *options) == "seenseen"
    for target in ("/data/new", "/one"):
        done = minirt("run", "--rm", *options, "busybox", "sh", "-c", f"echo > {target}")
        assert "Read-only file system" in done.stderr
    done = minirt("run", "--rm", "--mount", f"type=bind,src={tmp_path},dst=/d,readonly", "busybox", "touch", "/d/x")
    assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("link", ["out", "up"])
@pytest.mark.parametrize("what", ["volume", "tmpfs", "workdir", "device"])
def test_a_link_in_the_image_leads_nowhere(minirt, hostile: str, tmp_path: Path, link: str, what: str) -> None:
    """Not by its absolute path, nor by more ".." than the root is deep (which a root left mounted below would let out)."""
    source = tmp_path / "source"
    source.mkdir()
    options = {
        "volume": ("-v", f"{source}:/{link}/made"),
        "tmpfs": ("--tmpfs", f"/{link}/made"),
        "workdir": ("-w", f"/{link}/made"),
        "device": ("--device", f"/dev/null:/{link}/made"),
    }[what]
    minirt("run", "--rm", *options, hostile, "/bin/sh", "-c", ":")
    assert list((tmp_path / "victim").iterdir()) == []
    assert minirt.containers == []


def test_a_device_is_the_host_s(minirt) -> None:
    assert minirt.sh("stat -c '%F %t:%T' /dev/mine", "--device", "/dev/full:/dev/mine") == "character special file 1:7"


def test_default_devices_work(minirt) -> None:
    script = "echo x > /dev/null; head -c 4 /dev/zero | wc -c; head -c 4 /dev/urandom | wc -c; readlink /dev/stdin"
    assert minirt.sh(script).split() == ["4", "4", "/proc/self/fd/0"]


def test_layers_are_not_changed(minirt) -> None:
    minirt.sh("echo changed > /etc/passwd; rm /etc/group")
    assert "root" in minirt.sh("cat /etc/passwd /etc/group")


# -- network -------------------------------------------------------------------------------------------------


def test_loopback_is_up_and_alone(minirt) -> None:
    assert minirt.sh("ls /sys/class/net").split() in (["lo"], ["lo", "sit0"])
    assert int(minirt.sh("cat /sys/class/net/lo/flags"), 16) & 1
    assert "1 packets received" in minirt.sh("ping -c 1 -W 5 127.0.0.1")


# -- processes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("busybox", "sh", "-c", "exit 7"), 7),
        (("busybox", "nosuch"), 127),
        (("busybox", "/no/such"), 127),
        (("busybox", "/etc/passwd"), 126),
        (("busybox", "/etc"), 126),
        (("nosuchimage", "true"), 125),
        (("--no-such-flag", "busybox", "true"), 125),
        (("--memory", "abc", "busybox", "true"), 125),
        (("--user", "nosuch", "busybox", "true"), 125),
        (("--fail", "mount=EPERM", "busybox", "true"), 125),
    ],
)
def test_exit_codes_are_docker_s(minirt, words: tuple[str, ...], code: int) -> None:
    done = minirt("run", "--rm", *words)
    assert done.returncode == code
    if code > 124:
        assert done.stderr.count("\n") == 1 and done.stderr.startswith("minirt")
    assert minirt.containers == []


def test_death_by_a_signal_is_128_and_its_number(minirt) -> None:
    with minirt.start("run", "busybox", "sleep", "60") as running:
        pid = eventually(lambda: minirt.containers and minirt.state().get("pid"))
        os.kill(pid, signal.SIGKILL)
        assert running.wait(20) == 128 + signal.SIGKILL
    assert minirt.state()["exit_code"] == 137


def test_a_signal_to_us_reaches_the_container(minirt) -> None:
    script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    with minirt.start("run", "--rm", "busybox", "sh", "-c", script) as running:
        assert running.stdout.readline() == "ready\n"
        running.terminate()
        assert running.wait(20) == 42


def test_rm_leaves_nothing_and_without_it_the_changes_stay(minirt) -> None:
    minirt.sh("touch /changed")
    assert minirt.containers == []
    assert minirt("run", "--name", "box", "busybox", "touch", "/changed").returncode == 0
    (container,) = minirt.containers
    assert (container / "upper" / "changed").exists()
    assert minirt("run", "--name", "box", "busybox", "true").returncode != 0
    assert minirt("rm", "box").returncode == 0
    assert minirt.containers == []


def test_init_reaps_orphans_and_gives_the_command_s_status(minirt) -> None:
    script = "(sleep 0.2 & ) ; sleep 0.6; cat /proc/[0-9]*/stat | grep -c ' Z '; cat /proc/1/comm; exit 9"
    done = minirt("run", "--rm", "--init", "busybox", "sh", "-c", script)
    assert done.stdout.split() == ["0", "docker-init"]
    assert done.returncode == 9


def test_standard_input_is_given_with_i_alone(minirt) -> None:
    assert minirt("run", "--rm", "-i", "busybox", "cat", input="told").stdout == "told"
    assert minirt("run", "--rm", "busybox", "cat", input="told").stdout == ""


def test_a_terminal_of_the_container_s_own(minirt) -> None:
    import fcntl
    import struct
    import termios

    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
    script = "tty; stty size; readlink /proc/self/fd/0; ls /dev/pts; exit 5"
    running = minirt.start("run", "--rm", "-it", "busybox", "sh", "-c", script, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    text = b""
    while select.select([master], [], [], 30)[0]:
        try:
            text += os.read(master, 4096)
        except OSError:  # EIO: nobody holds the other side any more
            break
    assert running.wait(20) == 5
    os.close(master)
    assert text.decode().split() == ["/dev/pts/0", "33", "77", "/dev/pts/0", "0", "ptmx"]


def test_no_descriptor_of_the_host_leaks(minirt, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        done = minirt("run", "--rm", "busybox", "sh", "-c", "ls /proc/$$/fd; :", pass_fds=[secret.fileno()])
    # 10 is where a shell keeps its script or terminal
    assert set(done.stdout.split()) <= {"0", "1", "2", "10"}


def test_the_waiting_child_is_a_sealed_file_and_not_python(monkeypatch, minirt) -> None:
    """CVE-2019-5736: through /proc/PID/exe a container could write to the program that set it up."""
    import fcntl

    from minirt.engine import run as engine
    from minirt.engine.options import RunOptions

    seen = {}
    resolve = engine.Session.resolve

    def look(session, birth) -> None:
        path = f"/proc/{birth.pid}/exe"
        seen["exe"] = os.readlink(path)
        fd = os.open(path, os.O_RDONLY)
        seen["seals"] = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
        os.close(fd)
        try:
            os.close(os.open(path, os.O_WRONLY))
        except OSError as error:
            seen["errno"] = error.errno
        resolve(session, birth)

    monkeypatch.setenv("MINIRT_ROOT", str(minirt.root))
    monkeypatch.setattr(engine.Session, "resolve", look)
    assert engine.run(RunOptions("busybox", ["true"], rm=True)) == 0
    assert seen["exe"].startswith("/memfd:minirt-executor")
    assert seen["seals"] == fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    assert "errno" in seen


def test_an_image_that_starts_proc_self_exe_changes_nothing_of_ours(minirt, hostile: str) -> None:
    import minirt.plan.birth as birth

    ours = [Path(birth.__file__).with_name("executor.elf"), Path(sys.executable).resolve()]
    before = [(p.stat().st_mtime_ns, p.stat().st_size) for p in ours]
    done = minirt("run", "--rm", hostile, "/evil")
    assert done.returncode != 0
    assert "python" not in done.stdout.lower()
    assert [(p.stat().st_mtime_ns, p.stat().st_size) for p in ours] == before


# -- looking at how it is done -------------------------------------------------------------------------------


def test_plan_prints_and_runs_nothing(minirt) -> None:
    done = minirt("run", "--plan", "--format", "json", "busybox", "true")
    calls = [record["call"] for record in json.loads(done.stdout)["records"]]
    assert calls.index("clone3") < calls.index("pivot_root") < calls.index("execve")
    assert minirt.containers == []


def test_explain_tells_the_calls_on_standard_error(minirt) -> None:
    done = minirt("run", "--explain", "--rm", "busybox", "echo", "hi")
    assert done.stdout == "hi\n"
    assert done.stderr.index("clone3(") < done.stderr.index("pivot_root(") < done.stderr.index("execve(")


def test_a_trace_is_the_calls_in_the_order_of_time(minirt, tmp_path: Path) -> None:
    from minirt.trace import read_trace

    assert minirt("run", "--trace", tmp_path / "trace", "--rm", "busybox", "true").returncode == 0
    with open(tmp_path / "trace") as stream:
        _, events = read_trace(stream)
    times = [e.time for e in events if e.side == "container"]
    assert times == sorted(times)
    assert [e.result for e in events if e.call == "execve"] == [None]
    assert [e.call for e in events].count("pivot_root") == 1


@pytest.mark.skipif(not os.path.exists("/usr/bin/strace"), reason="strace is not installed")
def test_the_kernel_saw_the_calls_that_the_trace_tells_of(minirt, tmp_path: Path) -> None:
    from minirt.trace import read_trace

    names = ("pivot_root", "sethostname", "mount", "umount2", "setresuid", "capset")
    strace = ["strace", "-f", "-e", f"trace={','.join(names)}", "-o", str(tmp_path / "strace")]
    words = ["run", "--trace", str(tmp_path / "trace"), "--rm", "busybox", "true"]
    subprocess.run([*strace, *minirt.program, *words], env=minirt.env, check=True, timeout=60)
    with open(tmp_path / "trace") as stream:
        _, events = read_trace(stream)
    seen = (tmp_path / "strace").read_text()
    for name in names:
        assert sum(e.call == name for e in events) == seen.count(f" {name}("), name


def test_upto_leaves_out_what_comes_after(minirt) -> None:
    done = minirt("run", "--rm", "--upto", "pivot_root", "busybox", "ls", "/")
    assert done.returncode == 0 and "bin" in done.stdout.split()
    done = minirt("run", "--rm", "--upto", "pivot_root", "busybox", "test", "-e", "/proc/self")
    assert done.returncode == 1  # nobody mounted it


def test_without_pivot_root_the_host_is_seen(minirt, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("seen")
    done = minirt("run", "--rm", "--without", "pivot_root", "busybox", "cat", tmp_path / "secret")
    assert done.stdout == "seen"
    assert "without pivot_root there can be no proc" in done.stderr


def test_without_a_mount_namespace_the_host_still_keeps_its_mounts(minirt) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    minirt("run", "--rm", "--without", "propagation", "busybox", "true")
    minirt("run", "--rm", "--without", "namespaces", "busybox", "true")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_without_seccomp_no_filter_is_loaded(minirt) -> None:
    assert status(minirt.sh("cat /proc/self/status", "--without", "seccomp"), "Seccomp") == "0"


def test_fail_names_the_step_and_the_call(minirt) -> None:
    done = minirt("run", "--rm", "--fail", "pivot_root=EINVAL", "busybox", "true")
    assert done.returncode == 125
    assert "step pivot_root: pivot_root(" in done.stderr and "EINVAL" in done.stderr
