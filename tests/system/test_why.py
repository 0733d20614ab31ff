"""minirt why: a failure is really brought about, and the cause that holds is named, and no other."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from command import Minirt

from tutorials.tutor.sandbox import enclosed

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="bringing failures about takes root")
TOP = Path(__file__).resolve().parents[2]


def holding(text: str) -> list[str]:
    """Return the causes that are said to hold."""
    return [cause["what"] for cause in json.loads(text)["causes"] if cause["holds"]]


def failing(minirt: Minirt, *before: str) -> list[str]:
    """Run a container behind a command that makes it fail; return which causes hold, tried in the same place."""
    program = " ".join(minirt.program)
    script = f"{program} run --rm busybox true && exit 9; {program} why --format json"
    done = subprocess.run([*before, "sh", "-c", script], env=minirt.env, cwd=TOP, capture_output=True, text=True, timeout=60,
                          check=False)  # fmt: skip
    assert done.returncode != 9, done.stdout
    return holding(done.stdout)


def test_a_missing_capability_is_named(minirt: Minirt) -> None:
    assert failing(minirt, "setpriv", "--bounding-set=-sys_admin") == [
        "this process lacks CAP_SYS_ADMIN: run it as root, or with a user namespace"
    ]


def test_a_limit_of_namespaces_is_named(own_store: Minirt) -> None:
    none = 'echo 0 >/proc/sys/user/max_uts_namespaces && exec "$@"'
    before = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", none, "sh"]
    assert failing(own_store, *before) == ["a limit of namespaces is reached"]


def test_an_upper_directory_on_an_overlay_is_named(minirt: Minirt, tmp_path: Path) -> None:
    """minirt in a container of its own, with its things on that container's root."""
    script = "python3 -m minirt run --rm busybox true; python3 -m minirt why --format json"
    words = enclosed("root", ["sh", "-c", script], "", tmp_path, {"MINIRT_ROOT": "/on-the-root"})
    done = subprocess.run(words, env=minirt.env, cwd=TOP, input="go\n", capture_output=True, text=True, timeout=60, check=False)
    told = done.stdout[done.stdout.find("{") :]
    assert "the upper directory is on an overlay itself" in holding(told), done.stderr


def test_a_planted_failure_and_a_trace_are_told(minirt: Minirt, tmp_path: Path) -> None:
    assert minirt("why").returncode == 2
    trace = tmp_path / "trace.jsonl"
    minirt("run", "--trace", trace, "--fail", "pivot_root=EINVAL", "--rm", "busybox", "true")
    done = minirt("why")
    assert done.returncode == 0 and "told to fail, by --fail" in done.stdout and "step pivot_root" in done.stdout
    done = minirt("why", trace)
    assert 'pivot_root(".", "."): EINVAL' in done.stdout and "no mount point" in done.stdout
