"""What the measurements beside the peers have in common: their flags, what they need, and the machine that all of them get.

crun wants /sys/fs/cgroup to be cgroup v2 alone. So such a measurement runs itself once more, in a mount namespace where it is
(`once_more`), and that one gives what it found as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ROOT", "able", "hyperfine", "install", "once_more", "parser", "podman", "storage"]

ROOT = Path(__file__).resolve().parent.parent


def parser(name: str, doc: str | None, inside: bool = False) -> argparse.ArgumentParser:
    """Return the parser of a measurement's words, with --format.

    Args:
        name: of its module.
        doc: of its module; the first line is shown.
        inside: whether it runs itself `once_more`, for which it is given the directory.
    """
    words = argparse.ArgumentParser(prog=f"python -m {name}", description=(doc or "").split("\n")[0])
    words.add_argument("--format", choices=("table", "json"), default="table")
    if inside:
        words.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    return words


def able(*programs: str, root: bool = True) -> bool:
    """Say whether it can be measured here: whether the programs are there, and we are root; tell what is missing."""
    missing = [name for name in programs if shutil.which(name) is None]
    if root and os.geteuid() != 0:
        missing.insert(0, "root")
    if missing:
        print(f"needs {', '.join(missing)} (apt install)", file=sys.stderr)
    return not missing


def once_more(name: str, place: Path, *words: object, network: bool = False) -> Any:
    """Run a measurement with `--inside place` and more words where cgroup v2 is alone. Returns what it printed, decoded.

    Args:
        network: in a network namespace of its own, too.

    Raises: CalledProcessError; what is wrong was said by then.
    """
    mounts = "mount --make-rprivate /; umount -R /sys/fs/cgroup; mount -t cgroup2 cgroup2 /sys/fs/cgroup"
    command = [sys.executable, "-m", name, "--inside", str(place), *map(str, words)]
    shell = ["sh", "-ec", f'{mounts}; exec "$@"', "sh"]
    done = subprocess.run(["unshare", "-mn" if network else "-m", *shell, *command], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def install(place: Path, *more: str) -> None:
    """Make a wheel of the tree, and a virtual environment with it and `more` alone, on the distribution's interpreter."""
    base = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(place), str(ROOT)], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)  # fmt: skip
    subprocess.run([base, "-m", "venv", str(place / "venv")], check=True)
    (wheel,) = place.glob("*.whl")
    subprocess.run([str(place / "venv/bin/python3"), *pip[1:], "install", str(wheel), *more], check=True)


def podman(place: Path) -> tuple[list[str], dict[str, str]]:
    """Return podman's command line and environment, with all that it keeps in a directory, and crun."""
    command = ["podman", "--runtime", "crun", "--cgroup-manager", "cgroupfs", "--events-backend", "file"]
    return [*command, "--tmpdir", f"{place}/tmp"], storage(place)


def storage(place: Path) -> dict[str, str]:
    """Let podman, buildah and skopeo keep images in a directory (man 5 containers-storage.conf). Returns the environment for it."""
    conf = place / "storage.conf"
    conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{place}/graph"\nrunroot = "{place}/run"\n')
    return {"CONTAINERS_STORAGE_CONF": str(conf)}


def hyperfine(commands: Sequence[str], runs: int, warmup: int, export: Path, **how: Any) -> list[dict[str, float]]:
    """Return hyperfine's results for each command line, in seconds: mean, median, min ...; how: as for subprocess.run."""
    words = ["hyperfine", "-N", "--warmup", str(warmup), "--runs", str(runs), "--export-json", str(export), "--style", "none"]
    subprocess.run([*words, *commands], check=True, stdout=subprocess.DEVNULL, **how)
    results: list[dict[str, float]] = json.loads(export.read_text())["results"]
    return results
