"""Containers that nobody stays with: their monitor holds their streams, sees their end, and all else is as the kernel says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from threading import Thread

import pytest
from command import Minirt, gone

from minirt.engine.monitor import STATUS, connect, frame
from minirt.image.scratch import Lock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")
LIMIT = 30.0  # seconds that something may take on a busy machine
MANY, FRAMES, TYPED = 16, 8, b"x" * 32768  # clients, frames of each, what is in one


def until(holds: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not holds():
        assert time.monotonic() < end, "it never came to pass"
        time.sleep(0.02)


def connected(pid: int) -> bool:
    """Say whether a process has a socket."""
    return any(os.readlink(fd).startswith("socket:") for fd in Path(f"/proc/{pid}/fd").iterdir())


def folder(minirt: Minirt, name: str) -> Path:
    return minirt.root / "lib" / "containers" / inspect(minirt, name)["Id"]


def inspect(minirt: Minirt, name: str) -> dict:  # type: ignore[type-arg]
    (found,) = json.loads(minirt.good("inspect", name))
    return found  # type: ignore[no-any-return]


def pid(minirt: Minirt, name: str) -> int:
    return int(inspect(minirt, name)["State"]["Pid"])


def parent(of: int) -> int:
    return int(Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()[1])


def processor_time(of: int) -> float:
    """Seconds of a processor that a process has used."""
    fields = Path(f"/proc/{of}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.fixture
def mine(minirt: Minirt) -> Iterator[Minirt]:
    """A minirt whose containers are gone in the end."""
    yield minirt
    for id in minirt.good("ps", "-aq").split():
        minirt("rm", "-f", id)
    assert not list((minirt.root / "lib" / "containers").glob("[0-9a-f]*"))


def test_a_detached_container_is_its_monitor_s_child_and_outlives_us(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    first = pid(mine, "box")
    monitor = parent(first)
    assert Path(f"/proc/{monitor}/comm").read_text().strip() == "minirt-monitor"
    assert parent(monitor) != os.getpid()
    assert Path(f"/proc/{first}/cmdline").read_bytes() == b"sleep\x001000\0"


def test_a_monitor_costs_less_than_a_megabyte(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "seq 20000; sleep 1000")
    until(lambda: "20000\n" in mine.good("logs", "--tail", "1", "box"))
    status = Path(f"/proc/{parent(pid(mine, 'box'))}/smaps_rollup").read_text()
    private = sum(int(line.split()[1]) for line in status.splitlines() if line.startswith("Private_"))
    assert private < 1024, "kB that are its own"


def test_the_exit_code_is_the_program_s(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "exit 7")
    assert mine.good("wait", "box") == "7\n"
    state = inspect(mine, "box")["State"]
    assert (state["Status"], state["ExitCode"], state["Pid"]) == ("exited", 7, 0)


def test_what_it_writes_is_logged_by_stream_and_in_order(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "echo one; echo two >&2; printf three")
    mine.good("wait", "box")
    entries = [json.loads(line) for line in (folder(mine, "box") / "log").read_text().splitlines()]
    written = {stream: "".join(e["log"] for e in entries if e["stream"] == stream) for stream in ("stdout", "stderr")}
    assert written == {"stdout": "one\nthree", "stderr": "two\n"}
    done = mine("logs", "box")
    assert (done.stdout, done.stderr) == ("one\nthree", "two\n")


def test_no_line_is_lost(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "seq", "50000")
    mine.good("wait", "box")
    assert mine.good("logs", "box") == "".join(f"{n}\n" for n in range(1, 50001))


def test_a_log_goes_over_into_another_file_when_it_is_large(mine: Minirt) -> None:
    limits = ("--log-opt", "max-size=10k", "--log-opt", "max-file=3")
    mine.good("run", "-d", "--name", "box", *limits, "busybox", "seq", "1000")
    mine.good("wait", "box")
    sizes = [path.stat().st_size for path in sorted(folder(mine, "box").glob("log*"))]
    assert len(sizes) == 3 and all(size < 11_000 for size in sizes)
    numbers = [int(line) for line in mine.good("logs", "box").split()]
    assert numbers == list(range(numbers[0], 1001))


def test_logs_tell_details_and_end_when_they_are_to(mine: Minirt) -> None:
    named = ("--log-opt", "labels=team,none", "--log-opt", "env=STAGE", "-l", "team=a", "-l", "x=y", "-e", "STAGE=test")
    mine.good("run", "-d", "--name", "box", *named, "busybox", "sh", "-c", "echo one; echo two; sleep 1000")
    until(lambda: mine.good("logs", "box") == "one\ntwo\n")
    assert mine.good("logs", "--details", "box") == "STAGE=test,team=a one\nSTAGE=test,team=a two\n"
    stamp, *rest = mine.good("logs", "-t", "--details", "--tail", "1", "box").split(" ")
    assert len(stamp) == len("2026-11-25T12:00:00.123456789Z") and rest == ["STAGE=test,team=a", "two\n"]
    assert mine.good("logs", "--tail", "0", "box") == "" and mine.good("logs", "--tail", "-1", "box") == "one\ntwo\n"
    assert mine.good("logs", "--since", stamp, "box") == "two\n" and mine.good("logs", "--until", stamp, "box") == "one\n"
    assert mine.good("logs", "-f", "--until", str(time.time() + 1), "box") == "one\ntwo\n", "it runs, and we do not wait for it"


def test_what_nobody_keeps_cannot_be_read(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "quiet", "--log-driver", "none", "busybox", "echo", "hi")
    mine("run", "--name", "here", "busybox", "echo", "hi")
    for name, said in (("quiet", "--log-driver none"), ("here", "in the foreground")):
        done = mine("logs", name)
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and said in done.stderr


def test_logs_are_followed_until_the_end(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.3; done")
    assert mine.good("logs", "-f", "box") == "1\n2\n3\n"
    assert mine.good("logs", "--tail", "1", "box") == "3\n"
    assert mine.good("logs", "--since", "1h", "--until", "30m", "box") == ""


def test_a_full_disk_holds_the_program_up_and_loses_nothing(tmp_path: Path, minirt: Minirt) -> None:
    """On a tmpfs of its own, filled while the program writes; freed, all goes on."""
    script = """set -e
    mount -t tmpfs -o size=24m tmpfs "$1"; export MINIRT_ROOT="$1/r"; m="$2 -m minirt"
    $m run --rm busybox true
    $m run -d --name box busybox sh -c 'sleep 1; seq 60000' >/dev/null
    dd if=/dev/zero of="$1/filler" bs=4k status=none 2>/dev/null || true
    sleep 2.5
    $m ps -q | grep -q . || { echo "it did not wait"; exit 1; }
    rm "$1/filler"; $m wait box; $m logs box | tail -n +1 | cksum; seq 60000 | cksum; $m rm box >/dev/null"""
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", tmp_path, minirt.program[0]],
                          capture_output=True, text=True, timeout=90)  # fmt: skip
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines[0] == "0" and lines[1] == lines[2]


def test_it_can_be_started_again_with_what_it_changed(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "ls /kept 2>/dev/null || touch /kept")
    mine.good("wait", "box")
    mine.good("start", "box")
    mine.good("wait", "box")
    assert mine.good("logs", "box") == "/kept\n"


def test_create_makes_and_start_starts(mine: Minirt) -> None:
    id = mine.good("create", "--name", "box", "busybox", "echo", "hi").strip()
    assert inspect(mine, "box")["State"]["Status"] == "created" and inspect(mine, "box")["Id"] == id
    mine.good("gc")
    assert mine.good("start", "-a", "box") == "hi\n"


def test_stop_asks_and_then_kills(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "deaf", "busybox", "sleep", "1000")  # pid 1 without a handler gets no TERM
    mine.good("run", "-d", "--name", "polite", "busybox", "sh", "-c", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    mine.good("stop", "-t", "0.5", "deaf", "polite")
    assert inspect(mine, "deaf")["State"]["ExitCode"] == 137
    assert inspect(mine, "polite")["State"]["ExitCode"] == 3


def test_on_failure_it_is_started_so_often_and_no_more(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--restart", "on-failure:2", "busybox", "sh", "-c", "echo run; exit 1")
    until(lambda: inspect(mine, "box")["State"]["Status"] == "exited")
    assert inspect(mine, "box")["RestartCount"] == 2
    assert mine.good("logs", "box") == "run\n" * 3


def test_what_is_stopped_is_not_started_again(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "--restart", "always", "busybox", "sleep", "1000")
    os.kill(pid(mine, "box"), signal.SIGKILL)
    until(lambda: inspect(mine, "box")["RestartCount"] == 1 and inspect(mine, "box")["State"]["Running"])
    mine.good("stop", "-t", "0", "box")
    assert inspect(mine, "box")["State"]["Status"] == "exited"


def test_with_rm_it_is_gone_at_its_end(mine: Minirt) -> None:
    id = mine.good("run", "-d", "--rm", "busybox", "true").strip()
    until(lambda: not (mine.root / "lib" / "containers" / id).exists())
    assert not list((mine.root / "lib" / "image" / "holds").glob(id))


def test_a_killed_monitor_leaves_a_container_that_is_seen_and_can_be_removed(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    first = pid(mine, "box")
    os.kill(parent(first), signal.SIGKILL)
    until(lambda: Path(f"/proc/{parent(first)}/comm").read_text().strip() != "minirt-monitor")
    assert inspect(mine, "box")["State"]["Running"]
    mine.good("rm", "-f", "box")
    until(lambda: gone(first))


@pytest.mark.parametrize("policy", ["no", "always"])
def test_who_lost_his_monitor_is_told_by_the_next_command_and_once_when_he_has_ended(mine: Minirt, policy: str) -> None:
    mine.good("run", "-d", "--name", "box", "--restart", policy, "busybox", "sleep", "1000")
    assert mine("ps").stderr == "" and inspect(mine, "box")["State"]["Error"] == ""
    first = pid(mine, "box")
    os.kill(parent(first), signal.SIGKILL)
    until(lambda: "box: the process that stayed with it was killed" in mine("ps").stderr)
    assert "what it writes is lost" in mine("logs", "box").stderr and mine("ps", "-q").stderr == ""
    assert "what it writes is lost" in inspect(mine, "box")["State"]["Error"] and pid(mine, "box") == first
    os.kill(first, signal.SIGKILL)
    until(lambda: gone(first))
    told = mine("ps", "-a")
    assert "nobody saw how it ended" in told.stderr and "Exited (255)" in told.stdout and told.stderr.count("\n") == 1
    assert ("--restart always: `minirt start box` starts it again" in told.stderr) == (policy == "always")
    assert mine("ps", "-a").stderr == "", "once"
    state = inspect(mine, "box")["State"]
    assert (state["Status"], state["Pid"], state["ExitCode"]) == ("exited", 0, 255) and "nobody saw" in state["Error"]
    mine.good("start", "box")
    assert inspect(mine, "box")["State"]["Error"] == "" and mine("ps").stderr == ""


@pytest.mark.parametrize(("words", "code"), [(("none",), 127), (("/etc",), 126)])
def test_what_cannot_be_started_leaves_nothing(mine: Minirt, words: tuple[str, ...], code: int) -> None:
    done = mine("run", "-d", "busybox", *words)
    assert done.returncode == code and done.stderr.count("\n") == 1
    assert mine.good("ps", "-aq") == ""


def test_pause_holds_all_processes_still(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", "while :; do :; done")
    if inspect(mine, "box")["State"]["Pid"] and mine("pause", "box").returncode:
        pytest.skip("no cgroup v2 here that a group can be made in")
    before = Path(f"/proc/{pid(mine, 'box')}/stat").read_text().rpartition(")")[2].split()[11]
    assert inspect(mine, "box")["State"]["Status"] == "paused"
    time.sleep(0.3)
    assert Path(f"/proc/{pid(mine, 'box')}/stat").read_text().rpartition(")")[2].split()[11] == before
    mine.good("unpause", "box")
    assert inspect(mine, "box")["State"]["Status"] == "running"


def test_exec_joins_it_with_user_directory_and_environment(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "-e", "A=1", "busybox", "sleep", "1000")
    script = "id -u; id -g; pwd; echo $A$B; readlink /proc/self/ns/pid"
    out = mine.good("exec", "-u", "7:8", "-w", "/tmp", "-e", "B=2", "box", "sh", "-c", script)
    assert out.splitlines() == ["7", "8", "/tmp", "12", os.readlink(f"/proc/{pid(mine, 'box')}/ns/pid")]
    assert mine("exec", "box", "sh", "-c", "exit 5").returncode == 5
    assert mine("exec", "box", "none").returncode == 127
    assert mine("exec", "-i", "box", "cat", input="typed").stdout == "typed"


def test_input_goes_to_it_and_its_end_too(mine: Minirt) -> None:
    mine.good("create", "-i", "--name", "box", "busybox", "sh", "-c", "cat; echo over")
    assert mine("start", "-ai", "box", input="one\ntwo\n").stdout == "one\ntwo\nover\n"


def test_a_program_that_writes_more_than_it_reads_does_not_stand_still(mine: Minirt) -> None:
    line, lines = "x" * 39, 1_000_000
    mine.good("create", "-i", "--log-driver", "none", "--name", "box", "busybox", "awk", f'{{ print "{line}" }}')
    with mine.start("start", "-ai", "box", stdin=subprocess.PIPE) as process:
        try:
            written = process.communicate("\n" * lines, timeout=LIMIT)[0]
        finally:
            process.kill()
    assert process.returncode == 0 and len(written) == lines * (len(line) + 1)


def test_many_who_type_at_once_do_not_hurt_the_monitor(mine: Minirt) -> None:
    script = "until test -e /go; do sleep 0.1; done; head -c $0 | wc -c"
    id = mine.good("run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", script, MANY * FRAMES * len(TYPED)).strip()
    typists = [connect(f"{mine.root}/lib/containers/{id}/attach") for _ in range(MANY)]
    threads = [Thread(target=typist.sendall, args=(frame(0, TYPED) * FRAMES,)) for typist in typists]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(0.5)  # all have sent as much as is taken
    mine.good("exec", "box", "touch", "/go")
    assert mine.good("wait", "box") == "0\n" and mine.good("logs", "box") == f"{MANY * FRAMES * len(TYPED)}\n"
    for thread, typist in zip(threads, typists, strict=True):
        thread.join(LIMIT)
        typist.close()


def test_who_types_and_hangs_up_does_not_hurt_the_monitor(mine: Minirt) -> None:
    """What he has sent waits in his socket, also where he has gone, until the program has read what came before."""
    script = "until test -e /go; do sleep 0.1; done; exit 3"
    id = mine.good("run", "-d", "-i", "--name", "box", "busybox", "sh", "-c", script).strip()
    monitor = parent(pid(mine, "box"))
    for _ in range(MANY):
        with closing(connect(f"{mine.root}/lib/containers/{id}/attach")) as typist:
            typist.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    typist.send(frame(0, TYPED))
    before = processor_time(monitor)
    time.sleep(1)
    assert processor_time(monitor) - before < 0.5, "it waits, and is not busy with those who have gone"
    mine.good("exec", "box", "touch", "/go")
    assert mine.good("wait", "box") == "3\n"


def test_a_terminal_that_no_process_has_open_keeps_no_monitor_busy(mine: Minirt) -> None:
    mine.good("run", "-d", "-t", "--name", "box", "busybox", "sh", "-c", "exec <&- >&- 2>&-; until test -e /go; do sleep 0.1; done")
    first = pid(mine, "box")
    until(lambda: not any("/dev/" in os.readlink(link) for link in Path(f"/proc/{first}/fd").iterdir()))
    before = processor_time(parent(first))
    time.sleep(1)
    assert processor_time(parent(first)) - before < 0.5
    mine.good("exec", "box", "sh", "-c", "echo again >/dev/console; touch /go")
    assert mine.good("wait", "box") == "0\n" and mine.good("logs", "box") == "again\n"


def test_who_stops_reading_costs_no_line_of_the_log(mine: Minirt) -> None:
    """As much as fits between the program and him: it ends, and what he does not take is still logged."""
    id = mine.good("create", "--name", "box", "busybox", "sh", "-c", "sleep 1; seq 60000").strip()
    mine.good("start", "box")
    with closing(connect(f"{mine.root}/lib/containers/{id}/attach")):
        assert mine.good("wait", "box") == "0\n"
        assert mine.good("logs", "box") == "".join(f"{n}\n" for n in range(1, 60001))


def test_who_reads_slowly_has_all_of_it_and_the_status(mine: Minirt) -> None:
    script = "until test -e /go; do sleep 0.1; done; seq 60000; exit 4"
    id = mine.good("run", "-d", "--name", "box", "busybox", "sh", "-c", script).strip()
    with closing(connect(f"{mine.root}/lib/containers/{id}/attach")) as client:
        mine.good("exec", "box", "touch", "/go")
        coming = b""
        while data := client.recv(65536):
            coming += data
            time.sleep(0.3)
    assert coming[-12:] == frame(STATUS, (4 << 8).to_bytes(4, "big"))


def test_restart_keeps_what_goes_at_its_end(mine: Minirt) -> None:
    """--rm is for the end that nobody asked to be followed by a start."""
    id = mine.good("run", "-d", "--rm", "--name", "box", "busybox", "sh", "-c", "touch /mark; sleep 1000").strip()
    until(lambda: (folder(mine, "box") / "upper" / "mark").exists())
    before = pid(mine, "box")
    mine.good("restart", "-t", "0", "box")
    assert inspect(mine, "box")["Id"] == id and pid(mine, "box") != before
    assert inspect(mine, "box")["HostConfig"]["AutoRemove"]
    mine.good("stop", "-t", "0", "box")
    assert mine.good("ps", "-aq") == ""


def engine(minirt: Minirt, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script that calls the engine."""
    return subprocess.run([sys.executable, "-c", script], env=minirt.env, capture_output=True, text=True, timeout=LIMIT)


def test_a_signal_that_comes_while_we_start_it_is_passed_on(mine: Minirt) -> None:
    script = "trap 'exit 9' TERM; touch /ready; while :; do sleep 0.1; done"
    mine.good("create", "--name", "box", "busybox", "sh", "-c", script)
    ready = folder(mine, "box") / "upper" / "ready"
    done = engine(mine, f"""
import os, signal, sys, time
from minirt.engine.attach import start_attached
from minirt.engine.container import find
from minirt.engine.start import start
def begin(container, before):
    started = start(container, before=before)
    while not os.path.exists({str(ready)!r}):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
    return started
sys.exit(start_attached(find("box"), False, begin=begin))
""")  # fmt: skip
    assert done.returncode == 9, done.stderr


def test_a_process_that_two_begin_at_once_is_begun_once(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    done = engine(mine, """
from minirt.engine.container import Conflict, find
from minirt.engine.exec_start import start
from minirt.engine.execs import create
from minirt.engine.options import RunOptions
exec = create(find("box"), RunOptions("busybox", ["sh", "-c", "echo begun >>/count"]))
def again():
    try:
        start(exec, lambda: None)
    except Conflict:
        print("refused")
start(exec, again)
""")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "refused\n"), done.stderr
    count = folder(mine, "box") / "upper" / "count"
    until(lambda: count.exists() and count.read_text() == "begun\n")


def test_a_process_strays_into_no_other_container_that_has_the_number_by_now(mine: Minirt) -> None:
    for name in ("box", "other"):
        mine.good("run", "-d", "--name", name, "busybox", "sleep", "1000")
    done = engine(mine, """
from minirt.engine.container import Conflict, find
from minirt.engine.exec_start import start
from minirt.engine.execs import create
from minirt.engine.options import RunOptions
box, other = find("box"), find("other")
exec = create(box, RunOptions("busybox", ["touch", "/strayed"]))
try:
    start(exec, lambda: box.state.update(pid=other.state["pid"]))  # box ends now, and its number is given out again
except Conflict as error:
    print(error)
""")  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "container box is not running\n"), done.stderr
    assert not (folder(mine, "other") / "upper" / "strayed").exists()


def test_who_changes_what_it_is_to_have_waits_for_who_does_so(mine: Minirt) -> None:
    mine.good("create", "--name", "box", "busybox", "true")
    mine.good("network", "create", "net")
    path = folder(mine, "box") / "options.json"
    try:
        with Lock(str(path.with_name("update.lock"))):
            before = json.loads(path.read_text())
            connecting = mine.start("network", "connect", "net", "box")
            with suppress(subprocess.TimeoutExpired):
                connecting.wait(2)
            path.write_text(json.dumps({**before, "memory": "64m"}))
        assert connecting.communicate(timeout=LIMIT) == ("", "")
        after = json.loads(path.read_text())
        assert (after["network"], after["memory"]) == ("net", "64m")
    finally:
        mine.good("network", "rm", "net")


def test_what_is_paused_runs_nothing_more_and_says_so(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    mine.good("pause", "box")
    for words in ((), ("-d",)):
        done = mine("exec", *words, "box", "true")
        assert done.returncode == 1 and "paused" in done.stderr and "minirt unpause box" in done.stderr
    mine.good("unpause", "box")
    mine.good("exec", "box", "true")


def test_a_container_that_waits_to_be_started_again_is_not_removed_by_the_way(mine: Minirt) -> None:
    mine.good("run", "-d", "--restart", "always", "--name", "box", "busybox", "false")
    until(lambda: inspect(mine, "box")["State"]["Status"] == "restarting" and inspect(mine, "box")["RestartCount"] > 2)
    done = mine("rm", "box")
    assert done.returncode == 1 and "minirt rm -f box" in done.stderr
    mine.good("rm", "-f", "box")


def test_a_detached_exec_has_none_of_our_streams(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "busybox", "sleep", "1000")
    script = "until test -e /go; do sleep 0.1; done; echo out; echo err >&2; test -t 0 && touch /terminal; touch /done"
    for words, terminal in (((), False), (("-t",), True)):
        done = mine("exec", "-d", *words, "box", "sh", "-c", script)  # our pipes' other ends are waited for, too
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        mine.good("exec", "box", "touch", "/go")
        upper = folder(mine, "box") / "upper"
        until((upper / "done").exists)
        assert (upper / "terminal").exists() == terminal
        mine.good("exec", "box", "rm", "/go", "/done")
    assert mine("exec", "-d", "box", "none").returncode == 127


def test_several_may_look_at_once(mine: Minirt) -> None:
    mine.good("run", "-d", "--name", "box", "-i", "busybox", "sh", "-c", "read x; echo got $x; exit 4")
    lookers = [mine.start("attach", "--no-stdin", "box") for _ in range(2)]
    until(lambda: all(connected(looker.pid) for looker in lookers))
    typist = mine("attach", "box", input="word\n")
    assert typist.returncode == 4 and typist.stdout == "got word\n"
    for looker in lookers:
        assert looker.communicate(timeout=LIMIT)[0] == "got word\n"
        assert looker.returncode == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "-d", "--restart", "sometimes", "busybox"), "--restart sometimes"),
        (("run", "-d", "--rm", "--restart", "always", "busybox"), "--rm and --restart"),
        (("run", "-d", "--log-opt", "color=red", "busybox"), "--log-opt color=red"),
        (("run", "-d", "--log-driver", "syslog", "busybox"), "--log-driver syslog"),
        (("run", "-d", "--explain", "busybox"), "leave out -d"),
        (("run", "--explain", "--restart", "always", "busybox"), "has no monitor"),
        (("start", "none"), "no container 'none'"),
        (("kill", "-s", "NONE", "box"), "no signal 'NONE'"),
        (("logs", "--since", "yesterday", "box"), "time 'yesterday'"),
        (("logs", "--tail", "few", "box"), "--tail few"),
        (("rename", "box", "a b"), "'a b'"),
    ],
)
def test_bad_input_is_one_line(minirt: Minirt, words: tuple[str, ...], said: str) -> None:
    minirt.good("create", "--name", "box", "busybox", "true")
    done = minirt(*words)
    assert done.returncode not in (0, None) and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    minirt.good("rm", "box")


def test_a_shell_is_left_by_its_keys_and_found_again(mine: Minirt) -> None:
    """At a terminal: what was typed before and after reaches the same shell, whose pty has our terminal's size."""
    import pty
    import termios

    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (33, 101))
    run = mine.start("run", "-it", "--name", "box", "busybox", "sh", stdin=slave, stdout=slave, stderr=slave)

    def seen(text: bytes) -> None:
        shown = b""
        while text not in shown:
            shown += os.read(master, 1024)

    os.write(master, b"stty size; x=kept\n")
    seen(b"33 101")
    os.write(master, b"\x10\x11")
    assert run.wait(LIMIT) == 0 and inspect(mine, "box")["State"]["Running"]
    again = mine.start("attach", "box", stdin=slave, stdout=slave, stderr=slave)
    os.write(master, b"echo still $x; exit 9\n")
    seen(b"still kept")
    assert again.wait(LIMIT) == 9
    os.close(master)
    os.close(slave)
