"""`python -m bench.fresh`: a fresh machine from README's first command to the first exercise passed, as a transcript with times.

    sudo .venv/bin/python -m bench.fresh [--suite bookworm] [--out FILE]

The machine is a Debian root, made by mmdebstrap for this, with nothing in it but make and certificates; it has namespaces of its
own and shares the network, /dev and the kernel with this one. The tree's files are copied into it, as git knows them. Then a
learner types: README's first command; `tutor start c1`; the lesson's first lines; the exercise checked blank, hints asked, and the
real functions written. Each command's time is told. Status 1: one failed, or it took longer than LIMITS.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
MIRROR = os.environ.get("LAB_MIRROR", "http://deb.debian.org/debian")  # apt verifies signatures
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
LIMITS = {"to the first exercise passed": 600.0, "from tutor start to the first lines of the lesson": 60.0}  # seconds
SHOWN = 12  # lines of a command's output that the transcript keeps: the first and the last of them
HOME = "root/minirt"  # where the tree is copied to
PATH = f"/{HOME}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Its own mounts, processes, name and IPC; what a machine has at boot. No chroot: there / is no mount point.
ENTER = """
mount --bind "$1" "$1" && cd "$1" && mount --rbind /dev dev && mount --rbind /sys sys && mount -t proc proc proc || exit 1
mount -t tmpfs tmpfs run
hostname fresh && pivot_root . . && umount -l . && exec sh -c "$2"
"""


class Fresh:
    """A machine that was never used.

    Args:
        root: its files.
        out: where the transcript goes.
    """

    def __init__(self, root: Path, out: list[str]) -> None:
        self.root, self.out = root, out
        self.begun = time.monotonic()

    def type(self, command: str, status: int = 0) -> str:
        """Run a command in it, in the tree's directory, and write it down with its time. Raises: SystemExit where it fails."""
        words = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--propagation", "private"]
        words += ["sh", "-c", ENTER, "sh", str(self.root), f"cd /{HOME}\n{command}"]
        env = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "PIP_CERT": f"/{CERTIFICATES}", "TERM": "dumb"}
        begun = time.monotonic()
        done = subprocess.run(words, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, errors="replace", check=False)  # fmt: skip
        now = time.monotonic()
        self.out += [f"[{now - self.begun:5.1f} s, of which {now - begun:5.1f} s] $ {command}", *shortened(done.stdout)]
        if done.returncode != status:
            sys.exit("\n".join([*self.out, done.stdout[-3000:], f"fresh: {command}: status {done.returncode}"]))
        return done.stdout


def shortened(text: str) -> list[str]:
    """Return what the transcript keeps of a command's output."""
    lines = [f"    {line}".rstrip()[:150] for line in text.splitlines() if line]
    half = SHOWN // 2
    return lines if len(lines) <= SHOWN else [*lines[:half], f"    ... {len(lines) - SHOWN} lines", *lines[-half:]]


def debian(root: Path, suite: str) -> str:
    """Make a Debian root; returns what it is. Raises: SystemExit."""
    words = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--include=make,ca-certificates", "--architectures=amd64"]
    words += [f"--keyring={KEYRING}", "--skip=cleanup/apt/lists", suite, str(root), MIRROR]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"fresh: no Debian: {done.stderr.strip()[-300:]}")
    for name in ("etc/resolv.conf", "etc/hosts", CERTIFICATES):  # how this machine reaches Debian's mirror and PyPI
        shutil.copyfile(f"/{name}", root / name)
    return (root / "etc/debian_version").read_text().strip()


def copy(root: Path) -> None:
    """Copy the tree into it: what git knows, and what it does not ignore."""
    names = subprocess.run(["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=TOP, check=True, capture_output=True).stdout
    for name in filter(None, names.decode().split("\0")):
        if (TOP / name).exists():
            (root / HOME / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(TOP / name, root / HOME / name, follow_symlinks=False)


def follow(machine: Fresh) -> dict[str, float]:
    """Type what a learner types; returns what LIMITS has limits for, in seconds."""
    first = re.search(r"^    (\S.*?)(?:  +#.*)?$", (TOP / "README.md").read_text(), re.M)
    assert first is not None
    machine.type(first[1])
    start = time.monotonic()
    told = machine.type("tutor start c1")
    exercise = re.search(r"^write +(\S+)$", told, re.M)
    assert exercise is not None
    lesson = (TOP / "tutorials/containers/01_by_hand/lesson.md").read_text()
    session = re.search(r"^```python\n(.*?)^```", lesson, re.M | re.S)
    assert session is not None
    lines = [line[4:] for line in session[1].splitlines() if line.startswith(">>> ")]
    said = machine.type("python - <<'END'\n" + "\n".join(lines) + "\nEND")
    win = time.monotonic() - start
    if not said.startswith("box\n"):
        sys.exit("\n".join([*machine.out, "fresh: the lesson's first lines print something else"]))
    machine.type("tutor check", status=1)
    machine.type("tutor hint")
    machine.type(f"tutor export /root/solutions && cp /root/solutions/containers/01_by_hand/solution.py {exercise[1]}")
    machine.type("tutor check")
    return dict(zip(LIMITS, (time.monotonic() - machine.begun, win), strict=True))


def main() -> int:
    """Make a machine, follow a learner in it, print the transcript. Returns the exit status."""
    words = argparse.ArgumentParser(prog="python -m bench.fresh", description=(__doc__ or "").partition("\n")[0])
    words.add_argument("--suite", default="bookworm", help="Debian's: bookworm (default), trixie")
    words.add_argument("--out", metavar="FILE", help="write the transcript there, too")
    options = words.parse_args()
    if os.geteuid():
        sys.exit("fresh: making a root takes root: sudo")
    with tempfile.TemporaryDirectory(prefix="fresh-", dir="/var/tmp") as name:
        root = Path(name) / "root"
        release = debian(root, options.suite)
        copy(root)
        out = [f"A fresh Debian {release} ({options.suite}), {datetime.now(UTC):%Y-%m-%d}: {os.cpu_count()} processors, kernel "
               f"{platform.release()}, load {os.getloadavg()[0]:.1f} at the beginning", ""]  # fmt: skip
        took = follow(Fresh(root, out))
    out += ["", *(f"{took[what]:5.0f} s {what} (limit {limit:.0f})" for what, limit in LIMITS.items())]
    print("\n".join(out))
    if options.out:
        Path(options.out).write_text("\n".join(out) + "\n", encoding="utf-8")
    return int(any(took[what] > limit for what, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
