"""The command that is tested, and what the kernel says of its processes.

Not in conftest.py: tests/lab has one of its own, and a module is found by its name.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

LIMIT = 60  # seconds for one run of the command


def gone(pid: int) -> bool:
    """Whether a process is gone, or a zombie that its new parent has not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Minirt:
    """The command `minirt`, with everything that it keeps below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.env = {**os.environ, "MINIRT_ROOT": str(root)}
        self.program = [sys.executable, "-m", "minirt"]

    def __call__(self, *args: object, input: str | None = None, **more: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end; standard input is empty unless given."""
        words = [*self.program, *map(str, args)]
        return subprocess.run(
            words, input=input or "", capture_output=True, text=True, timeout=LIMIT, env=self.env, **more
        )  # fmt: skip

    def good(self, *args: object) -> str:
        """Run it, which must succeed; return what it printed."""
        done = self(*args)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sh(self, script: str, *options: object) -> str:
        """Run a shell script in a container of busybox, which must succeed; return what it printed."""
        done = self("run", "--rm", *options, "busybox", "sh", "-ec", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def start(self, *args: object, **more: object) -> subprocess.Popen[str]:
        """Start it; the caller ends it."""
        pipe = subprocess.PIPE
        more = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, "text": True, **more}
        return subprocess.Popen([*self.program, *map(str, args)], env=self.env, **more)

    @property
    def containers(self) -> list[Path]:
        """The containers' directories, half-made ones too."""
        try:
            return sorted((self.root / "lib" / "containers").iterdir())
        except FileNotFoundError:
            return []

    def state(self) -> dict[str, object]:
        """Return the row of the only container, an empty one while there is none yet."""
        (container,) = self.containers
        if not (self.root / "lib" / "state.sqlite-wal").exists():
            return {}
        with closing(sqlite3.connect(self.root / "lib" / "state.sqlite", timeout=LIMIT)) as base:
            base.row_factory = sqlite3.Row
            if not base.execute("SELECT name FROM sqlite_schema WHERE name = 'container'").fetchall():
                return {}
            rows = [dict(row) for row in base.execute("SELECT * FROM container")]
        return next((row for row in rows if row["id"] == container.name), {})
