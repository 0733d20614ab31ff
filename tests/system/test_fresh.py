"""From README's first command to the first exercise passed, on a machine that was never used."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from bench.fresh import LIMITS, MIRROR, shortened

TOP = Path(__file__).resolve().parents[2]
TRANSCRIPTS = sorted((TOP / "bench/transcripts").glob("fresh-*.txt"))


def reachable() -> bool:
    try:
        with urllib.request.urlopen(f"{MIRROR}/dists/bookworm/Release", timeout=20) as answer:
            return bool(answer.read(1))
    except OSError:
        return False


@pytest.mark.long
@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="making a Debian root takes root")
@pytest.mark.skipif(not shutil.which("mmdebstrap"), reason="no mmdebstrap on this machine")
@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_a_fresh_machine_passes_the_first_exercise_within_ten_minutes(suite: str) -> None:
    if not reachable():
        pytest.skip(f"{MIRROR} cannot be reached")
    done = subprocess.run([sys.executable, "-m", "bench.fresh", "--suite", suite], cwd=TOP, capture_output=True, text=True,
                          timeout=1400, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_kept_transcript_ends_with_the_exercise_passed_in_time(path: Path) -> None:
    text = path.read_text()
    assert re.match(r"A fresh Debian [\d.]+ \(\w+\), \d{4}-\d\d-\d\d: ", text)
    assert "$ make demo\n" in text and text.count("\n    containers/01_by_hand: passed\n") == 1
    for what, limit in LIMITS.items():
        found = re.search(rf"^ *(\d+) s {what} \(limit {limit:.0f}\)$", text, re.M)
        assert found and int(found[1]) < limit


def test_two_transcripts_are_kept_and_are_small() -> None:
    assert len(TRANSCRIPTS) == 2 and all(path.stat().st_size < 10_000 for path in TRANSCRIPTS)
    assert shortened("a\n" * 30)[6] == "    ... 18 lines" and len(shortened("a\nb")) == 2
