"""The docker command line drives minirt, by `minirt serve`: each command, and what the kernel or a file says of it then."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from api_server import Api, api, emptied, until  # noqa: F401

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("emptied")]
QUICK = ("--network", "none")


# -- the server


def test_version_tells_both_sides(api: Api) -> None:
    fields = ("Client.APIVersion", "Server.MinAPIVersion", "Server.APIVersion", "Server.KernelVersion")
    text = api.good("version", "--format", " ".join(f"{{{{.{field}}}}}" for field in fields))
    client, oldest, newest, kernel = text.split()
    assert (oldest, newest) == ("1.40", "1.50") and kernel == os.uname().release
    assert tuple(map(int, client.split("."))) <= (1, 50)


@pytest.mark.parametrize("version, status", [("1.39", 400), ("1.40", 200), ("1.50", 200), ("1.51", 400)])
def test_versions_beyond_what_is_announced_are_refused(api: Api, version: str, status: int) -> None:
    found, said = api.ask("GET", f"/v{version}/version")
    assert found == status and ("message" in said) == (status == 400)


NONSENSE = (
    ("/networks/create", {"Name": 5}), ("/networks/create", {"Name": "q", "Options": {"mtu": 5}}),
    ("/networks/create", {"Name": "q", "Labels": [1]}), ("/networks/create", {"Name": "q", "IPAM": "x"}),
    ("/networks/bridge/connect", {"Container": "box", "EndpointConfig": 5}),
    ("/networks/create", {"Name": "q", "Options": {"com.docker.network.bridge.name": 'x"y'}}),
    ("/volumes/create", {"Name": 5}), ("/volumes/create", {"Name": "vol", "Labels": [1]}), ("/volumes/create", {"Name": "v"}),
    ("/containers/box/exec", {"Cmd": ["ls"], "Env": 5}), ("/containers/box/exec", {"Cmd": ["ls"], "User": 5}),
    ("/containers/create", {"Image": "busybox", "Healthcheck": {"Test": ["CMD", "a"], "Interval": "1s"}}),
    ("/containers/create", {"Image": "busybox", "Healthcheck": {"Test": ["CMD", 5]}}),
    ("/containers/create", {"Image": "busybox", "HostConfig": {"CapAdd": ["x"]}}),
    ("/commit?container=box&changes=BOGUS", None), ("/containers/b%00x/start", None),
)  # fmt: skip


def everything(api: Api) -> list[str]:
    """Return the ids of networks and containers, and the volumes' names."""
    networks, containers, volumes = (api.ask("GET", path)[1] for path in ("/networks", "/containers/json?all=1", "/volumes"))
    return sorted(one.get("Id") or one["Name"] for one in [*networks, *containers, *volumes["Volumes"]])


def test_what_no_request_can_say_is_the_client_s_fault_and_changes_nothing(api: Api) -> None:
    api.good("run", "-d", *QUICK, "--name", "box", "busybox", "sleep", "1000")
    before = everything(api)
    answers = {f"{path} {body}": api.ask("POST", path, body) for path, body in NONSENSE}
    assert [(what, said) for what, said in answers.items() if said[0] != 400] == []
    assert everything(api) == before


def test_logs_of_a_container_that_keeps_none_say_so(api: Api) -> None:
    api.good("run", "-d", *QUICK, "--log-driver", "none", "--name", "box", "busybox", "sleep", "1000")
    done = api.docker("logs", "box")
    assert done.returncode == 1 and "keeps no log" in done.stderr
    assert api.ask("GET", "/containers/box/logs?stdout=1&tail=%C2%B2")[0] == 400


def test_a_few_lines_of_a_large_log_are_told_without_reading_it(api: Api) -> None:
    id = api.good("run", "-d", *QUICK, "--name", "box", "busybox", "seq", "3")
    api.good("wait", "box")
    with open(api.minirt.root / "lib" / "containers" / id / "log", "r+b") as log:
        lines = log.read()
        log.seek(1 << 30)  # a hole: the kernel gives zeros for it to who does read it
        log.write(b"\n" + lines)
    assert api.process
    for pid, tell in ((api.process.pid, lambda: api.good("logs", "--tail", "2", "box")),
                      (os.getpid(), lambda: api.minirt.good("logs", "--tail", "2", "box"))):  # fmt: skip
        before = bytes_read(pid)
        assert tell().split() == ["2", "3"] and bytes_read(pid) - before < 1 << 28


def bytes_read(pid: int) -> int:
    """Return how many bytes a process, and its children that it has waited for, have read (man 5 proc, /proc/pid/io)."""
    return int(Path(f"/proc/{pid}/io").read_text().split()[1])


def test_what_is_not_there_is_told_as_docker_does(api: Api) -> None:
    assert api.ask("GET", "/containers/nobody/json") == (404, {"message": "No such container: nobody"})
    assert api.ask("GET", "/no/such/thing") == (404, {"message": "page not found"})
    assert api.ask("PUT", "/version")[0] == 405
    assert api.ask("POST", "/containers/create", b"{")[0] == 400


# -- run


def test_run_passes_output_errors_input_and_exit_code(api: Api) -> None:
    script = "cat; echo wrong >&2; exit 7"
    done = api.docker("run", "--rm", "-i", *QUICK, "busybox", "sh", "-c", script, input="typed\n")
    assert (done.stdout, done.stderr, done.returncode) == ("typed\n", "wrong\n", 7)
    assert api.minirt.containers == []


def test_run_tells_a_command_that_is_not_there_and_one_that_cannot_be(api: Api) -> None:
    for word, status in (("nowhere", 127), ("/etc/passwd", 126)):
        done = api.docker("run", "--rm", *QUICK, "busybox", word)
        assert done.returncode == status and word in done.stderr and "waiting" not in done.stderr
    assert api.minirt.containers == []


def test_megabytes_go_through_a_container_and_come_back(api: Api, tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    command = ["docker", "run", "--rm", "-i", *QUICK, "busybox", "cat"]
    assert subprocess.run(command, input=data, capture_output=True, env=api.env, timeout=100).stdout == data


# -- with a terminal


def in_terminal(api: Api, *words: str, typed: bytes = b"", size: tuple[int, int] = (31, 87)) -> tuple[int, str]:
    """Run the docker command line on a terminal, type there when it shows `ready`; return its exit code and all that was shown."""
    import fcntl
    import pty
    import struct
    import termios

    pid, master = pty.fork()
    if pid == 0:
        os.execvpe("docker", ["docker", *words], api.env)
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
    shown = b""
    try:
        while piece := read(api, master, shown):
            shown += piece
            if typed and b"ready" in shown:
                os.write(master, typed)
                typed = b""
    except OSError:  # EIO: its last process has closed it
        pass
    os.close(master)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()


def read(api: Api, master: int, shown: bytes) -> bytes:
    """Read from a terminal; where nothing comes for a minute, say what the server does."""
    if not select.select([master], [], [], 60)[0]:
        assert api.process
        api.process.send_signal(signal.SIGUSR1)
        time.sleep(1)
        raise AssertionError(f"{shown!r} and no more: {(api.minirt.root / 'serve.log').read_text()[-20000:]}")
    return os.read(master, 4096)


READY = "echo ready; read line; stty size; tty; echo got $line; exit 5"


def test_run_gives_a_terminal_of_our_size(api: Api) -> None:
    code, shown = in_terminal(api, "run", "-it", "--rm", *QUICK, "busybox", "sh", "-c", READY, typed=b"words\r")
    assert code == 5 and "31 87" in shown and "/dev/pts/0" in shown and "got words" in shown, shown


def test_exec_gives_a_terminal_of_our_size(api: Api) -> None:
    api.good("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
    code, shown = in_terminal(api, "exec", "-it", "box", "sh", "-c", READY, typed=b"words\r")
    assert code == 5 and "31 87" in shown and "got words" in shown, shown


def test_detach_keys_leave_a_container_that_goes_on_and_attach_returns(api: Api) -> None:
    code, _ = in_terminal(api, "run", "-it", "--name", "box", *QUICK, "busybox", "sh", "-c", READY, typed=b"\x10\x11")
    assert code == 0 and api.inspect("box")["State"]["Running"]
    assert Path(f"/proc/{api.pid('box')}/comm").read_text() == "sh\n"
    log = api.minirt.root / "serve.log"
    seen = log.stat().st_size
    process = api.start("attach", "--no-stdin", "box")
    until(lambda: "GET" in log.read_text()[seen:].partition("/box/attach")[2])  # it has looked once more
    api.good("kill", "box")
    assert process.wait(60) == 137


def test_attach_comes_to_an_end_however_soon_the_container_does(api: Api) -> None:
    for delay in range(0, 200, 40):
        api.good("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
        process = api.start("attach", "--no-stdin", "box")
        time.sleep(delay / 1000)
        api.good("kill", "box")
        assert process.wait(60) in (1, 137)  # 1: it was told that the container is stopped
        api.good("rm", "box")


# -- exec


def test_exec_runs_in_the_container_s_namespaces(api: Api) -> None:
    api.good("run", "-d", "--name", "box", *QUICK, "-e", "A=1", "-w", "/tmp", "busybox", "sleep", "600")
    for kind in ("mnt", "pid", "net", "uts", "ipc", "cgroup"):
        inside = api.good("exec", "box", "readlink", f"/proc/self/ns/{kind}")
        assert inside == os.readlink(f"/proc/{api.pid('box')}/ns/{kind}")
    assert api.good("exec", "-e", "B=2", "-u", "nobody", "box", "sh", "-c", "echo $A$B $(id -un) $PWD") == "12 nobody /tmp"
    assert api.good("exec", "-i", "box", "cat", input="typed") == "typed"
    assert api.docker("exec", "box", "sh", "-c", "exit 9").returncode == 9
    assert api.docker("exec", "box", "nowhere").returncode == 127


def test_exec_detached_goes_on_and_is_told_of_until_it_ends(api: Api) -> None:
    api.good("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
    api.good("exec", "-d", "box", "sh", "-c", "while [ ! -e /end ]; do sleep 0.1; done; exit 4")
    (id,) = api.inspect("box")["ExecIDs"]
    found = api.ask("GET", f"/exec/{id}/json")[1]
    assert found["Running"] and found["ExitCode"] is None
    namespace = os.readlink(f"/proc/{found['Pid']}/ns/pid")
    assert namespace == os.readlink(f"/proc/{api.pid('box')}/ns/pid")
    api.good("exec", "box", "touch", "/end")
    assert until(lambda: api.ask("GET", f"/exec/{id}/json")[1]["ExitCode"]) == 4
    assert api.inspect("box")["ExecIDs"] is None


def test_an_exec_outlives_the_server(api: Api) -> None:
    api.good("run", "-d", "--name", "box", *QUICK, "busybox", "sleep", "600")
    api.good("exec", "-d", "box", "sh", "-c", "while [ ! -e /end ]; do sleep 0.1; done; exit 6")
    (id,) = api.inspect("box")["ExecIDs"]
    api.end(9)
    api.begin()
    api.good("exec", "box", "touch", "/end")
    assert until(lambda: api.ask("GET", f"/exec/{id}/json")[1]["ExitCode"]) == 6
