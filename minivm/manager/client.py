"""The other end of a machine's control socket: ask its process for something, or take its console."""

from __future__ import annotations

import json
import os
import socket

from minivm.manager.machines import MachineError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.manager.machines import NamedMachine

__all__ = ["connect", "request", "short_path"]

SOCKET = "api.sock"
LONGEST = 2 << 20  # bytes of an answer; a machine keeps less for a client (serve.py)
CHUNK = 1 << 16
PATIENCE = 10.0  # seconds that a machine's process may take to answer, but where it has much to do


def short_path(directory: int) -> str:
    """Return a path of the socket in a directory that is open here: sun_path holds but 107 bytes (man 7 unix)."""
    return f"/proc/self/fd/{directory}/{SOCKET}"


def connect(machine: NamedMachine) -> socket.socket:
    """Return a connection. Raises MachineError where the machine does not run, or is too busy."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(PATIENCE)
    try:
        directory = os.open(machine.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _connect(stream, short_path(directory))
        finally:
            os.close(directory)
    except (BlockingIOError, TimeoutError):
        stream.close()
        raise _silent(machine) from None
    except OSError:
        stream.close()
        raise MachineError(f"machine {machine.name} is not running: minivm start {machine.name}") from None
    return stream


def _connect(stream: socket.socket, path: str) -> None:
    """Connect, also where as many wait as the socket lets: connect(2) with a time limit does not (man 2 connect)."""
    from time import monotonic, sleep

    end = monotonic() + PATIENCE
    while True:
        try:
            return stream.connect(path)
        except BlockingIOError:
            if monotonic() > end:
                raise
        sleep(0.02)


def _silent(machine: NamedMachine) -> MachineError:
    return MachineError(f"machine {machine.name} does not answer: minivm stop --time 0 {machine.name} ends it")


def request(machine: NamedMachine, method: str, path: str, body: dict[str, Any] | None = None, long: bool = False) -> Any:
    """Make one request and return the body of the answer; `long`: wait for it as long as the machine lives. Raises MachineError."""
    with connect(machine) as stream:
        if long:
            stream.settimeout(None)
        return ask(machine, stream, method, path, body)


def ask(machine: NamedMachine, stream: socket.socket, method: str, path: str, body: dict[str, Any] | None) -> Any:
    """Make a request on a connection that stays open. Raises MachineError, also for an answer that is none."""
    try:
        stream.sendall(json.dumps({"method": method, "path": path, "body": body or {}}).encode() + b"\n")
        line = _line(stream)
    except TimeoutError:
        raise _silent(machine) from None
    except OSError as error:
        raise MachineError(f"machine {machine.name} ended before it answered ({error.strerror})") from None
    if not line:
        raise MachineError(f"machine {machine.name} ended before it answered")
    try:
        answer = json.loads(line)
        status, body = answer["status"], answer.get("body")
        fault = printable(body["fault_message"]) if status >= 400 else ""
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise MachineError(f"machine {machine.name} answers with something else than an answer") from None
    if status >= 400:
        raise MachineError(f"machine {machine.name}: {fault}")
    return body


def _line(stream: socket.socket) -> bytes:
    """Receive a line, and nothing that follows it, for that may be the console's. Returns b"" where none comes."""
    line = b""
    while not line.endswith(b"\n") and len(line) < LONGEST:
        seen = stream.recv(CHUNK, socket.MSG_PEEK)
        got = stream.recv(seen.find(b"\n") + 1 or len(seen)) if seen else b""
        if not got:
            return b""
        line += got
    return line
