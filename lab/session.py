"""One run: start the machine, join its streams to ours, and find out how the command ended.

The machine has a socket for each stream. We read them all until QEMU is gone, so nothing that was
written is lost; the status comes on a stream of its own ("ready", then "exit N"). A machine that
goes without saying "exit" failed, and its boot log is kept.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import time
import tty
from pathlib import Path

from lab import faults
from lab.image import Image, LabError, cache_directory
from lab.machine import PORTS, accelerators, command, remember_that_kvm_fails
from lab.payload import Job, write_payload

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

__all__ = ["TimedOut", "run"]

READY_LIMIT = {"kvm": 15.0, "tcg": 180.0}  # seconds until the machine must have said "ready"
# An emulated machine now and then dies as it boots (about one in twenty: QEMU 7.2's TCG meets the kernel's patching
# of its own code by int3 on two processors; see keys.py). Nothing of the job has begun then, so it may be started again.
BOOTS = 3
LOOK = 5.0  # seconds at most between two looks at the console
GONE = 10.0  # seconds until a machine must have switched itself off, from when it said how the command ended
CHUNK = 1 << 16  # bytes moved at a time


class TimedOut(LabError):
    """The command did not end within the time that it was given."""


class NotReady(LabError):
    """The machine did not start with this accelerator, or has no KVM to offer with it."""


class Ended(LabError):
    """The machine stopped while the job ran, or was stopped as nothing more came of it."""

    def __init__(self, text: str, fed: bool = True, stuck: bool = False) -> None:
        super().__init__(text)
        self.fed = fed  # whether the job was given any input
        self.stuck = stuck  # whether it had lost a timer


class Crashed(LabError):
    """The emulator's fault, not the job's (faults.py), and the job may begin again."""


def run(image: Image, job: Job, timeout: float, console: str | None = None, again: int = 0) -> int:
    """Run a job in a new machine, with this process' standard streams, and return its exit status.

    Args:
        image: from find_or_build.
        job: the command.
        timeout: seconds for all of it, boot included.
        console: a file to save to what the machine's console said; a failure saves it anyway.
        again: how often the job may begin again, in another machine, where the emulator failed the one before. What the job
            wrote until then has been passed on; a job that was given input does not begin again.

    Raises LabError where the machine failed, TimedOut where the time was up.
    """
    end = time.monotonic() + timeout
    for left in reversed(range(again)):
        try:
            return _run_somewhere(image, job, end, console)
        except Crashed as error:
            more = f"{left} more time{'' if left == 1 else 's'}" if left else "for the last time"
            print(f"lab: {error}; the command begins again, {more}", file=sys.stderr, flush=True)
    return _run_somewhere(image, job, end, console)


def _run_somewhere(image: Image, job: Job, end: float, console: str | None) -> int:
    """Run it with whichever accelerator works."""
    cache = cache_directory()
    *nested, emulated = accelerators(cache)
    for accelerator in nested:
        try:
            return _run_with(accelerator, image, job, end, True, console)
        except NotReady:
            remember_that_kvm_fails(cache)
    for _ in range(BOOTS - 1):
        try:
            return _run_with(emulated, image, job, end, False, console)
        except NotReady:
            pass  # nothing is said: standard error is the job's (the console is kept, _keep_log)
    return _run_with(emulated, image, job, end, False, console)


def _run_with(accelerator: str, image: Image, job: Job, end: float, needs_kvm: bool, console: str | None) -> int:
    with tempfile.TemporaryDirectory(prefix="minirt-lab-") as name:
        directory = Path(name)
        write_payload(directory / "payload.cpio", image, job)
        try:
            with _start(accelerator, image, directory, job.disks) as streams:
                ready = _wait_until_ready(streams["status"], time.monotonic() + READY_LIMIT[accelerator], end)
                if needs_kvm and b"kvm" not in ready:
                    raise NotReady("this host's KVM does not nest")
                return _converse(job, streams, end, faults.Watch(directory / "boot.log"))
        except LabError as error:
            fault = isinstance(error, Ended) and not error.fed and (error.stuck or faults.crashed(directory / "boot.log"))
            raise (Crashed if fault else type(error))(f"{error}{_keep_log(directory)}") from None
        finally:
            if console:
                shutil.copy(directory / "boot.log", console)


@contextlib.contextmanager
def _start(accelerator: str, image: Image, directory: Path, disks: list[str]) -> Iterator[dict[str, socket.socket]]:
    """Start QEMU and yield its streams by name; end it when the block is left, however."""
    with contextlib.ExitStack() as stack:
        listeners = {}
        for name in (*PORTS, "tty"):
            listeners[name] = stack.enter_context(socket.socket(socket.AF_UNIX))
            listeners[name].bind(str(directory / name))
            listeners[name].listen(1)
        record = stack.enter_context(open(directory / "qemu.log", "wb"))
        process = subprocess.Popen(
            command(image, directory, accelerator, disks),
            stdin=subprocess.DEVNULL,
            stdout=record,
            stderr=record,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        stack.callback(process.wait)
        stack.callback(process.kill)
        streams = {}
        for name, listener in listeners.items():
            _wait_for_connection(listener, process)
            streams[name] = stack.enter_context(listener.accept()[0])
        yield streams


def _wait_for_connection(listener: socket.socket, process: subprocess.Popen[bytes]) -> None:
    """Return when QEMU has connected, which it does as it starts, unless it ends with an error."""
    end = time.monotonic() + 30
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not poll.poll(100):
        if process.poll() is not None or time.monotonic() > end:
            raise NotReady("QEMU did not start")


def _wait_until_ready(status: socket.socket, limit: float, end: float) -> bytes:
    """Return the machine's first word; it has until `limit` to start, and the whole run until `end`."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            status.settimeout(max(min(limit, end) - time.monotonic(), 0.01))
            byte = status.recv(1)
            if not byte:
                raise NotReady("the machine stopped while it booted")
            line += byte
    except TimeoutError:
        if time.monotonic() >= end:
            raise TimedOut("the time was up while the machine booted (--timeout)") from None
        raise NotReady("the machine did not boot in time") from None
    return line


def _converse(job: Job, streams: dict[str, socket.socket], end: float, watch: faults.Watch) -> int:
    """Move bytes both ways until every stream from the machine has ended; return the exit status.

    A machine that has said how the command ended need not switch itself off: all output went before that word (session.sh).
    """
    status = bytearray()
    inward = Inward(streams["tty" if job.tty else "stdin"])
    outward: dict[int, Callable[[bytes], object]] = {
        streams["status"].fileno(): status.extend,
        streams["stdout"].fileno(): lambda data: _write_all(1, data),
        streams["stderr"].fileno(): lambda data: _write_all(2, data),
        streams["tty"].fileno(): lambda data: _write_all(1, data),
    }
    for stream in streams.values():
        stream.setblocking(False)
    with _terminal(job, streams["stdin"]):
        while outward:
            left = end - time.monotonic()
            if left <= 0 and b"\n" not in status:
                raise TimedOut("the time was up (--timeout)")
            events = _wait(outward, inward.wishes(), max(0.0, min(left, LOOK)))
            if left <= 0 and not events.keys() & outward.keys():
                break
            for fd, event in events.items():
                inward.handle(fd, event)
                if fd in outward and event & ~select.POLLOUT:
                    data = _receive(fd)
                    if data:
                        watch.heard()
                        outward[fd](data)
                        end = min(end, time.monotonic() + GONE) if b"\n" in status else end
                    elif data is not None:
                        del outward[fd]
            if not job.tty and b"\n" not in status and watch.stuck():  # who sits at a terminal sees for himself
                text = f"the emulated machine lost a processor's timer, and nothing more came for {faults.SILENCE:.0f} seconds"
                raise Ended(text, inward.fed, stuck=True)
    if not status.startswith(b"exit "):
        raise Ended("the machine stopped before the command ended", inward.fed)
    return int(status.split()[1])


def _wait(outward: Collection[int], wishes: dict[int, int], seconds: float) -> dict[int, int]:
    """Return what poll says of the streams from the machine, and of what else is wished for, within so many seconds."""
    poll = select.poll()
    for fd in {*outward, *wishes}:
        poll.register(fd, wishes.get(fd, 0) | (select.POLLIN if fd in outward else 0))
    return dict(poll.poll(seconds * 1000))


class Inward:
    """Our standard input on its way into the machine: read a piece, pass it on, read the next."""

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._waiting = b""  # read, and not yet taken by the machine
        self._open = True
        self.fed = False  # whether there was any

    def wishes(self) -> dict[int, int]:
        """Return what to poll for: input, or room for what waits; nothing after the end."""
        if self._waiting:
            return {self._stream.fileno(): select.POLLOUT}
        return {0: select.POLLIN} if self._open else {}

    def handle(self, fd: int, events: int) -> None:
        """Go on after poll reported `events` for `fd`."""
        try:
            if self._waiting and fd == self._stream.fileno() and events & select.POLLOUT:
                self._waiting = self._waiting[self._stream.send(self._waiting) :]
            elif not self._waiting and fd == 0 and self._open:
                self._waiting = b"" if events & select.POLLNVAL else os.read(0, CHUNK)
                self.fed = self.fed or bool(self._waiting)
                if not self._waiting:
                    self._open = False
                    # Not close(): at the peer's hang-up QEMU drops what it has not read.
                    self._stream.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError:  # the machine is gone; its streams end, too
            self._open, self._waiting = False, b""


def _receive(fd: int) -> bytes | None:
    """Return what there is, b"" at the end, None where there is nothing yet."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except ConnectionResetError:
        return b""


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


@contextlib.contextmanager
def _terminal(job: Job, control: socket.socket) -> Iterator[None]:
    """For a terminal job: pass each key as it is, and tell the machine of a new window size."""
    if not job.tty:
        yield
        return

    def resized(*_: object) -> None:
        size = os.get_terminal_size(0)
        with contextlib.suppress(OSError):
            control.send(f"{size.lines} {size.columns}\n".encode())

    before = termios.tcgetattr(0)
    handler = signal.signal(signal.SIGWINCH, resized)
    tty.setraw(0)
    try:
        yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
        signal.signal(signal.SIGWINCH, handler)


def _keep_log(directory: Path) -> str:
    """Save what the machine's console and QEMU said; return the words that name the place."""
    kept = cache_directory() / "last-failure.log"
    text = b""
    for name in ("qemu.log", "boot.log"):
        if (directory / name).exists():
            text += (directory / name).read_bytes()
    kept.write_bytes(text)
    last = [line for line in text.decode(errors="replace").splitlines() if "Kernel panic" in line]
    return f"{': ' + last[-1].strip() if last else ''}; its console: {kept}"
