"""tutor with the lab: where this machine lacks something a lesson is checked there, and the verdict is as if from here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import doctor, image
from tutorials.tutor.exercise import blank
from tutorials.tutor.lessons import IN_LAB, TOP, find, lessons
from tutorials.tutor.place import lacking

LACKS = doctor.missing(image.find() is not None)
TUTOR = [sys.executable, "-m", "tutorials.tutor.cli"]
FIRST = find("c1")


@pytest.mark.skipif(os.geteuid() != 0, reason="observing containers takes CAP_SYS_ADMIN")
def test_answers_go_in_and_verdicts_come_out_a_line_each() -> None:
    """What runs inside, run here: the machine around it is lab/run's business."""
    texts = [blank(FIRST, solved=True), blank(FIRST, solved=True).replace("umount2", "rmdir"), blank(FIRST)]
    asked = [json.dumps({"lesson": FIRST.id, "name": "exercise.py", "text": text, "sandbox": False}) for text in texts]
    done = subprocess.run([sys.executable, "-m", "tutorials.tutor.inside"], input="\n".join(asked) + "\n", text=True, cwd=TOP,
                          capture_output=True, timeout=100, check=False)  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    verdicts = [one["verdict"] for one in told if "verdict" in one]
    assert [one["passed"] for one in verdicts] == [True, False, False], done.stderr
    assert verdicts[1]["where"].startswith("exercise.py:") and verdicts[2]["id"] == "blank"
    assert len([one for one in told if "real functions" in one.get("stage", "")]) == 1


def programs(place: Path, *names: str) -> str:
    """Make a directory with only these programs in it; returns it, for PATH."""
    for name in names:
        (place / name).symlink_to(f"/usr/bin/{name}")
    return str(place)


@pytest.mark.skipif(IN_LAB.is_dir(), reason="in the lab already; there is no lab in the lab")
def test_a_lab_that_cannot_start_says_which_package_is_missing(tmp_path: Path) -> None:
    answer = tmp_path / "exercise.py"
    answer.write_text(blank(FIRST, solved=True))
    env = {**os.environ, "PATH": programs(tmp_path, "dirname", "env")}
    words = [*TUTOR, "check", "c1", "--lab", "--answer", str(answer)]
    done = subprocess.run(words, cwd=TOP, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done
    last = done.stderr.splitlines()[-1]
    assert last.startswith("tutor: containers/01_by_hand: the lab")
    assert "apt-get install --no-install-recommends qemu-system-x86" in last


@pytest.mark.skipif(IN_LAB.is_dir(), reason="in the lab already; there is no lab in the lab")
def test_what_is_blank_needs_no_machine(tmp_path: Path) -> None:
    answer = tmp_path / "exercise.py"
    answer.write_text(blank(FIRST))
    words = [*TUTOR, "check", "c1", "--lab", "--answer", str(answer)]
    done = subprocess.run(words, cwd=TOP, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "not yet (blank)" in done.stdout and done.stderr == ""


def below(pid: int) -> Iterator[tuple[int, str]]:
    """Yield pid and name of the processes below one."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child), Path(f"/proc/{child}/comm").read_text().strip()
        yield from below(int(child))


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.skipif(bool(LACKS), reason="; ".join(LACKS))
@pytest.mark.skipif(IN_LAB.is_dir(), reason="in the lab already; there is no lab in the lab")
def test_watch_keeps_one_machine_and_takes_another_where_that_dies(tmp_path: Path) -> None:
    """With a lesson that this machine cannot check, where there is one; else by --lab."""
    lesson = next((one for one in lessons() if "cgroup2" in lacking(one)), FIRST)
    path = tmp_path / lesson.id / "exercise.py"
    path.parent.mkdir(parents=True)
    path.write_text(blank(lesson, solved=True))
    words = [*TUTOR, "watch", "--plain", lesson.id, *([] if lacking(lesson) else ["--lab"])]
    env = {**os.environ, "TUTOR_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=TOP, env=env) as process:
        assert process.stdin is not None and process.stdout is not None
        said: list[str] = []

        def until(text: str) -> None:
            for line in iter(process.stdout.readline, ""):  # type: ignore[union-attr]
                said.append(line)
                if text in line:
                    return
            pytest.fail(f"no {text!r}: {said}")

        until("the machine is up")
        (machine,) = [pid for pid, name in below(process.pid) if name.startswith("qemu")]
        os.kill(machine, signal.SIGKILL)
        until("begins again in another")
        until(f"{lesson.id}: passed")
        assert lesson.id in json.loads((tmp_path / "tutor.json").read_text())["passed"]
        path.write_text(blank(lesson, solved=True).replace('"""\n    ', '"""\n    return\n    ', 2))
        until("not yet")
        process.stdin.close()
        assert process.wait(timeout=60) == 0
    assert len([line for line in said if "the machine is up" in line]) == 2
