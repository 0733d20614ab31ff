"""The report of a run says what pytest said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import report

TESTS = """
import time, pytest
def test_good(): time.sleep(0.2)
def test_bad(): assert 0
def test_broken(no_such_fixture): pass
@pytest.mark.parametrize("n", [1, 2])
def test_elsewhere(n): pytest.skip("/dev/kvm is missing: no KVM here")
"""


def output(tmp_path: Path) -> list[str]:
    """What pytest says of these tests, run in a directory of their own."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text(TESTS)
    words = [sys.executable, "-m", "pytest", "-ra", "--durations=5", "--durations-min=0.01", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    return done.stdout.splitlines()


def test_a_report_has_counts_failures_skips_and_the_longest(tmp_path: Path) -> None:
    lines = output(tmp_path)
    lab = [line + "\r" for line in lines]
    run = report.read(["== on this machine", *lines, "== in the lab: two", *lab, "== unfinished", lines[0]])
    assert [session.where for session in run.sessions] == ["on this machine", "in the lab: two", "unfinished"]
    assert run.sessions[0].counts == run.sessions[1].counts == {"passed": 1, "failed": 1, "error": 1, "skipped": 2}
    assert [session.whole for session in run.sessions] == [True, True, False] and run.sessions[0].seconds > 0
    assert sorted(run.bad) == ["tests/test_some.py::test_bad"] * 2 + ["tests/test_some.py::test_broken"] * 2
    assert run.skipped == {("tests/test_some.py", "/dev/kvm is missing: no KVM here"): 4}
    assert [test for seconds, test in run.longest if seconds >= 0.2].count("tests/test_some.py::test_good") == 2


def test_a_report_replaces_the_one_before(tmp_path: Path) -> None:
    log, place = tmp_path / "log", tmp_path / "reports"
    log.write_text("\n".join(["== in the lab", *output(tmp_path), ""]))
    place.mkdir()
    (place / "test-long-2020-01-01.txt").write_text("old")
    report.main(str(log), str(place))
    (path,) = place.iterdir()
    text = path.read_text()
    assert "in the lab: 1 failed, 1 passed, 2 skipped, 1 error" in text and "together: " in text
    assert "Failed:\n    tests/test_some.py::test_bad" in text and "tests/test_some.py: /dev/kvm is missing" in text
    assert text.startswith("make test-long, 20") and "commit:  " in text and "machine: " in text and len(text) < 8000
