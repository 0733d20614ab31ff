"""Engines of others, on our runtime."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

__all__ = ["RUNTIME", "Engine", "need"]

RUNTIME = Path(sys.executable).parent / "minirt-oci"


def need(*programs: str) -> None:
    """Skip where a peer is not installed (the Makefile's PACKAGES_PEERS)."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test installs it with apt where it may")
    if os.geteuid() != 0:
        pytest.skip("these engines are run as root here")


class Engine:
    """An engine's command line."""

    def __init__(self, *command: str, env: dict[str, str] | None = None) -> None:
        self.command = command
        self.env = {**os.environ, **(env or {})}

    def __call__(self, *words: object, input: str = "") -> subprocess.CompletedProcess[str]:
        command = [*self.command, *map(str, words)]
        return subprocess.run(command, input=input, capture_output=True, text=True, timeout=60, env=self.env, check=False)

    def good(self, *words: object) -> str:
        done = self(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout.strip()
