"""Other programs that a machine needs while it runs: passt for a network, qemu-storage-daemon for qcow2, virtiofsd (shares.py).

Each is a child that ends with the machine, also when this process is killed or has no right to send a signal any more (jail.py):
beside it a shell waits for the end of a pipe, which comes when we close the other side or are gone, and ends it.
"""

from __future__ import annotations

import os
from time import monotonic, sleep

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

    from minivm.machine.machine import Machine

__all__ = ["Helper", "spawn", "start"]

LIMIT = 10  # seconds in which one must be ready, or end
PACKAGES = {"passt": "passt", "qemu-storage-daemon": "qemu-system-common"}


# $1: the program's process, $2: the directory of the disk that it shows, or nothing. It has LIMIT seconds to end by itself.
KEEPER = """
read -r _
kill "$1"
left=500
while kill -0 "$1" && [ "$left" -gt 0 ]; do sleep 0.02; left=$((left - 1)); done
[ "$left" -gt 0 ] || kill -9 "$1"
[ -z "$2" ] || { rm -f "$2/disk"; rmdir "$2"; }
"""


class Helper:
    """A program that runs, and the shell that ends it."""

    def __init__(self, process: Popen[bytes], directory: str = "") -> None:
        import subprocess

        self._process = process
        self.pid = process.pid
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True, "cwd": "/"}
        words = ["/bin/sh", "-c", KEEPER, "sh", str(self.pid), directory]
        self._keeper = subprocess.Popen(words, stdin=subprocess.PIPE, **quiet)  # type: ignore[call-overload]

    def stop(self) -> None:
        """Have it ended, and wait until it has; in a jail too."""
        self._keeper.stdin.close()
        self._process.wait(2 * LIMIT)
        self._keeper.wait(2 * LIMIT)

    def complaint(self) -> str:
        """End it, and return the last line that it wrote to its standard error."""
        assert self._process.stderr is not None
        self._keeper.stdin.close()
        said = self._process.stderr.read().decode(errors="replace").strip().splitlines()
        self.stop()
        return said[-1] if said else "it does not say why"

    @property
    def ended(self) -> bool:
        """Whether it has ended by itself. It is not waited for yet: else its number might be another's when the keeper uses it."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def start(program: str, machine: Machine, **args: object) -> Helper:
    """Start a helper for the device that is being made. Raises MinivmError."""
    import shutil

    if program == "virtiofsd":
        from minivm.machine.shares import serve

        helper, fd = serve(str(args["path"]), bool(args["read_only"]))
        machine.made.opened.append(fd)
        machine.undo("close virtiofsd's socket", lambda: os.close(fd))
        return helper
    if program == "qemu-storage-daemon" and not os.path.exists(str(args["path"])):
        raise MinivmError(f"no such disk: {args['path']!r}; `minivm disk create` makes one")
    if shutil.which(program) is None:
        raise MinivmError(f"{program} is not installed: apt-get install {PACKAGES[program]}")
    if program == "passt":
        return _passt(machine.made.opened[-1])
    return _storage_daemon(machine, str(args["path"]), str(args.get("base", "")), bool(args["read_only"]))


def _passt(fd: int) -> Helper:
    """Start passt at its end of the socket pair, which then is passt's alone: when it ends, ours says so. man 1 passt."""
    words = ["passt", "--foreground", "--quiet", "--fd", str(fd)]
    helper = Helper(spawn(words, [fd]))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, fd, inheritable=False)
    os.close(null)
    return helper


def _storage_daemon(machine: Machine, path: str, base: str, read_only: bool) -> Helper:
    """Show the disk in a qcow2 file as a file of its own, and have the machine open that one.

    man 1 qemu-storage-daemon, --export type=fuse.
    """
    import json
    import tempfile

    from minivm.machine.qcow2 import block

    disk_is = {"node-name": "disk"} | block(path, base=base, read_only=read_only)
    directory = tempfile.mkdtemp(prefix="minivm-qcow2-")
    disk = os.path.join(directory, "disk")
    with open(disk, "xb"):
        pass
    words = ["qemu-storage-daemon", "--blockdev", json.dumps(disk_is)]
    words += ["--export", f"type=fuse,id=disk,node-name=disk,mountpoint={disk},writable={'off' if read_only else 'on'}"]
    before, end = os.stat(disk).st_dev, monotonic() + LIMIT  # first, for the daemon may be quick
    helper = Helper(spawn(words, []), directory)
    while os.stat(disk).st_dev == before:
        if helper.ended or monotonic() > end:
            raise _failed(helper, path)
        sleep(0.005)
    machine.made.shown_as[path] = disk
    return helper


def _failed(helper: Helper, path: str) -> MinivmError:
    return MinivmError(f"qemu-storage-daemon cannot show {path!r}: {helper.complaint()}")


def spawn(words: list[str], fds: list[int]) -> Popen[bytes]:
    """Start a program in a session of its own, with these descriptors and a pipe for its complaints."""
    import subprocess

    return subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, pass_fds=fds, start_new_session=True
    )
