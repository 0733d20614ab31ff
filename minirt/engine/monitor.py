"""The monitor of a detached container: started, told what to do, left alone with it (csrc/monitor).

    with Monitor() as monitor:
        monitor.order(PLACE, fds=(directory,))
        Birth(plan, fds, parent=monitor)          # the container is the monitor's child
        monitor.order(GO)                         # from here on it needs nobody

Leaving the block before GO ends the monitor and what it has started.
"""

from __future__ import annotations

import os
import sys

from minirt.errors import KernelError, MinirtError
from minirt.plan.executor import Parent, executor

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as _socket
    from collections.abc import Sequence
else:
    import _socket  # the C half of `socket`, whose other half costs ten milliseconds

__all__ = [
    "ATTACH", "CHILD", "ERROR", "EXIT", "GO", "HEALTH", "INPUT", "KEEP", "LOG", "OUTPUT", "PLACE",
    "QUIET", "SHOWN", "SIZE", "STATUS", "TTY",
    "TYPED", "Monitor", "connect", "frame", "interpreter", "listen", "words",
]  # fmt: skip

SPAWN, REAP, INPUT, OUTPUT, TTY, PLACE, LOG, ATTACH, KEEP, EXIT, CHILD, GO, HEALTH = range(1, 14)  # enum order, monitor.h
TYPED, SHOWN, ERROR, STATUS, SIZE, QUIET = range(6)  # enum frame_type
CONTROL = 3  # the descriptor that it gets its orders from


class Monitor(Parent):
    """One monitor, until it is left alone or ended."""

    def __init__(self) -> None:
        path = os.path.join(os.path.dirname(__file__), "monitor.elf")
        ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
        nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, nowhere, fd) for fd in (0, 1, 2)]
        actions.append((os.POSIX_SPAWN_DUP2, theirs.fileno(), CONTROL))
        try:
            pid = os.posix_spawn(path, ["minirt-monitor"], os.environ, file_actions=actions)
        except FileNotFoundError:
            raise MinirtError(f"{path} is missing: build it with `make` in the source tree") from None
        finally:
            theirs.close()
            os.close(nowhere)
        os.waitpid(pid, 0)  # it goes on in a child, which is init's
        self.control = ours

    def order(self, order: int, a: int = 0, b: int = 0, fds: Sequence[int] = (), text: bytes = b"") -> int:
        """Give one order (struct order_message) and return the answer. Raises: KernelError, MinirtError where it has died."""
        data = order.to_bytes(4, "little") + b.to_bytes(4, "little") + a.to_bytes(8, "little", signed=True) + text
        rights = b"".join(fd.to_bytes(4, "little") for fd in fds)
        try:
            self.control.sendmsg([data], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, rights)] if fds else [])
            answer = self.control.recv(4)
        except OSError:
            answer = b""
        if not answer:
            raise MinirtError("the container's monitor has died: `minirt gc` removes what it left")
        number = int.from_bytes(answer, "little", signed=True)
        if number < 0 and order != SPAWN:
            raise KernelError(-number, f"monitor, order {order}: {os.strerror(-number)}")
        return number

    def spawn(self, fds: list[int], plan: int) -> int:
        """Have it start the executor."""
        return self.order(SPAWN, plan, fds=[executor(), *fds])

    def reap(self, pid: int) -> None:
        """Have it wait for one of its children."""
        try:
            self.order(REAP, pid)
        except (KernelError, MinirtError):
            pass  # it was reaped already, or both are gone

    def close(self) -> None:
        """Let go of it: after GO it goes on, before it ends what it has started."""
        self.control.close()

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def listen(path: str) -> _socket.socket:
    """Return a socket that clients reach at a path of any length (it is named from its directory: man 7 unix, sun_path)."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        os.chmod(path, 0o600)
    finally:
        os.close(folder)
    listener.listen(128)  # who comes before the program begins waits here, and is not to wait for room
    return listener


def words(*command: str) -> bytes:
    """Return a command as the monitor takes it, each word with a NUL at its end."""
    return b"".join(os.fsencode(word) + b"\0" for word in command)


def interpreter(module: str, id: str) -> tuple[str, ...]:
    """Return the command that runs a module's `main` for a container: an interpreter that need not look for its packages.

    Without `site` (-S) it begins in half the time; where its packages are is known here.
    """
    paths = [path for path in sys.path if os.path.isabs(path)]
    code = f"import sys; sys.path[:] = {paths!r}; from {module} import main; sys.exit(main(sys.argv[1]))"
    return (sys.executable, "-I", "-S", "-c", code, id)


def connect(path: str) -> _socket.socket:
    """Return a connection to a monitor. Raises: OSError where there is none."""
    client = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    try:
        client.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    except OSError:
        client.close()
        raise
    finally:
        os.close(folder)
    return client


def frame(type: int, data: bytes) -> bytes:
    """Return a struct frame with its content."""
    return bytes((type, 0, 0, 0)) + len(data).to_bytes(4, "big") + data
