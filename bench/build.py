"""`minirt build` beside `buildah bud --layers`: the same Dockerfile of 20 steps, the same machine, one run.

    .venv/bin/python -m bench.build [--runs 10] [--format json]

    no change     everything was built before: how long until that is known, and the image has its name
    from nothing  all steps done, once each (RUN in a container with namespaces, limits and a filter; buildah's in a chroot)

minirt is installed from a wheel into a virtual environment with nothing else in it. The base image is minirt's own busybox,
given to buildah as an OCI layout; nothing is fetched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.beside import able, hyperfine, install, parser, storage

STEPS = 20
FILES = 200  # in the context, of 4 KiB


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    words = parser("bench.build", __doc__)
    words.add_argument("--runs", type=int, default=10, help="of each command (10)")
    args = words.parse_args(argv)
    if not able("hyperfine", "buildah", "skopeo", "busybox"):
        return 1
    with tempfile.TemporaryDirectory(prefix="minirt-bench-", dir="/var/tmp") as name:
        results = measure(Path(name), args.runs)
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def dockerfile() -> str:
    """Return 20 steps of the usual kinds."""
    lines = ["FROM busybox", "WORKDIR /app", "COPY files /app/files", "ENV MODE=test", "ARG VERSION=1"]
    for number in range((STEPS - len(lines) - 1) // 2):
        lines += [f"RUN echo {number} > /app/{number} && ls files | wc -l", f"COPY one /app/copy{number}"]
    return "\n".join([*lines, *(["LABEL step=last"] * (STEPS - len(lines) - 1)), 'CMD ["sh"]']) + "\n"


def make_context(path: Path) -> None:
    """Make the context: a few hundred files, and the Dockerfile."""
    (path / "files").mkdir(parents=True)
    for number in range(FILES):
        (path / "files" / str(number)).write_bytes(os.urandom(4096))
    (path / "one").write_text("one")
    (path / "Dockerfile").write_text(dockerfile())
    assert dockerfile().count("\n") == STEPS


def measure(place: Path, runs: int) -> dict[str, dict[str, Any]]:
    """Return milliseconds by measurement and program."""
    install(place)
    make_context(place / "context")
    env = {**os.environ, "MINIRT_ROOT": str(place), **storage(place)}
    minirt = f"{place}/venv/bin/minirt"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env, "check": True}
    subprocess.run([minirt, "run", "--plan", "busybox", "true"], **quiet)
    source = f"oci:{place}/lib/image:busybox:latest"
    subprocess.run(["skopeo", "copy", "-q", source, "containers-storage:localhost/busybox:latest"], **quiet)
    commands = {
        "minirt": [minirt, "build", "--network", "none", "-t", "bench", str(place / "context")],
        "buildah": ["buildah", "bud", "--layers", "--isolation", "chroot", "--pull=never", "-t", "bench", str(place / "context")],
    }
    first = {}
    for name, words in commands.items():
        began = time.perf_counter()
        subprocess.run(words, **quiet)
        first[name] = (time.perf_counter() - began) * 1000
    lines = [" ".join(command) for command in commands.values()]
    results = hyperfine(lines, runs, 1, place / "hyperfine.json", env=env, stderr=subprocess.DEVNULL)
    again = {name: result["median"] * 1000 for name, result in zip(commands, results, strict=True)}
    subprocess.run(["umount", f"{place}/graph/overlay"], stderr=subprocess.DEVNULL, check=False)
    return {"no change": again, "from nothing": first}


def show(results: dict[str, dict[str, Any]]) -> None:
    """Print a table: milliseconds, and how much of buildah's time that is."""
    print(f"{f'{STEPS} steps, ms':<16}{'minirt':>9}{'buildah':>9}{'ratio':>8}")
    for name, times in results.items():
        print(f"{name:<16}{times['minirt']:>9.0f}{times['buildah']:>9.0f}{times['minirt'] / times['buildah']:>8.2f}")


if __name__ == "__main__":
    sys.exit(main())
