"""One observation: a lesson's check.py with an answer's functions or with the real ones; facts, a JSON object a line.

    python -m tutorials.tutor.observe LESSON SEED ANSWER [--partial] [--sandbox]     ANSWER: a file, or - for the real ones

It runs in mount, UTS and IPC namespaces of its own, in which all mounts are shared, as systemd has them on most hosts: so a wrong
answer does there what it would do to a host, and the host never hears of it. `start` makes the process.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tutorials.tutor.host import Host
from tutorials.tutor.lessons import COURSE, TOP, Lesson, find
from tutorials.tutor.sandbox import kind_for
from tutorials.tutor.world import NotBorn, Raised, World

__all__ = ["checks", "facts", "start"]

SHARED = 'mount --make-rprivate / && mount --make-rshared / && exec "$@"'
PR_SET_CHILD_SUBREAPER = 36


def checks(lesson: Path) -> ModuleType:
    """Return a lesson's check.py as a module."""
    spec = importlib.util.spec_from_file_location(f"check_{lesson.name}", lesson / "check.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(
    lesson: Lesson, seed: str, answer: str, partial: bool = False, sandbox: bool = False, patience: float = 300
) -> subprocess.Popen[str]:
    """Start an observation, in namespaces of its own where it is of containers.

    Args:
        lesson, seed, answer, partial, sandbox: as check.py's.
        patience: seconds that a guest may take.
    """
    flags = ["--partial"] * partial + ["--sandbox"] * sandbox
    words = [sys.executable, "-m", "tutorials.tutor.observe", lesson.id, seed, answer, *flags]
    if "root" in lesson.needs or "cgroup2" in lesson.needs:
        unshare = ["unshare", "--mount", "--uts", "--ipc", "--propagation", "private", "sh", "-c", SHARED, "sh"]
        words = [*unshare, *words]
    pipe = subprocess.PIPE
    env = {**os.environ, "PYTHONPATH": str(TOP), "TUTOR_PATIENCE": f"{patience:.0f}"}
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, env=env, cwd="/",
                            start_new_session=True)  # fmt: skip


def facts(process: subprocess.Popen[str], limit: float) -> list[tuple[str, Any]]:
    """Return what an observation found, in its order; where it died, the fact `died` with its last words.

    Args:
        process: of `start`.
        limit: seconds after which it is ended.
    """
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.terminate()  # it ends what it has begun
        try:
            out, err = process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
        err = f"it did not end in {limit:.0f} seconds"
    found: list[tuple[str, Any]] = [tuple(json.loads(line)) for line in out.splitlines() if line.startswith("[")]
    if not found or found[-1][0] != "end":
        last = (err.strip().splitlines() or [f"status {process.returncode}"])[-1]
        return [("died", last), *found]
    return found[:-1]


def observe(name: str, seed: str, answer: str, partial: bool, sandboxed: bool) -> None:
    """Print the facts: first the host's, which tell most, then the lesson's own."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    lesson = find(name, COURSE)
    watched = "root" in lesson.needs  # mounts count: only containers are observed in a mount namespace
    found: list[tuple[str, Any]] = []
    with World("" if answer == "-" else answer, lesson.symbols, seed, partial, kind_for(lesson) if sandboxed else "") as world:
        try:
            for fact in checks(lesson.path).observe(world):
                found.append(fact)
        except NotBorn as error:
            found.append(("born", str(error)))
        except Raised as error:
            found.append(("raised", str(error)))
        except OSError:
            world.host.compare()
            if not world.host.gone:
                raise
            # The answer took away the observer's own root: no program is found there any more, and that it is gone says all.
        finally:
            end_children(world.host)
        world.host.compare()
        host = changes(world, watched)
    for id, value in [*((id, value) for id, value in host if value), *found, ("end", "")]:
        print(json.dumps([id, value]))


def changes(world: World, watched: bool) -> list[tuple[str, list[str]]]:
    """Return what an answer did to the host. Args: watched, whether mounts count."""
    host = world.host
    found = [("host-unmounted", host.gone), ("host-mounted", host.appeared)] if watched else []
    return [*found, ("host-name", [host.name()])] if not world.sandbox and host.renamed() else found


def end_children(host: Host) -> None:
    """End what an answer has left behind: all that has become our child."""
    for _ in range(100):
        pids = host.read(f"self/task/{os.getpid()}/children").split()
        if not pids:
            return
        for pid in map(int, pids):
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


if __name__ == "__main__":
    observe(sys.argv[1], sys.argv[2], sys.argv[3], "--partial" in sys.argv, "--sandbox" in sys.argv)
