"""The other end of a machine's control socket: ask its process for something, or take its console."""

from __future__ import annotations

import json
import socket

from minivm.manager.machines import MachineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.manager.machines import NamedMachine

__all__ = ["connect", "request", "short_path"]

SOCKET = "api.sock"
PATIENCE = 10.0  # seconds that a machine's process may take to answer


def short_path(directory: int) -> str:
    """Return a path of the socket in a directory that is open here: sun_path holds but 107 bytes (man 7 unix)."""
    return f"/proc/self/fd/{directory}/{SOCKET}"


def connect(machine: NamedMachine) -> socket.socket:
    """Return a connection. Raises MachineError where the machine does not run."""
    import os

    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(PATIENCE)
    try:
        directory = os.open(machine.path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            stream.connect(short_path(directory))
        finally:
            os.close(directory)
    except OSError:
        stream.close()
        raise MachineError(f"machine {machine.name} is not running: minivm start {machine.name}") from None
    return stream


def request(machine: NamedMachine, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Make one request and return the body of the answer. Raises MachineError."""
    with connect(machine) as stream:
        return ask(machine, stream, method, path, body)


def ask(machine: NamedMachine, stream: socket.socket, method: str, path: str, body: dict[str, Any] | None) -> Any:
    """Make a request on a connection that stays open."""
    try:
        stream.sendall(json.dumps({"method": method, "path": path, "body": body or {}}).encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            byte = stream.recv(1)  # no further: the console's bytes may follow
            if not byte:
                raise MachineError(f"machine {machine.name} ended before it answered")
            line += byte
    except TimeoutError:
        raise MachineError(f"machine {machine.name} does not answer: minivm stop --time 0 {machine.name} ends it") from None
    except OSError as error:
        raise MachineError(f"machine {machine.name} ended before it answered ({error.strerror})") from None
    answer = json.loads(line)
    if answer["status"] >= 400:
        raise MachineError(f"machine {machine.name}: {answer['body']['fault_message']}")
    return answer.get("body")
