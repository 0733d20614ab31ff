"""Each flag of `minirt oci`, by what the kernel says of the container, and that none of runc's is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command import gone
from test_oci_runtime import LIMIT, Runtime, listen, oci, wait_for  # noqa: F401

from minirt.linux.cgroup2 import find_mount
from minirt.runtime.command import COMMANDS, GLOBAL, rare_flags

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="making a container's namespaces needs CAP_SYS_ADMIN"),
]


def ours(name: str) -> set[str]:
    """Return the names of the flags that a command of ours takes."""
    flags = GLOBAL if not name else (*rare_flags(name), *COMMANDS[name].flags)
    return {word for flag in flags for word in flag.names}


def of_runc(name: str) -> set[str]:
    """Return the names of the flags in runc's help."""
    done = subprocess.run(["runc", *([name] if name else []), "--help"], capture_output=True, text=True, timeout=LIMIT)
    lines = done.stdout.partition("OPTIONS:")[2].splitlines()
    flags = (re.match(r" +(-[^ ,]+)(?: value)?(?:, (-[^ ]+))?", line) for line in lines)
    return {name.lstrip("-") for found in flags if found for name in found.groups() if name}


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_none_of_runc_s_flags_is_missing(name: str) -> None:
    if shutil.which("runc") is None:
        pytest.skip("runc is not installed: make test installs it with apt where it may")
    assert of_runc(name) - ours(name) == set()


@pytest.fixture
def running(oci: Runtime) -> Runtime:  # noqa: F811
    """A container that runs."""
    oci.create()
    oci.good("start", "box")
    return oci


def status(pid: int) -> dict[str, str]:
    """Return /proc/PID/status by its keys."""
    return {key: value.strip() for key, _, value in (line.partition(":") for line in Path(f"/proc/{pid}/status").open())}


def group_of(pid: int) -> Path:
    """Return the directory of a process's cgroup."""
    line = next(line for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines() if line.startswith("0::"))
    return Path(find_mount() + line[3:])


# -- create and run --------------------------------------------------------------------------------------------


def test_keep_leaves_state_and_cgroup_of_what_has_ended(oci: Runtime) -> None:  # noqa: F811
    oci.config["process"]["args"] = ["sh", "-c", "exit 3"]
    assert oci("run", "--keep", "--bundle", oci.bundle.path, "box").returncode == 3
    state = oci.state()
    assert state["status"] == "stopped" and state["pid"] == 0
    assert len(oci.left()) == 2, "its directory, its cgroup"
    oci.good("delete", "box")
    assert oci.left() == []


def test_detached_it_goes_on_and_its_pid_is_written(oci: Runtime) -> None:  # noqa: F811
    thread, got = listen(oci.path / "pidfd")
    oci.good("run", "-d", "--pid-file", oci.path / "pid", "--pidfd-socket", oci.path / "pidfd", "--no-subreaper",
             "-b", oci.bundle.path, "box", capture_output=False)  # fmt: skip
    thread.join(10)
    pid = int((oci.path / "pid").read_text())
    assert os.readlink(f"/proc/{pid}/exe").endswith("busybox") and oci.state()["status"] == "running"
    assert f"Pid:\t{pid}\n" in Path(f"/proc/self/fdinfo/{got[1]}").read_text()
    os.close(got[1])


@pytest.mark.parametrize(("flag", "calls"), [
    ("--no-pivot", {"chroot"}), ("", {"pivot_root", "keyctl"}), ("--no-new-keyring", {"pivot_root"}),
])  # fmt: skip
def test_the_root_and_the_keyring_are_changed_by_the_calls_that_were_asked_for(
    oci: Runtime, flag: str, calls: set[str]  # noqa: F811
) -> None:
    oci.config["process"]["args"] = ["true"]
    oci.write()
    command = ["strace", "-f", "-qq", "-o", str(oci.path / "trace"), "-e", "trace=pivot_root,chroot,keyctl", sys.executable]
    command += ["-m", "minirt", "oci", "--root", str(oci.root), "run", *([flag] if flag else []), "-b", str(oci.bundle.path), "box"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 0, done.stderr
    seen = set(re.findall(r"^\d+ +(\w+)\(", (oci.path / "trace").read_text(), re.MULTILINE))
    assert seen - {"keyctl"} == calls - {"keyctl"} and ("keyctl" in seen) == (flag != "--no-new-keyring")


def test_descriptors_of_socket_activation_are_passed_and_told(oci: Runtime) -> None:  # noqa: F811
    """man 3 sd_listen_fds: LISTEN_FDS from 3 on; the program's LISTEN_PID is its own, 1."""
    oci.config["process"]["args"] = ["sh", "-c", "echo $LISTEN_FDS $LISTEN_PID; cat <&3; cat <&4"]
    oci.write()
    for name in ("one", "two"):
        (oci.path / name).write_text(f"{name}\n")
    script = f'exec 3<{oci.path}/one 4<{oci.path}/two; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"'
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "run", "--preserve-fds", "1"]
    done = subprocess.run(["sh", "-c", script, "sh", *command, "-b", str(oci.bundle.path), "box"], capture_output=True, text=True,
                          timeout=LIMIT, check=False)  # fmt: skip
    assert done.stdout.split() == ["1", "1", "one", "two"], done.stderr


# -- exec ------------------------------------------------------------------------------------------------------


def test_exec_with_one_more_capability_has_it_in_each_set(running: Runtime) -> None:
    net_admin = 1 << 12
    before = running.good("exec", "box", "grep", "Cap", "/proc/self/status")
    after = running.good("exec", "--cap", "CAP_NET_ADMIN", "box", "grep", "Cap", "/proc/self/status")
    masks = [{line.split()[0]: int(line.split()[1], 16) for line in text.splitlines()} for text in (before, after)]
    assert not masks[0]["CapBnd:"] & net_admin
    for kind in ("CapBnd:", "CapPrm:", "CapEff:"):
        assert masks[1][kind] == masks[0][kind] | net_admin
    done = running("exec", "--cap", "CAP_OF_NOBODY", "box", "true")
    assert done.returncode == 0 and "level=warning" in done.stderr and "CAP_OF_NOBODY" in done.stderr


def test_exec_without_new_privileges(running: Runtime) -> None:
    running.config["process"]["noNewPrivileges"] = False
    assert "NoNewPrivs:\t1" in running.good("exec", "--no-new-privs", "box", "cat", "/proc/self/status")


def test_exec_passes_descriptors_on(running: Runtime) -> None:
    (running.path / "given").write_text("from outside\n")
    fd = os.open(running.path / "given", os.O_RDONLY)
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(running.root), "exec", "--preserve-fds", "1", "box"]
    done = subprocess.run(["bash", "-c", f'exec 3<&{fd}; exec "$@"', "sh", *command, "sh", "-c", "cat <&3"], pass_fds=[fd],
                          capture_output=True, text=True, timeout=LIMIT)  # fmt: skip
    os.close(fd)
    assert done.stdout == "from outside\n", done.stderr
    done = running("exec", "--preserve-fds", "5", "box", "true")
    assert done.returncode == 255 and "--preserve-fds" in done.stderr


def test_exec_in_a_group_below_the_container_s(running: Runtime) -> None:
    group = group_of(running.pid)
    (group / "below").mkdir()
    with open(os.devnull, "w") as nowhere:
        flags = ("-d", "--pid-file", running.path / "p", "--cgroup", "below")
        assert running("exec", *flags, "box", "sleep", "999", capture_output=False, stdout=nowhere).returncode == 0
    assert group_of(int((running.path / "p").read_text())) == group / "below"
    for path in ("nowhere", "../..", "/../../.."):
        done = running("exec", "--cgroup", path, "box", "true")
        assert (done.returncode == 255 and "no such one below it" in done.stderr) or path != "nowhere"
    assert running.good("exec", "--cgroup", "/", "box", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"


def test_exec_joins_where_the_first_process_is_when_it_has_moved(running: Runtime) -> None:
    """A container that made groups of its own, and has no process in its own any more."""
    group = group_of(running.pid)
    (group / "own").mkdir()
    (group / "own" / "cgroup.procs").write_text(str(running.pid))
    assert running.good("exec", "box", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/own"


def test_exec_ignoring_the_pause_waits_for_its_end(running: Runtime) -> None:
    running.good("pause", "box")
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(running.root), "exec", "--ignore-paused"]
    command += ["box", "echo", "thawed"]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    group = group_of(running.pid)
    wait_for(lambda: len((group / "cgroup.procs").read_text().split()) == 2)
    assert process.poll() is None and running.state()["status"] == "paused"
    running.good("resume", "box")
    assert process.communicate(timeout=LIMIT) == ("thawed\n", None) and process.returncode == 0


@pytest.mark.parametrize(("flag", "module"), [("--apparmor", "apparmor"), ("--process-label", "selinux")])
def test_exec_with_a_label_that_no_module_would_hold_is_refused(running: Runtime, flag: str, module: str) -> None:
    if module in Path("/sys/kernel/security/lsm").read_text() if Path("/sys/kernel/security/lsm").exists() else False:
        pytest.skip(f"this kernel has {module}")
    done = running("exec", flag, "a_profile", "box", "true")
    assert done.returncode == 255 and "this kernel has no" in done.stderr and done.stderr.count("\n") == 1


def test_exec_s_terminal_goes_to_the_console_socket(running: Runtime) -> None:
    thread, got = listen(running.path / "console")
    flags = ("-t", "-d", "--console-socket", running.path / "console", "--pid-file", running.path / "p")
    running.good("exec", *flags, "box", "sh", "-c", "readlink /proc/self/fd/0; sleep 999", capture_output=False)
    thread.join(10)
    _, master = got
    assert os.read(master, 100).strip() == b"/dev/pts/0"
    pid = int((running.path / "p").read_text())
    assert int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4]) != 0, "it has a controlling terminal"
    os.close(master)


def test_exec_sends_a_pidfd(running: Runtime) -> None:
    thread, got = listen(running.path / "pidfd")
    with open(os.devnull, "w") as nowhere:
        flags = ("-d", "--pidfd-socket", running.path / "pidfd", "--pid-file", running.path / "p")
        assert running("exec", *flags, "box", "sleep", "99", capture_output=False, stdout=nowhere).returncode == 0
    thread.join(10)
    assert f"Pid:\t{(running.path / 'p').read_text()}\n" in Path(f"/proc/self/fdinfo/{got[1]}").read_text()
    os.close(got[1])


@pytest.mark.parametrize("words", [("-u", "4294967295"), ("-u", "0:4294967295"), ("-g", "-1"), ("-u", "1:x"), ("-u", "root")])
def test_exec_takes_no_user_that_would_mean_as_it_is(running: Runtime, words: tuple[str, str]) -> None:
    """man 2 setresuid: -1 leaves an id unchanged, and that is root's."""
    done = running("exec", *words, "box", "true")
    assert done.returncode == 255 and words[1] in done.stderr and done.stderr.count("\n") == 1


def test_exec_has_the_container_s_process_for_all_that_no_flag_says(oci: Runtime) -> None:  # noqa: F811
    oci.config["process"]["user"] = {"uid": 5, "gid": 6, "umask": 0o027, "additionalGids": [7]}
    oci.config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]
    oci.config["process"]["cwd"] = "/bin"
    oci.config["process"]["env"] += ["GIVEN=yes"]
    oci.create()
    oci.good("start", "box")
    script = "id -u; id -g; umask; pwd; echo $GIVEN; ulimit -n"
    assert oci.good("exec", "box", "sh", "-c", script).split() == ["5", "6", "0027", "/bin", "yes", "100"]


# -- what is there, and what it does -----------------------------------------------------------------------------


def test_ps_takes_ps_s_own_options(running: Runtime) -> None:
    pid = running.pid
    title, line = running.good("ps", "box", "-o", "comm,pid,ppid").splitlines()
    assert title.split() == ["COMMAND", "PID", "PPID"] and line.split()[:2] == ["sleep", str(pid)]
    assert str(pid) in running.good("ps", "box")
    assert "no column PID" in running("ps", "box", "-o", "comm").stderr
    assert "ps --nothing" in running("ps", "box", "--nothing").stderr
    assert json.loads(running.good("ps", "-f", "json", "box")) == [pid]


def test_list_in_each_form(running: Runtime) -> None:
    pid = running.pid
    assert running.good("list", "-q") == running.good("list", "--quiet") == "box\n"
    (entry,) = json.loads(running.good("list", "-f", "json"))
    assert entry["pid"] == pid and entry["bundle"] == str(running.bundle.path) and entry["status"] == "running"
    titles, line = running.good("list").splitlines()
    assert titles.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert line.split()[:3] == ["box", str(pid), "running"]
    other = [sys.executable, "-m", "minirt", "oci", "--root", str(running.path / "other"), "list", "-f", "json"]
    assert json.loads(subprocess.run(other, capture_output=True, text=True, timeout=LIMIT, check=True).stdout) == []


def test_events_are_the_group_s_counters_once_or_until_the_end(running: Runtime) -> None:
    group = group_of(running.pid)
    once = json.loads(running.good("events", "--stats", "box"))
    assert once["type"] == "stats" and once["id"] == "box"
    used = int(dict(line.split() for line in (group / "cpu.stat").open())["usage_usec"]) * 1000
    assert 0 < once["data"]["cpu"]["usage"]["total"] <= used
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(running.root), "events", "--interval", "20ms", "box"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    for _ in range(3):
        assert json.loads(process.stdout.readline())["type"] == "stats"
    assert "--interval" in running("events", "--interval", "soon", "box").stderr
    running.good("kill", "box", "KILL")
    process.communicate(timeout=LIMIT)
    assert process.returncode == 0, "it ends with the container"


def test_kill_all_reaches_processes_that_do_not_end_with_the_first(oci: Runtime) -> None:  # noqa: F811
    """In a shared pid namespace: there the kernel ends nobody with the first (man 7 pid_namespaces)."""
    oci.bundle.share("pid")
    oci.config["process"]["args"] = ["sh", "-c", "trap 'sleep 0' TERM; sleep 777 & sleep 778 & while :; do sleep 1000; done"]
    oci.create()
    oci.good("start", "box")
    group = group_of(oci.pid)
    wait_for(lambda: len((group / "cgroup.procs").read_text().split()) == 4)
    pids = [int(word) for word in (group / "cgroup.procs").read_text().split()]
    oci.good("kill", "--all", "box", "TERM")
    wait_for(lambda: sum(map(gone, pids)) == 3)  # all but the shell, which catches it
    oci.good("kill", "-a", "box", "SIGKILL")
    wait_for(lambda: all(map(gone, pids)) and not (group / "cgroup.procs").read_text())
    oci.good("kill", "--all", "box", "9")  # nobody is left: no error, as engines clean up so


def test_without_all_kill_reaches_the_first_process_alone(oci: Runtime) -> None:  # noqa: F811
    oci.config["process"]["args"] = ["sh", "-c", "sleep 777 & trap 'echo first' USR1; while :; do sleep 0.05; done"]
    oci.create()
    oci.good("start", "box")
    time.sleep(0.2)
    before = set(json.loads(oci.good("ps", "-f", "json", "box")))
    oci.good("kill", "box", "SIGUSR1")
    wait_for(lambda: (oci.path / "out").read_text() == "first\n")
    assert len(set(json.loads(oci.good("ps", "-f", "json", "box"))) & before) >= 2


@pytest.mark.parametrize("flag", ["--l3-cache-schema", "--mem-bw-schema"])
def test_update_of_intel_s_allocation_is_refused_where_there_is_none(running: Runtime, flag: str) -> None:
    done = running("update", flag, "L3:0=f", "box")
    assert done.returncode == 1 and flag in done.stderr and "resctrl" in done.stderr and done.stderr.count("\n") == 1


def test_update_of_what_no_kernel_has_any_more_is_ignored_with_a_warning(running: Runtime) -> None:
    done = running("update", "--kernel-memory", "1", "--kernel-memory-tcp", "1", "box")
    assert done.returncode == 0 and done.stderr.count("level=warning") == 2


def test_update_names_what_is_no_number(running: Runtime) -> None:
    for flag in ("--memory", "--memory-swap", "--pids-limit", "--cpu-quota", "--cpu-share", "--blkio-weight"):
        done = running("update", flag, "many", "box")
        assert done.returncode == 1 and flag[2:] in done.stderr and done.stderr.count("\n") == 1
    done = running("update", "-r", "-", "box", stdin=subprocess.DEVNULL)
    assert done.returncode == 1 and done.stderr.count("\n") == 1


# -- global flags ------------------------------------------------------------------------------------------------


def test_the_log_is_text_unless_json_is_asked_for(oci: Runtime) -> None:  # noqa: F811
    log = oci.path / "log"
    oci("--log", log, "start", "nobody")
    assert re.fullmatch(r'time="[^"]+" level=error msg="container does not exist: nobody"\n', log.read_text())
    oci("--log", log, "--log-format=json", "start", "nobody")
    assert json.loads(log.read_text().splitlines()[1])["msg"] == "container does not exist: nobody"


def test_the_version_is_what_engines_parse(oci: Runtime) -> None:  # noqa: F811
    assert re.fullmatch(r"minirt-oci version \S+\nspec: 1\.\d+\.\d+\n", oci.good("--version"))
    assert oci.good("-v") == oci.good("--version")


def test_debug_shows_where_a_mistake_of_ours_is_and_else_changes_nothing(oci: Runtime) -> None:  # noqa: F811
    for words in (("--debug", "--criu", "/nowhere"), ("--rootless", "true"), ("--rootless=auto",)):
        oci.config["process"]["args"] = ["echo", "hello"]
        done = oci(*words, "run", "-b", oci.bundle.path, "box")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_a_hook_that_fails_after_the_end_is_warned_of_and_the_others_run(oci: Runtime) -> None:  # noqa: F811
    """runtime-spec config.md#poststop: a warning, and the remaining hooks and the lifecycle go on as if it had succeeded."""
    proof = oci.path / "proof"
    oci.config["hooks"] = {"poststop": [
        {"path": "/bin/sh", "args": ["sh", "-c", "echo not so >&2; exit 4"]}, {"path": "/nowhere"},
        {"path": "/bin/sh", "args": ["sh", "-c", f"/bin/cat >{proof}"]},
    ]}  # fmt: skip
    oci.create()
    done = oci("delete", "box")
    assert done.returncode == 0 and done.stderr.count("level=warning") == 2 and "not so" in done.stderr
    assert json.loads(proof.read_text())["status"] == "stopped" and oci.left() == []


def test_a_create_whose_hook_hangs_does_not_keep_delete_force_waiting_for_ever(oci: Runtime) -> None:  # noqa: F811
    hook = oci.path / "hook"
    script = f"echo $$ >{hook}.new; /bin/mv {hook}.new {hook}; exec /bin/sleep 500"
    oci.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    oci.write()
    command = [sys.executable, "-m", "minirt", "oci", "--root", str(oci.root), "create", "-b", str(oci.bundle.path), "box"]
    create = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(hook.exists)
    pid = oci.pid
    done = oci("delete", "--force", "box")
    assert done.returncode == 0 and "another command has held container box" in done.stderr
    assert gone(pid) and oci.left() == []
    oci.config["hooks"] = {}
    oci.create()
    os.kill(int(hook.read_text()), 9)
    assert create.wait(LIMIT) == 1
    assert oci.state()["status"] == "created", "what it undoes is not another container's of its name"
