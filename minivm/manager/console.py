"""At the console of a machine that runs: until it ends, or the detach keys are typed. It does not notice either."""

from __future__ import annotations

import os
import select

from minirt.terminal.detach_keys import DetachKeys
from minivm.machine.terminal import Terminal
from minivm.manager.client import ask, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket

    from minivm.manager.machines import NamedMachine

__all__ = ["attach", "follow"]

CHUNK = 1 << 16


def attach(machine: NamedMachine, stdin: int, stdout: int, keys: bytes, replay: bool = False) -> bool:
    """Join a terminal, or a pipe, to the machine's console.

    Args:
        stdin, stdout: descriptors of this side; the end of stdin is not the console's: others may type there.
        keys: the detach keys, as parse_detach_keys returns them.
        replay: begin with what the console has said since the machine was started.

    Returns True where the keys were typed, False where the machine ended. Raises MachineError, OSError.
    """
    with connect(machine) as stream:
        ask(machine, stream, "PUT", "/console", {"replay": replay})
        stream.setblocking(True)
        with Terminal(stdin) as terminal:
            return _copy(stream, stdin, stdout, DetachKeys(keys if terminal.raw else None))


def follow(machine: NamedMachine, stdout: int) -> None:
    """Write out what the console has said since the machine was started, and says, until it ends."""
    with connect(machine) as stream:
        ask(machine, stream, "PUT", "/console", {"replay": True, "listen": True})
        stream.setblocking(True)
        while data := _receive(stream):
            _write(stdout, data)


def _copy(stream: socket.socket, stdin: int, stdout: int, keys: DetachKeys) -> bool:
    poll = select.poll()
    poll.register(stream, select.POLLIN)
    poll.register(stdin, select.POLLIN)
    while True:
        ready = dict(poll.poll())
        if stream.fileno() in ready:
            data = _receive(stream)
            if not data:
                return False
            _write(stdout, data)
        if stdin in ready:
            try:
                typed = os.read(stdin, CHUNK)
            except OSError:  # the terminal has gone away
                return True
            if not typed:
                poll.unregister(stdin)
            _send(stream, keys.feed(typed))
            if keys.detached:
                return True


def _receive(stream: socket.socket) -> bytes:
    try:
        return stream.recv(CHUNK)
    except ConnectionResetError:
        return b""


def _send(stream: socket.socket, data: bytes) -> None:
    try:
        stream.sendall(data)
    except (BrokenPipeError, ConnectionResetError):
        pass  # it ends: what it said last is still to be read


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
