"""`minirt compose`: a project of several services, by what its containers see of each other, and what is left after it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed"),
]

FILE = """\
services:
  web:
    build: {{context: ./web, network: none}}
    ports: ["127.0.0.1:{port}:80"]
    depends_on:
      db: {{condition: service_healthy}}
      once: {{condition: service_completed_successfully}}
    volumes: ["./site:/site:ro"]
    environment: {{GREETING: "${{GREETING:-hello}}"}}
    secrets: [token]
    configs: [{{source: conf, target: /etc/conf, mode: 0440, uid: "7"}}]
  db:
    image: busybox
    command: sh -c "sleep 1; touch /ready; cat /proc/sys/kernel/random/uuid > /data/born; exec sleep 1000"
    healthcheck: {{test: test -e /ready, interval: 1s, start_period: 60s, start_interval: 200ms}}
    volumes: ["data:/data", "/anonymous"]
    stop_grace_period: 1s
  once:
    image: busybox
    command: ["sh", "-c", "echo done > /data/once"]
    volumes: ["data:/data"]
  debug:
    image: busybox
    profiles: [debug]
volumes: {{data: }}
secrets: {{token: {{file: ./token}}}}
configs: {{conf: {{content: "text\\n"}}}}
"""


class Place:
    """A project's directory."""

    def __init__(self, minirt, path: Path) -> None:
        self.minirt = minirt
        self.path = path
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]

    def __call__(self, *words: object) -> subprocess.CompletedProcess[str]:
        return self.minirt("compose", *words, cwd=self.path)

    def good(self, *words: object) -> str:
        done = self(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def ids(self) -> dict[str, str]:
        rows = map(json.loads, self.good("ps", "-a", "--format", "json").splitlines())
        return {row["Name"]: row["ID"] for row in rows}


@pytest.fixture
def demo(own_store, tmp_path: Path) -> Iterator[Place]:
    """A project of the file above, taken down in the end."""
    path = tmp_path / "demo"
    (path / "web").mkdir(parents=True)
    (path / "site").mkdir()
    (path / "site" / "index.html").write_text("page\n")
    (path / "token").write_text("secret\n")
    steps = ["FROM busybox", "RUN echo built > /built", 'CMD ["httpd", "-f", "-p", "80", "-h", "/site"]']
    (path / "web" / "Dockerfile").write_text("\n".join(steps))
    place = Place(own_store, path)
    (path / "compose.yaml").write_text(FILE.format(port=place.port))
    yield place
    place.good("down", "-v", "--remove-orphans", "-t", "1")
    own_store("volume", "prune", "-f")  # anonymous ones of containers that a test removed without -v
    assert own_store("ps", "-aq").stdout == "" and own_store("volume", "ls", "-q").stdout == ""
    assert set(own_store("network", "ls", "--format", "{{.Name}}").stdout.split()) <= {"host", "none", "bridge"}


def test_a_project_comes_up_in_order_and_its_services_see_each_other(demo: Place) -> None:
    demo.good("up", "-d", "--wait")
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.port}/", timeout=30) as answer:
        assert answer.read() == b"page\n"
    script = "cat /built /run/secrets/token /etc/conf; stat -c %a:%u /etc/conf; echo $GREETING; "
    script += "ping -c 1 -w 20 db >/dev/null && echo reached"
    assert demo.good("exec", "-T", "web", "sh", "-c", script).split() == ["built", "secret", "text", "440:7", "hello", "reached"]
    assert demo.good("exec", "-T", "db", "cat", "/data/once") == "done"
    assert set(demo.ids()) == {"demo-db-1", "demo-once-1", "demo-web-1"}
    rows = {row["Service"]: row for row in map(json.loads, demo.good("ps", "-a", "--format", "json").splitlines())}
    assert (rows["db"]["Health"], rows["once"]["State"], rows["once"]["ExitCode"]) == ("healthy", "exited", 0)
    when = "{{.State.StartedAt}}"
    started = {name: demo.minirt("inspect", "-f", when, f"demo-{name}-1").stdout for name in ("db", "once", "web")}
    assert started["db"] < started["web"] and started["once"] < started["web"]
    labels = json.loads(demo.minirt("inspect", "-f", "{{json .Config.Labels}}", "demo-db-1").stdout)
    assert labels["com.docker.compose.project"] == "demo" and labels["com.docker.compose.container-number"] == "1"
    found = json.loads(demo.minirt("network", "inspect", "demo_default").stdout)[0]["Labels"]
    assert (found["com.docker.compose.project"], found["com.docker.compose.network"]) == ("demo", "default")


def test_up_again_changes_nothing_but_what_has_changed(demo: Place) -> None:
    demo.good("up", "-d")
    first, born = demo.ids(), demo.good("exec", "-T", "db", "cat", "/data/born")
    demo.good("up", "-d")
    assert demo.ids() == first
    text = (demo.path / "compose.yaml").read_text()
    (demo.path / "compose.yaml").write_text(text.replace("GREETING:-hello", "GREETING:-other"))
    demo.good("up", "-d")
    second = demo.ids()
    assert second["demo-db-1"] == first["demo-db-1"] and second["demo-web-1"] != first["demo-web-1"]
    assert demo.good("exec", "-T", "web", "sh", "-c", "echo $GREETING") == "other"
    mounts = "{{range .Mounts}}{{.Name}} {{end}}"
    anonymous = demo.minirt("inspect", "-f", mounts, "demo-db-1").stdout.split()
    demo.good("up", "-d", "--force-recreate", "-t", "1")
    third = demo.ids()
    assert not set(third.values()) & set(second.values())
    assert demo.minirt("inspect", "-f", mounts, "demo-db-1").stdout.split() == anonymous, "its data is kept"
    assert demo.good("exec", "-T", "db", "cat", "/data/born") != born
    demo.good("up", "-d", "--no-recreate")
    assert demo.ids() == third


def test_more_and_fewer_containers_of_a_service(demo: Place) -> None:
    demo.good("up", "-d", "--scale", "db=3", "db")
    assert set(demo.ids()) == {"demo-db-1", "demo-db-2", "demo-db-3"}
    demo.good("exec", "-T", "--index", "3", "db", "true")
    demo.good("up", "-d", "--scale", "db=1", "db", "-t", "1")
    assert set(demo.ids()) == {"demo-db-1"}
    assert "SERVICE=N" in demo("up", "-d", "--scale", "none=2").stderr


def test_data_lives_through_down_and_up(demo: Place) -> None:
    demo.good("up", "-d", "db")
    demo.good("exec", "-T", "db", "sh", "-c", "echo kept > /data/note")
    demo.good("down", "-t", "1")
    assert demo.ids() == {} and "demo_data" in demo.minirt("volume", "ls", "-q").stdout
    demo.good("up", "-d", "db")
    assert demo.good("exec", "-T", "db", "cat", "/data/note") == "kept"
    demo.good("down", "-v", "--rmi", "local", "-t", "1")
    assert "demo_data" not in demo.minirt("volume", "ls", "-q").stdout


def test_a_dependency_that_fails_is_told_with_its_line(demo: Place) -> None:
    text = (demo.path / "compose.yaml").read_text()
    (demo.path / "compose.yaml").write_text(text.replace("echo done > /data/once", "exit 3"))
    done = demo("up", "-d")
    line = next(i for i, one in enumerate(text.splitlines(), 1) if "once: {condition" in one)
    assert done.returncode == 1 and f"compose.yaml:{line}: " in done.stderr and "exit code 3" in done.stderr
    assert "demo-web-1" not in demo.ids()


def test_what_is_not_ready_in_time_ends_the_wait(demo: Place) -> None:
    text = (demo.path / "compose.yaml").read_text()
    (demo.path / "compose.yaml").write_text(text.replace("touch /ready", "true"))
    done = demo("up", "-d", "--wait", "--wait-timeout", "2", "db")
    assert done.returncode == 1 and "not ready in time" in done.stderr


def test_what_is_waited_for_is_told(demo: Place) -> None:
    """Else an `up` that waits for what starts again and again looks as if it hung."""
    done = demo("up", "-d", "web")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stderr.splitlines()]
    waited, ready = lines.index("Container demo-db-1 Waiting"), lines.index("Container demo-db-1 Healthy")
    assert lines.index("Container demo-db-1 Started") < waited < ready < lines.index("Container demo-web-1 Created")
    demo.good("down", "-t", "1")
    text = (demo.path / "compose.yaml").read_text()
    text = text.replace("touch /ready;", "exit 5;").replace("  once:\n", "    restart: always\n  once:\n")
    (demo.path / "compose.yaml").write_text(text)
    done = demo("up", "-d", "--wait", "--wait-timeout", "8", "web")
    assert done.returncode == 1 and "Container demo-db-1  Restarting (5): minirt logs demo-db-1" in done.stderr
    assert "not ready in time" in done.stderr


def test_what_does_not_depend_on_each_other_is_begun_and_ended_at_the_same_time(demo: Place) -> None:
    """a is healthy when wb has begun, and each ends when all are asked to: one after another none would."""
    ending = "trap 'touch /data/end-$$NAME; until [ $$(ls /data | grep -c end-) = 4 ]; do sleep 0.1; done; exit 7' TERM"
    body = f'["sh", "-c", "touch /data/$$NAME; {ending}; while true; do sleep 0.1; done"]'
    more = {
        "a": "healthcheck: {test: test -e /data/wb, interval: 100ms, start_period: 100s, start_interval: 100ms}",
        "wa": "depends_on: {a: {condition: service_healthy}}",
        "b": "healthcheck: {test: test -e /data/b, interval: 100ms, start_period: 100s, start_interval: 100ms}",
        "wb": "depends_on: {b: {condition: service_healthy}}",
    }
    lines = ["services:"]
    for name, line in more.items():
        lines += [f"  {name}:", "    image: busybox", "    stop_grace_period: 30s", "    volumes: ['data:/data']",
                  f"    environment: {{NAME: {name}}}", f"    command: {body}", f"    {line}"]  # fmt: skip
    (demo.path / "compose.yaml").write_text("\n".join([*lines, "volumes: {data: }"]))
    done = demo("up", "-d")
    assert done.returncode == 0, done.stderr
    told = [line.split()[1] for line in done.stderr.splitlines() if line.endswith("Started")]
    assert told == [f"demo-{name}-1" for name in more], "in the file's order, though wb began before wa"
    when = {name: demo.minirt.good("inspect", "-f", "{{.State.StartedAt}}", f"demo-{name}-1") for name in more}
    assert max(when["b"], when["a"]) < when["wb"] < when["wa"]
    (demo.path / "compose.yaml").write_text((demo.path / "compose.yaml").read_text().replace("depends_on", "x-depends_on"))
    demo.good("stop")
    codes = [demo.minirt.good("inspect", "-f", "{{.State.ExitCode}}", f"demo-{name}-1").strip() for name in more]
    assert codes == ["7"] * 4


def test_without_its_file_a_project_is_ended_by_what_its_labels_say(demo: Place, tmp_path: Path) -> None:
    demo.good("up", "-d")
    done = demo.minirt("compose", "--parallel", "2", "-p", "demo", "stop", "-t", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[1] for line in done.stderr.splitlines()] == ["demo-web-1", "demo-db-1"]
    ends = [demo.minirt.good("inspect", "-f", "{{.State.FinishedAt}}", f"demo-{name}-1") for name in ("web", "db")]
    assert ends == sorted(ends)


def test_logs_have_their_containers_names(demo: Place) -> None:
    (demo.path / "compose.yaml").write_text(
        "services:\n  a: {image: busybox, command: echo from a}\n  bb: {image: busybox, command: sh -c 'echo from b; echo more'}\n"
    )
    demo.good("up", "-d")
    for name in ("demo-a-1", "demo-bb-1"):
        demo.minirt("wait", name)
    assert set(demo.good("logs").splitlines()) == {"demo-a-1   | from a", "demo-bb-1  | from b", "demo-bb-1  | more"}
    assert demo.good("logs", "--no-log-prefix", "--tail", "1", "bb") == "more"
    assert re.match(r"demo-a-1  \| \d{4}-.*Z from a$", demo.good("logs", "-t", "a"))


def test_in_the_foreground_the_lines_come_and_ctrl_c_stops_all(demo: Place) -> None:
    run = demo.minirt.start("compose", "up", "db", "once", cwd=demo.path)
    try:
        end = time.monotonic() + 120
        while "demo-db-1" not in demo.ids() or "running" not in demo.good("ps", "--format", "{{.State}}", "db"):
            assert time.monotonic() < end and run.poll() is None
            time.sleep(0.2)
        time.sleep(0.5)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=60)
        assert run.returncode == 130 and demo.good("ps", "-q") == ""
    finally:
        if run.poll() is None:
            run.kill()
            run.communicate()


def test_one_thing_done_to_each(demo: Place) -> None:
    demo.good("up", "-d", "db")
    (id,) = demo.ids().values()
    steps = [("pause", "paused"), ("unpause", "running"), ("stop", "exited"), ("start", "running"), ("restart", "running")]
    for verb, state in steps:
        demo.good(verb, *(["-t", "1"] if verb in ("stop", "restart") else []))
        assert demo.minirt("inspect", "-f", "{{.State.Status}}", id).stdout.strip() == state
    demo.good("kill", "-s", "KILL")
    demo.minirt("wait", id)
    demo.good("rm", "-f")
    assert demo.ids() == {}


def test_who_depends_with_restart_is_started_again_with_what_it_depends_on(demo: Place) -> None:
    lines = ["services:", *(f"  {name}: {{image: busybox, command: sleep 1000, stop_grace_period: 0s{more}}}" for name, more in (
        ("db", ', environment: {A: "1"}'), ("web", ", depends_on: {db: {condition: service_started, restart: true}}"),
        ("far", ", depends_on: {web: {condition: service_started, restart: true}}"), ("other", ", depends_on: [db]"),
    ))]  # fmt: skip
    (demo.path / "compose.yaml").write_text("\n".join(lines))

    def began() -> dict[str, str]:
        when, names = "{{.State.StartedAt}}", ("db", "web", "far", "other")
        return {name: demo.minirt.good("inspect", "-f", when, f"demo-{name}-1") for name in names}

    demo.good("up", "-d")
    first, ids = began(), demo.ids()
    demo.good("restart", "db")
    second = began()
    assert {name for name in first if first[name] != second[name]} == {"db", "web", "far"} and demo.ids() == ids
    assert second["db"] < second["web"] < second["far"]
    (demo.path / "compose.yaml").write_text("\n".join(lines).replace('A: "1"', 'A: "2"'))
    demo.good("up", "-d")
    third = began()
    assert {name for name in second if second[name] != third[name]} == {"db", "web", "far"}
    assert {name for name in ids if demo.ids()[name] != ids[name]} == {"demo-db-1"}


def test_config_tells_what_is_understood(demo: Place) -> None:
    told = json.loads(demo.good("config", "--format", "json"))
    assert told["name"] == "demo" and told["services"]["web"]["environment"] == {"GREETING": "hello"}
    assert "debug" not in told["services"]
    assert demo.good("config", "--services").split() == ["web", "db", "once"] and demo.good("config", "--volumes") == "data"
    assert demo.good("--profile", "debug", "config", "--services").split()[-1] == "debug" and demo.good("config", "-q") == ""
    hashes = dict(line.split() for line in demo.good("config", "--hash", "*").splitlines())
    demo.good("up", "-d", "db")
    label = demo.minirt("inspect", "-f", '{{index .Config.Labels "com.docker.compose.config-hash"}}', "demo-db-1").stdout.strip()
    assert label == hashes["db"]


def test_run_is_a_container_of_its_own_beside_what_its_service_depends_on(demo: Place) -> None:
    script = "echo $GREETING $MORE; cat /built /run/secrets/token /etc/conf; ping -c 1 -w 20 db >/dev/null && echo reached; exit 7"
    done = demo("run", "--rm", "-T", "-e", "MORE=more", "web", "sh", "-c", script)
    assert done.returncode == 7, done.stderr
    assert done.stdout.split() == ["hello", "more", "built", "secret", "text", "reached"]
    assert set(demo.ids()) == {"demo-db-1", "demo-once-1"}, "what it depends on was brought up, and the service itself was not"
    demo.good("up", "-d", "--wait")
    id = demo.good("run", "-d", "-T", "--name", "task", "--entrypoint", "sleep", "web", "1000")
    (task,) = json.loads(demo.minirt.good("inspect", "task"))
    assert task["Id"] == id and task["HostConfig"]["RestartPolicy"]["Name"] == "no" and not task["HostConfig"]["PortBindings"]
    asked = demo.good("exec", "-T", "db", "nslookup", "web").split()
    own = demo.minirt.good("inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", "task").strip()
    assert own and own not in asked, "who asks for web is not sent to it"
    assert "task" not in demo.good("ps", "--format", "{{.Name}}").split()
    assert "task" in demo.ids() and demo.good("ps", "-q", "web") != ""
    demo.good("up", "-d", "--scale", "web=1")
    assert "task" in demo.ids(), "it is none of the service's containers"
    demo.good("down", "-t", "1")
    assert demo.ids() == {}


def test_run_publishes_ports_if_asked_and_takes_words_in_place_of_the_files(demo: Place) -> None:
    demo.good("run", "-d", "-T", "-P", "--no-deps", "--name", "task", "web")
    with urllib.request.urlopen(f"http://127.0.0.1:{demo.port}/", timeout=30) as answer:
        assert answer.read() == b"page\n"
    assert set(demo.ids()) == {"task"}
    words = ("-u", "7", "-w", "/tmp", "-v", f"{demo.path}/site:/other", "-l", "own=1", "--no-deps")
    script = "id -u; pwd; cat /other/index.html"
    assert demo.good("run", "--rm", "-T", *words, "web", "sh", "-c", script).split() == ["7", "/tmp", "page"]
    done = demo("run", "--rm", "none")
    assert done.returncode == 1 and "no service 'none'" in done.stderr


def test_a_project_that_was_broken_off_is_gone_on_with(demo: Place) -> None:
    """`up` is killed at several moments; the next one ends what it began."""
    for moment in (0.3, 0.7, 1.2, 2.0):
        run = demo.minirt.start("compose", "up", "-d", cwd=demo.path)
        try:
            run.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            run.kill()
        run.communicate(timeout=60)
    demo.good("up", "-d", "--wait")
    assert set(demo.ids()) == {"demo-db-1", "demo-once-1", "demo-web-1"}


def test_a_file_that_is_missing_says_what_to_do(demo: Place, tmp_path: Path) -> None:
    done = demo("-f", "none.yaml", "up")
    assert done.returncode == 1 and done.stderr == (
        "minirt: none.yaml: there is no such file: "
        "name the compose file with -f, or leave -f out where compose.yaml is here or above\n"
    )
    (tmp_path / "empty").mkdir()
    done = demo.minirt("compose", "ps", cwd=tmp_path / "empty")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "compose.yaml" in done.stderr and "-f FILE" in done.stderr


def test_two_projects_of_one_file_are_apart(demo: Place) -> None:
    demo.good("up", "-d", "db")
    demo.good("-p", "second", "up", "-d", "db")
    assert {*demo.minirt("ps", "--format", "{{.Names}}").stdout.split()} == {"demo-db-1", "second-db-1"}
    demo.good("-p", "second", "down", "-v", "-t", "1")
    assert set(demo.ids()) == {"demo-db-1"}


def test_orphans_are_told_of_and_removed_if_wanted(demo: Place) -> None:
    demo.good("up", "-d", "db")
    (demo.path / "compose.yaml").write_text("services:\n  new: {image: busybox, command: sleep 1000}\n")
    done = demo("up", "-d")
    assert done.returncode == 0 and "demo-db-1" in done.stderr and "--remove-orphans" in done.stderr
    demo.good("up", "-d", "--remove-orphans", "-t", "1")
    assert set(demo.ids()) == {"demo-new-1"}
