"""The thread that started the machine, while the guest runs in another: input, signals and time.

It sleeps in one poll(2), on the console's input and on a pipe that says "look again": a signal (man 2 signal through
Python's set_wakeup_fd), the end of the machine, or room in the UART.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal's half in C: its names as an enum take long to load
import os
import select
import threading
from time import monotonic

from minivm.errors import KvmError
from minivm.machine.machine import Outcome
from minivm.machine.terminal import Escape, Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.machine.machine import Machine

__all__ = ["TIMED_OUT", "Running", "attend", "drain", "send"]

TIMED_OUT = 124  # as timeout(1)
CHUNK = 4096
HOUR = 3_600_000  # ms
SIGNALS = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


def attend(machine: Machine, stdin: int | None, timeout: float | None) -> Outcome:
    """Run the machine and return its outcome; see Machine.run for the arguments."""
    with Terminal(stdin) as terminal, Running(machine) as look:
        try:
            _watch(machine, terminal, look, None if timeout is None else monotonic() + timeout)
        except KvmError as error:
            machine.stop(Outcome(error.status, str(error), error))
    assert machine.outcome is not None
    return machine.outcome


class Running:
    """The machine's threads, one a processor and those of its devices' paths, from __enter__ until they have ended in __exit__.

    __enter__ returns a descriptor that is readable when there is something to look at: an outcome, a signal, room for
    input.

    Args:
        read: called as long as output waits to be written in __exit__, where the caller is who reads it.
        last: the process ends with the machine, and has to say how: a signal that comes then comes too late.
    """

    def __init__(self, machine: Machine, read: Callable[[], None] = lambda: None, *, last: bool = False) -> None:
        self._machine, self._read, self._last = machine, read, last
        self._threads = [
            threading.Thread(target=machine.vcpu_thread, args=(number,), name=f"vcpu{number}")
            for number in range(len(machine.vcpus))
        ]
        self._paths = [threading.Thread(target=machine.path_thread, args=(path,), name="path") for path in machine.paths]

    def __enter__(self) -> int:
        self._look, self._poke = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._machine.wake = lambda: _poke(self._poke)
        self._signals = _Signals(self._machine, self._poke, self._last)
        self._signals.__enter__()
        try:
            for thread in (*self._paths, *self._threads):
                thread.start()
        except BaseException:
            self.__exit__()
            raise
        return self._look

    def __exit__(self, *_: object) -> None:
        self._machine.stop(Outcome(125, "interrupted"))  # counts only where there is no outcome yet
        self._join(self._threads)
        if all(thread.is_alive() for thread in self._paths):
            self._machine.drain(self._read)
        for path in self._machine.paths:
            path.stop()
        self._join(self._paths)
        self._signals.__exit__()
        self._machine.wake = lambda: None
        os.close(self._look)
        os.close(self._poke)

    def _join(self, threads: list[threading.Thread]) -> None:
        for thread in threads:
            if thread.ident is not None:
                thread.join()


def _watch(machine: Machine, terminal: Terminal, look: int, end: float | None) -> None:
    """Sleep and serve until the machine has an outcome."""
    escape = Escape() if terminal.raw else None
    stdin, room = terminal.fd, True
    if stdin is None:
        machine.hang_up()
    while machine.outcome is None:
        poll = select.poll()
        poll.register(look, select.POLLIN)
        if stdin is not None and room:
            poll.register(stdin, select.POLLIN)
        ready = {fd for fd, _ in poll.poll(_left(end))}
        if end is not None and monotonic() >= end:
            machine.stop(Outcome(TIMED_OUT, "stopped by --timeout"))
        if look in ready:
            drain(look)
            room = True
        if stdin in ready:
            assert stdin is not None
            data = _read(stdin)
            if data is None:
                continue
            if not data:
                stdin = None
                machine.hang_up()
            elif escape and (data := escape.filter(data)) is None:
                machine.stop(Outcome(0, "ended from the keyboard"))
            elif data:
                room = machine.type(data)


def _left(end: float | None) -> int | None:
    """Return the milliseconds until then, for poll; at most an hour's, as it takes an int and is asked again."""
    return None if end is None else max(0, int(min(HOUR, (end - monotonic()) * 1000)) + 1)


def _read(fd: int) -> bytes | None:
    """Read what there is: b"" at the end of input, None when it was a false alarm."""
    try:
        return os.read(fd, CHUNK)
    except BlockingIOError:
        return None
    except OSError:
        return b""  # a terminal that has gone away (EIO), or a closed descriptor (EBADF)


def _poke(fd: int) -> None:
    try:
        os.write(fd, b"\0")
    except OSError:
        pass  # full: it will look anyway


def drain(fd: int) -> None:
    """Empty the descriptor that Running gave; it is readable anew at the next event."""
    try:
        os.read(fd, CHUNK)
    except BlockingIOError:
        pass


def send(machine: Machine, data: bytes | memoryview) -> None:
    """Write console output, as the vCPU's thread. Gives up when the machine is stopped while nobody reads, and stands still here
    while it is paused."""
    poll = select.poll()
    poll.register(machine.console, select.POLLOUT)
    while data and machine.outcome is None:
        if machine.gate.closed:
            machine.gate.stand()
        if not poll.poll(100):
            continue
        try:
            data = data[os.write(machine.console, data) :]
        except BlockingIOError:
            pass
        except OSError as error:
            status = 128 + signal.SIGPIPE
            machine.stop(Outcome(status, f"cannot write the console's output: {error.strerror}"))


class _Signals:
    """End the machine by SIGINT, SIGTERM or SIGHUP, with the status that a shell shows for them: 128 + number.

    Only in the process's main thread, for only there Python runs handlers.

    Args:
        last: whether signals that come after the machine's end are ignored.
    """

    def __init__(self, machine: Machine, poke: int, last: bool) -> None:
        self._machine, self._poke, self._last = machine, poke, last
        self._before: dict[int, Any] = {}
        self._wakeup = -1

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._poke, warn_on_full_buffer=False)
            for number in SIGNALS:
                self._before[number] = signal.signal(number, self._handle)

    def _handle(self, number: int, _: object) -> None:
        self._machine.stop(Outcome(128 + number, f"stopped by {SIGNALS[number]}"))  # imports nothing: another may come meanwhile

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, signal.SIG_IGN if self._last else before)
        if self._before:
            signal.set_wakeup_fd(self._wakeup)
