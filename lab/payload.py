"""What one run brings along: the repository, the command, and the first scripts, as an initramfs.

The repository is copied into the archive, and so lies in the machine's memory: the command may
write to it, and nothing of that comes back. `.venv` is not copied, since its interpreter and its
compiled packages are the host's; in its place comes a .venv of four files that uses the machine's
own Python and packages, and has the same commands.
"""

from __future__ import annotations

import os
import shlex
import tomllib
from pathlib import Path

from lab.cpio import CpioWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lab.image import Image

__all__ = ["REPOSITORY", "Job", "write_payload"]

REPOSITORY = Path(__file__).resolve().parent.parent
WITHOUT = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
HERE = Path(__file__).parent
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Job:
    """One command for the machine.

    Attributes:
        argv: the command; an interactive shell where it is empty.
        cwd: its working directory.
        environment: what is added to the machine's few variables.
        tty: whether it gets a terminal, of `size` rows and columns.
        disks: files that the machine has as disks; what it writes to them is lost.
    """

    def __init__(
        self,
        argv: list[str],
        cwd: str,
        environment: dict[str, str],
        tty: bool,
        size: tuple[int, int] = (24, 80),
        disks: list[str] | None = None,
    ) -> None:
        self.argv = argv or ["bash", "-i"]
        self.cwd = cwd
        self.environment = environment
        self.tty = tty
        self.size = size
        self.disks = disks or []

    def script(self) -> str:
        """Return it as a shell script; exec leaves the shell's own 126 and 127 for what cannot run."""
        variables = {"PATH": PATH, "HOME": "/root", "USER": "root", "LANG": "C.UTF-8", **self.environment}
        lines = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        return "\n".join([*lines, f"cd {shlex.quote(self.cwd)}", f"exec {shlex.join(self.argv)}", ""])

    def settings(self) -> str:
        """Return what the machine's scripts must know before the job starts."""
        rows, columns = self.size
        tty = "yes" if self.tty else "no"
        return f"repository={shlex.quote(str(REPOSITORY))}\ntty={tty}\nrows={rows}\ncolumns={columns}\n"


def write_payload(path: Path, image: Image, job: Job) -> None:
    """Write the initramfs for one run to `path`."""
    with open(path, "wb") as stream:
        archive = CpioWriter(stream)
        for name in ("dev", "proc", "sys", "disk"):
            archive.directory(name)
        archive.file("init", (HERE / "init").read_bytes(), 0o755)
        archive.file("bin/busybox", image.busybox.read_bytes(), 0o755)
        archive.file("virtio_blk.ko", image.virtio_blk.read_bytes())
        archive.file("lab/session.sh", (HERE / "session.sh").read_bytes(), 0o755)
        archive.file("lab/keys.py", (HERE / "keys.py").read_bytes())
        archive.file("lab/settings", job.settings().encode())
        archive.file("lab/job", job.script().encode(), 0o755)
        archive.tree(str(REPOSITORY), "repository", WITHOUT)
        _write_venv(archive, image.python())
        archive.finish()


def _write_venv(archive: CpioWriter, python: str) -> None:
    """Write a virtual environment: a link, a setting, a path, and the project's commands.

    Source: PEP 405 (pyvenv.cfg); the format of *.pth is in the documentation of module site.
    """
    venv = "repository/.venv"
    for name in ("python", "python3", python):
        archive.link(f"{venv}/bin/{name}", f"/usr/bin/{python}")
    archive.file(f"{venv}/pyvenv.cfg", b"home = /usr/bin\ninclude-system-site-packages = true\n")
    archive.file(f"{venv}/lib/{python}/site-packages/minirt.pth", os.fsencode(f"{REPOSITORY}\n"))
    commands = {"pytest": "pytest:console_main"}
    with open(REPOSITORY / "pyproject.toml", "rb") as project:
        commands |= tomllib.load(project).get("project", {}).get("scripts", {})
    for name, entry in commands.items():
        module, function = entry.split(":")
        text = f"#!{REPOSITORY}/.venv/bin/python\nimport sys\nfrom {module} import {function}\n"
        archive.file(f"{venv}/bin/{name}", os.fsencode(f"{text}sys.exit({function}())\n"), 0o755)
    for name in ("minirt-oci", "minivm"):  # static programs (csrc/start)
        started = REPOSITORY / ".venv" / "bin" / name
        if started.exists():
            archive.file(f"{venv}/bin/{name}", started.read_bytes(), 0o755)
