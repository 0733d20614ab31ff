"""The docker command line and containers that run: what each command did is asked of the kernel, or of a file."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from api_server import Api, api, emptied, until  # noqa: F401
from command import gone

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
SLEEPER = ("--network", "none", "busybox", "sleep", "600")


def box(api: Api, *options: str) -> int:
    """A container with the name box that runs; return the host's number of its process."""
    api.good("run", "-d", "--name", "box", *options, *SLEEPER)
    return api.pid("box")


# -- begun and ended


def test_ps_lists_what_runs_with_docker_s_filters(api: Api) -> None:
    box(api, "--label", "color=red")
    api.good("create", "--name", "other", *SLEEPER)
    assert api.good("ps", "--format", "{{.Names}} {{.State}}") == "box running"
    assert set(api.good("ps", "-a", "--format", "{{.Names}}").split()) == {"box", "other"}
    assert api.good("ps", "-aq", "--filter", "status=created", "--no-trunc") == api.inspect("other")["Id"]
    assert api.good("ps", "--filter", "label=color=red", "--format", "{{.Names}}") == "box"
    assert api.good("ps", "--filter", "label=color=blue", "-q") == ""
    assert "(size" in api.good("ps", "-s") or "virtual" in api.good("ps", "-s")


def test_stop_lets_a_program_end_itself_and_kills_it_after_a_while(api: Api) -> None:
    script = "trap 'echo ended; exit 3' TERM; echo ready; while true; do sleep 0.1; done"
    api.good("run", "-d", "--name", "kind", "--network", "none", "busybox", "sh", "-c", script)
    until(lambda: "ready" in api.good("logs", "kind"))
    api.good("stop", "-t", "50", "kind")
    assert api.inspect("kind")["State"]["ExitCode"] == 3 and "ended" in api.good("logs", "kind")
    pid = box(api)
    api.good("stop", "-t", "0", "box")
    assert gone(pid) and api.inspect("box")["State"]["ExitCode"] == 137


def test_pause_freezes_all_processes(api: Api) -> None:
    script = "while true; do cat /proc/uptime; sleep 0.01; done"
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    until(lambda: api.good("logs", "box"))
    api.good("pause", "box")
    assert api.inspect("box")["State"]["Paused"]
    before = api.good("logs", "--tail", "1", "box")
    time.sleep(0.5)
    assert api.good("logs", "--tail", "1", "box") == before
    api.good("unpause", "box")
    until(lambda: api.good("logs", "--tail", "1", "box") != before)


def test_restart_gives_another_process_and_rename_another_name(api: Api) -> None:
    pid = box(api)
    api.good("restart", "-t", "0", "box")
    assert gone(pid) and not gone(api.pid("box"))
    api.good("rename", "box", "crate")
    assert not gone(api.pid("crate")) and api.docker("inspect", "box").returncode == 1


def test_kill_sends_the_signal_that_is_named(api: Api) -> None:
    script = "trap 'echo hup; exit 4' HUP; echo ready; while true; do sleep 0.1; done"
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    until(lambda: "ready" in api.good("logs", "box"))
    api.good("kill", "-s", "HUP", "box")
    assert api.good("wait", "box") == "4" and "hup" in api.good("logs", "box")


def test_wait_tells_the_exit_code_when_it_comes(api: Api) -> None:
    script = "while [ ! -e /end ]; do sleep 0.1; done; exit 7"
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    waiting = api.start("wait", "box")
    time.sleep(0.5)
    assert waiting.poll() is None
    api.good("exec", "box", "touch", "/end")
    assert waiting.communicate(timeout=60)[0].strip() == "7"


def test_rm_needs_force_for_one_that_runs(api: Api) -> None:
    pid = box(api)
    assert "is running" in api.docker("rm", "box").stderr and not gone(pid)
    api.good("rm", "-f", "box")
    assert gone(pid) and api.minirt.containers == []


def test_a_name_is_given_once(api: Api) -> None:
    box(api)
    done = api.docker("create", "--name", "box", *SLEEPER)
    assert done.returncode != 0 and "in use" in done.stderr
    assert api.ask("POST", "/containers/create?name=box", {"Image": "busybox"})[0] == 409


def test_start_attaches_and_gives_the_exit_code(api: Api) -> None:
    api.good("create", "-i", "--name", "box", "--network", "none", "busybox", "sh", "-c", "read a; echo got $a; exit 6")
    done = api.docker("start", "-ai", "box", input="words\n")
    assert (done.stdout, done.returncode) == ("got words\n", 6)
    done = api.docker("start", "-ai", "box", input="again\n")
    assert (done.stdout, done.returncode) == ("got again\n", 6)


# -- what it wrote, uses, has


def test_logs_are_followed_until_the_end(api: Api) -> None:
    script = "i=0; while [ $i -lt 20 ]; do echo $i; echo e$i >&2; i=$((i + 1)); sleep 0.02; done"
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    done = api.docker("logs", "-f", "box")
    assert done.stdout.split() == [str(i) for i in range(20)] and done.stderr.split() == [f"e{i}" for i in range(20)]
    assert api.good("logs", "--tail", "3", "box").split() + api.docker("logs", "--tail", "3", "box").stderr.split() != []
    stamped = api.docker("logs", "-t", "box").stdout.splitlines()
    assert api.docker("logs", "--since", stamped[10].split()[0], "box").stdout.split() == [str(i) for i in range(10, 20)]


def test_top_lists_the_container_s_processes_alone(api: Api) -> None:
    pid = box(api)
    titles, *rows = api.good("top", "box", "-o", "pid,args").splitlines()
    assert titles.split() == ["PID", "COMMAND"] and [row.split() for row in rows] == [[str(pid), "sleep", "600"]]


def test_stats_count_processor_time_and_processes(api: Api) -> None:
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", "while true; do true; done")
    cpu, pids = api.good("stats", "--no-stream", "--format", "{{.CPUPerc}} {{.PIDs}}", "box").split()
    assert float(cpu.rstrip("%")) > 1 and int(pids) >= 1

    def used() -> int:
        return api.ask("GET", "/containers/box/stats?stream=0&one-shot=1")[1]["cpu_stats"]["cpu_usage"]["total_usage"]

    before = used()
    until(lambda: used() > before)


def test_files_are_copied_out_and_in(api: Api, tmp_path: Path) -> None:
    pid = box(api)
    (tmp_path / "in").write_text("words\n")
    api.good("cp", tmp_path / "in", "box:/tmp/there")
    assert Path(f"/proc/{pid}/root/tmp/there").read_text() == "words\n"
    api.good("cp", "box:/tmp/there", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "words\n"
    tar = subprocess.run(["docker", "cp", "box:/etc", "-"], capture_output=True, env=api.env, timeout=60).stdout
    assert "etc/passwd" in tarfile.open(fileobj=io.BytesIO(tar)).getnames()
    subprocess.run(["docker", "cp", "-", "box:/tmp"], input=tar, env=api.env, timeout=60, check=True)
    assert Path(f"/proc/{pid}/root/tmp/etc/passwd").exists()
    assert "nothing" in api.docker("cp", "box:/nothing", tmp_path).stderr


def test_diff_and_export_and_commit_see_what_was_changed(api: Api) -> None:
    box(api)
    api.good("exec", "box", "sh", "-c", "echo new > /new; rm /etc/group; echo more >> /etc/passwd")
    assert set(api.good("diff", "box").splitlines()) >= {"A /new", "D /etc/group", "C /etc/passwd", "C /etc"}
    tar = subprocess.run(["docker", "export", "box"], capture_output=True, env=api.env, timeout=60).stdout
    names = {name.removeprefix("./") for name in tarfile.open(fileobj=io.BytesIO(tar)).getnames()}
    assert "new" in names and "etc/group" not in names
    id = api.good("commit", "-m", "why", "-a", "who", "-c", 'CMD ["cat", "/new"]', "box", "made:1")
    assert api.good("run", "--rm", "--network", "none", "made:1") == "new"
    found = json.loads(api.good("image", "inspect", "made:1"))[0]
    assert found["Id"] == id and found["Author"] == "who" and found["Comment"] == "why"
    api.good("rmi", "made:1")


def test_update_changes_the_restart_policy(api: Api) -> None:
    box(api)
    api.good("update", "--restart", "on-failure:3", "box")
    assert api.inspect("box")["HostConfig"]["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}


def test_events_tell_a_container_s_life(api: Api) -> None:
    now = f"{time.time():.9f}"  # who follows says nothing when he has begun
    following = api.start("events", "--since", now, "--format", "{{.Type}} {{.Action}}", "--filter", "container=box")
    box(api)
    api.good("rm", "-f", "box")
    seen: list[str] = []
    while "container destroy" not in seen:
        seen.append(following.stdout.readline().strip())
    following.kill()
    assert [word for word in seen if word in ("container create", "container start", "container die")] == [
        "container create", "container start", "container die",
    ]  # fmt: skip


def test_what_was_asked_for_is_what_inspect_tells_and_the_kernel_has(api: Api, tmp_path: Path) -> None:
    options = ("--hostname", "host-a", "-e", "A=b", "-w", "/tmp", "-u", "1000:1000", "--read-only", "--cap-drop", "ALL",
               "--init", "-v", f"{tmp_path}:/mnt:ro", "--tmpfs", "/scratch", "--ulimit", "nofile=100:200", "--label", "k=v",
               "--stop-signal", "INT", "--shm-size", "8m", "--security-opt", "no-new-privileges")  # fmt: skip
    pid = box(api, *options)
    found = api.inspect("box")
    config, host = found["Config"], found["HostConfig"]
    assert [config[key] for key in ("Hostname", "User", "WorkingDir", "StopSignal")] == ["host-a", "1000:1000", "/tmp", "INT"]
    assert "A=b" in config["Env"] and config["Labels"]["k"] == "v" and host["ReadonlyRootfs"] and host["ShmSize"] == 8 << 20
    assert [mount["Destination"] for mount in found["Mounts"] if mount["Type"] == "bind"] == ["/mnt"]
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1" and status["Uid"].split()[0] == "1000"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max open files            100                  200" in limits
    mounts = {line.split()[4]: line.split()[5] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()}
    assert mounts["/"].startswith("ro") and mounts["/mnt"].startswith("ro") and "/scratch" in mounts
    assert os.path.basename(os.readlink(f"/proc/{pid}/exe")) != "sleep"  # --init


# -- the server


def test_containers_go_on_and_are_known_when_the_server_begins_anew(api: Api) -> None:
    script = "i=0; while true; do echo $i; i=$((i + 1)); sleep 0.02; done"
    api.good("run", "-d", "--name", "box", "--network", "none", "busybox", "sh", "-c", script)
    pid = api.pid("box")
    for number in (15, 9):
        api.end(number)
        assert not gone(pid)
        api.begin()
        assert api.pid("box") == pid
    count = len(api.good("logs", "box").split())
    until(lambda: len(api.good("logs", "box").split()) > count)
    lines = api.good("logs", "box").split()
    assert lines == [str(i) for i in range(len(lines))]
    api.good("stop", "-t", "0", "box")


def test_a_client_that_dies_leaves_the_container_and_no_thread_that_waits(api: Api) -> None:
    client = api.start("run", "--name", "box", *SLEEPER)
    until(lambda: api.docker("inspect", "box").returncode == 0 and api.inspect("box")["State"]["Running"])
    threads = Path(f"/proc/{server_pid(api)}/task")
    followers = [api.start("logs", "-f", "box"), api.start("attach", "box"), api.start("wait", "box"), api.start("stats", "box")]
    time.sleep(1)
    for process in (client, *followers):
        process.kill()
        process.wait()
    until(lambda: len(list(threads.iterdir())) <= 2)  # who ends it and sees to --restart, who lets clients in
    assert not gone(api.pid("box"))


def server_pid(api: Api) -> int:
    """Return the server's number: nsenter has become it."""
    assert api.process
    return api.process.pid


def test_an_end_that_nobody_saw_is_no_success(api: Api) -> None:
    pid = box(api)
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    monitor = int(status["PPid"])
    assert Path(f"/proc/{monitor}/comm").read_text() == "minirt-monitor\n"
    os.kill(monitor, signal.SIGKILL)
    assert api.inspect("box")["State"]["Running"]  # it is none the worse
    os.kill(pid, signal.SIGKILL)
    until(lambda: gone(pid))
    assert api.inspect("box")["State"]["ExitCode"] == 255
    said = api.ask("POST", "/containers/box/wait")[1]
    assert said["StatusCode"] == 255 and "nobody saw" in said["Error"]["Message"]
