"""bench.engine measures what it says: both engines' containers live and end, and no line of their logs is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from engines import need

pytestmark = [pytest.mark.root, pytest.mark.timeout(400), pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]


def test_a_short_measurement_beside_podman() -> None:
    need("podman", "conmon", "crun")
    command = [sys.executable, "-m", "bench.engine", "--containers", "3", "--megabytes", "8", "--format", "json"]
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[2], capture_output=True, text=True, timeout=380)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert set(results) == {"start", "stop", "rm", "monitor Pss", "monitor Rss", "log", "lines lost"}
    assert results["lines lost"] == {"minirt": 0, "podman": 0}
    assert all(value > 0 for name, row in results.items() if name != "lines lost" for value in row.values())
    assert results["monitor Pss"]["minirt"] <= results["monitor Pss"]["podman"], "memory is no matter of the machine's load"
