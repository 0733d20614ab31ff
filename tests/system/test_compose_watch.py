"""`minirt compose watch`: what changes on the host, as the containers then see it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="bridges need root"),
    pytest.mark.skipif(not shutil.which("nft"), reason="nft is not installed"),
]

FILE = """\
services:
  web:
    build: {context: ., network: none}
    command: sh -c "cat /proc/sys/kernel/random/uuid > /tmp/began; exec sleep 1000"
    stop_grace_period: 0s
    network_mode: none
    develop:
      watch:
        - {path: ./src, action: sync, target: /app, ignore: ["*.tmp", cache/], initial_sync: true}
        - {path: ./once, action: sync+exec, target: /once, exec: {command: "cat /once >> /ran", environment: [A=b]}}
        - {path: ./conf, action: sync+restart, target: /etc/conf}
        - {path: ./Dockerfile, action: rebuild}
"""
LIMIT = 60  # s
UUID = 37  # letters of one, and a line's end


def until(fact: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + LIMIT
    while not fact():
        assert time.monotonic() < end and process.poll() is None, fact
        time.sleep(0.05)


class Watched:
    """A project that is watched."""

    def __init__(self, minirt, path: Path) -> None:
        self.minirt = minirt
        self.path = path
        self.said = path.parent / "said"
        with open(self.said, "w") as said:
            self.process = minirt.start("compose", "watch", cwd=path, stdout=said, stderr=said)

    def sees(self, script: str) -> str:
        done = self.minirt("exec", "demo-web-1", "sh", "-c", script)
        return done.stdout if done.returncode == 0 else f"exit status {done.returncode}"

    def until(self, fact: Callable[[], Any]) -> None:
        until(fact, self.process)

    def told(self, text: str) -> bool:
        return text in " ".join(self.said.read_text().split())


@pytest.fixture
def watched(own_store, tmp_path: Path) -> Iterator[Watched]:
    path = tmp_path / "demo"
    (path / "src" / "deep").mkdir(parents=True)
    (path / "src" / "deep" / "first").write_text("there before\n")
    (path / "src" / "left.tmp").write_text("")
    (path / "once").write_text("1\n")
    (path / "conf").write_text("a=1\n")
    (path / "Dockerfile").write_text("FROM busybox\nLABEL version=1\nRUN echo 1 > /version\n")
    (path / ".dockerignore").write_text("src/secret\n")
    (path / "compose.yaml").write_text(FILE)
    one = Watched(own_store, path)
    one.until(lambda: one.told("Service web Watched"))
    yield one
    one.process.send_signal(signal.SIGINT)
    one.process.communicate(timeout=LIMIT)
    assert one.process.returncode == 130
    assert own_store.good("ps", "-q").strip(), "what it has started goes on"
    done = own_store("compose", "down", "-t", "0", cwd=path)
    assert done.returncode == 0, done.stderr


def test_files_follow_those_of_the_host(watched: Watched) -> None:
    assert watched.sees("cat /app/deep/first; ls /app") == "there before\ndeep\n", "initial_sync, without what is ignored"
    src = watched.path / "src"
    (src / "new").write_text("1\n")
    (src / "new").chmod(0o750)
    watched.until(lambda: watched.sees("cat /app/new; stat -c %a:%u /app/new") == "1\n750:0\n")
    (src / ".new.swp").write_text("an editor's")
    (src / "secret").write_text("in .dockerignore")
    (src / "cache").mkdir()
    (src / "cache" / "x").write_text("ignored")
    temporary = src / "new.tmp"
    temporary.write_text("2\n")
    temporary.rename(src / "new")  # as an editor saves
    watched.until(lambda: watched.sees("cat /app/new") == "2\n")
    shutil.copytree("/etc/apt", src / "tree", symlinks=True)
    (src / "tree" / "link").symlink_to("nowhere")
    here = sorted(str(path.relative_to(src)) for path in (src / "tree").rglob("*"))
    watched.until(lambda: watched.sees("cd /app; find tree -mindepth 1 | sort").split() == here)
    shutil.rmtree(src / "tree")
    (src / "deep" / "first").unlink()
    watched.until(lambda: watched.sees("ls -A /app /app/deep").split() == ["/app:", "deep", "new", "/app/deep:"])


def test_a_service_is_started_again_or_runs_a_command_or_is_built_anew(watched: Watched) -> None:
    watched.until(lambda: len(watched.sees("cat /tmp/began")) == UUID)
    began, id = watched.sees("cat /tmp/began"), watched.minirt.good("inspect", "-f", "{{.Id}}", "demo-web-1")
    (watched.path / "once").write_text("2\n")
    watched.until(lambda: watched.sees("cat /ran") == "2\n")
    (watched.path / "conf").write_text("a=2\n")
    watched.until(lambda: watched.told("Container demo-web-1 Restarted"))
    watched.until(lambda: len(now := watched.sees("cat /tmp/began")) == UUID and now != began)
    assert watched.sees("cat /etc/conf") == "a=2\n" and watched.minirt.good("inspect", "-f", "{{.Id}}", "demo-web-1") == id
    (watched.path / "Dockerfile").write_text("FROM busybox\nRUN exit 3\n")
    watched.until(lambda: watched.told("Dockerfile:2"))
    assert watched.sees("cat /version") == "1\n", "what cannot be built changes nothing"
    (watched.path / "Dockerfile").write_text("FROM busybox\nLABEL version=2\nRUN echo 2 > /version\n")
    watched.until(lambda: watched.told("Service web Rebuilt"))
    assert watched.sees("cat /version") == "2\n" and watched.minirt.good("inspect", "-f", "{{.Id}}", "demo-web-1") != id
    watched.until(lambda: watched.minirt.good("images", "-q", "-f", "dangling=true") == "")


SHOWN = """\
services:
  web:
    build: {context: ., network: none}
    command: sh -c "echo began with $$(cat /etc/conf /version); exec sleep 1000"
    stop_grace_period: 0s
    network_mode: none
    scale: 1
    develop:
      watch:
        - {path: ./conf, action: sync+restart, target: /etc/conf}
        - {path: ./Dockerfile, action: rebuild}
"""
DOCKERFILE = "FROM busybox\nCOPY conf /etc/conf\nRUN echo %s > /version\n"


def test_up_shows_what_containers_write_and_watches(own_store, tmp_path: Path) -> None:
    (tmp_path / "conf").write_text("a=1\n")
    (tmp_path / "Dockerfile").write_text(DOCKERFILE % "one")
    (tmp_path / "compose.yaml").write_text(SHOWN)
    shown, said = tmp_path / "shown", tmp_path / "said"
    with shown.open("w") as out, said.open("w") as err:
        up = own_store.start("compose", "-p", "demo", "up", "-w", "--scale", "web=2", cwd=tmp_path, stdout=out, stderr=err)
    try:
        def lines(text: str) -> list[str]:
            return [f"demo-web-{n}  | began with {text}" for n in (1, 2)]

        until(lambda: sorted(shown.read_text().splitlines()) == lines("a=1 one") and "Watched" in said.read_text(), up)
        (tmp_path / "conf").write_text("a=2\n")
        until(lambda: sorted(shown.read_text().splitlines()[2:]) == lines("a=2 one"), up)
        (tmp_path / "Dockerfile").write_text(DOCKERFILE % "two")
        until(lambda: sorted(shown.read_text().splitlines()[4:]) == lines("a=2 two"), up)
        running = own_store.good("ps", "-q").split()
    finally:
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=LIMIT)
        ended = own_store.good("ps", "-q")
        done = own_store("compose", "-p", "demo", "down", "-t", "0", cwd=tmp_path)
    assert len(running) == 2 and ended == "", "Ctrl-C stops them, as it does without --watch"
    assert up.returncode == 130 and done.returncode == 0, done.stderr


def test_up_watches_nothing_that_it_does_not_stay_with(minirt, tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {web: {image: busybox}}\n")
    for word in ("--detach", "--wait", "--no-start"):
        done = minirt("compose", "-p", "demo", "up", "--watch", word, cwd=tmp_path)
        assert done.returncode == 125 and word in done.stderr and done.stderr.count("\n") == 1
    assert "nothing is to be watched" in minirt("compose", "-p", "demo", "up", "-w", cwd=tmp_path).stderr


WRONG = {
    "src/app": "no such file or directory", "{path: ., action: sync}": "a target", "{path: ., action: rebuild}": "has no build",
    "{path: ., action: sync+exec, target: /x}": "exec is missing",
}  # fmt: skip


@pytest.mark.parametrize(("rule", "word"), WRONG.items())
def test_what_cannot_be_watched_is_told_with_its_line(minirt, tmp_path: Path, rule: str, word: str) -> None:
    rule = rule if rule.startswith("{") else f"{{path: {rule}, action: restart}}"
    text = f"services:\n  web:\n    image: busybox\n    develop:\n      watch:\n        - {rule}\n"
    (tmp_path / "compose.yaml").write_text(text)
    done = minirt("compose", "-p", "demo", "watch", cwd=tmp_path)
    assert done.returncode == 1 and "compose.yaml:6: " in done.stderr and word in done.stderr
    (tmp_path / "compose.yaml").write_text("services: {web: {image: busybox}}\n")
    assert "nothing is to be watched" in minirt("compose", "-p", "demo", "watch", cwd=tmp_path).stderr
