"""D-Bus, as far as a few calls to systemd need it: a connection, a call and its answer, a signal.

    with Bus("/run/systemd/private") as bus:
        bus.call("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "GetUnit", "s", "init.scope")

Why not jeepney, which does all of it: it takes as long to import as a whole container to make (measured: 17 to 70 ms),
and engines ask for --systemd-cgroup each time. The tests compare each byte with jeepney's.

Source: D-Bus specification 0.43, https://dbus.freedesktop.org/doc/dbus-specification.html
"""

from __future__ import annotations

import os
import struct

from minirt.errors import MinirtError
from minirt.linux.dbus_values import marshal, unmarshal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket as _socket
    from collections.abc import Callable, Sequence
    from typing import Any
else:
    import _socket  # the C half of `socket`, whose other half costs 10 ms of start-up

__all__ = ["Bus", "BusError", "address_path"]

CALL, RETURN, ERROR, SIGNAL = 1, 2, 3, 4  # type of a message
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, _, SIGNATURE = range(1, 9)  # header fields
HEADER = "yyyyuua(yv)"  # byte order, type, flags, version, length of the body, serial, fields
FIXED_PART = 16  # bytes of the header up to the fields' own
LONGEST = 1 << 27  # bytes of a message, by the specification
PATIENCE = 30.0  # seconds for an answer: what runc waits


class BusError(MinirtError):
    """The other side answered with an error, or not at all. `name` is D-Bus's, such as org.freedesktop.DBus.Error.Failed."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name


# -- messages ----------------------------------------------------------------------------------------------


class Message:
    """One message that came: its type, its header fields by number, the values of its body."""

    def __init__(self, header: bytes, body: bytes) -> None:
        (_, self.type, _, _, _, self.serial, fields), _ = unmarshal(HEADER, header)
        self.fields: dict[int, Any] = {code: value for code, (_, value) in fields}
        self.body, _ = unmarshal(self.fields.get(SIGNATURE, ""), body)


def call_message(serial: int, fields: Sequence[tuple[int, str, str]], signature: str, values: Sequence[Any]) -> bytes:
    """Return a method call as bytes; fields: code, type, value."""
    body = marshal(signature, values)
    listed = [(code, (kind, value)) for code, kind, value in fields if value]
    if signature:
        listed.append((SIGNATURE, ("g", signature)))
    out = marshal(HEADER, (ord("l"), CALL, 0, 1, len(body), serial, listed))
    out += bytes(-len(out) % 8)
    return bytes(out + body)


# -- a connection ------------------------------------------------------------------------------------------


class Bus:
    """A connection, to a bus or straight to a service; a context manager, closed at the end.

    Args:
        path: of the unix socket.
        destination: the name of the service on a bus; empty where the socket is the service's own.

    Raises: OSError where nobody listens there; BusError.
    """

    def __init__(self, path: str, destination: str = "") -> None:
        self.path = path
        self.destination = destination
        self.serial = 0
        self.signals: list[Message] = []
        self.buffer = b""
        self.socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.connect(path)
            self.authenticate()
            if destination:
                bus = "org.freedesktop.DBus"
                self.destination = bus
                self.call("/org/freedesktop/DBus", bus, "Hello")
                self.call("/org/freedesktop/DBus", bus, "AddMatch", "s", f"type='signal',sender='{destination}'")
                self.destination = destination
        except BaseException:
            self.close()
            raise

    def authenticate(self) -> None:
        """Say who we are: EXTERNAL without a name, which leaves it to the socket's credentials (man 7 unix, SO_PEERCRED).

        The name would be wrong in a user namespace, where we are not who we are outside.
        """
        self.socket.sendall(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")
        while True:
            line = self.read_line()
            if line.startswith(b"OK"):
                return
            if not line.startswith(b"DATA"):
                raise BusError(f"{self.path}: this user is refused: {line.decode(errors='replace')}")

    def call(self, path: str, interface: str, member: str, signature: str = "", *values: Any) -> list[Any]:
        """Call a method and wait for its answer. Raises: BusError."""
        self.serial += 1
        fields = ((PATH, "o", path), (INTERFACE, "s", interface), (MEMBER, "s", member), (DESTINATION, "s", self.destination))
        try:
            self.socket.sendall(call_message(self.serial, fields, signature, values))
        except OSError as error:
            raise BusError(f"{self.path}: {member}: {error.strerror or error}") from None
        while True:
            message = self.receive(member)
            if message.fields.get(REPLY_SERIAL) == self.serial and message.type == RETURN:
                return message.body
            if message.fields.get(REPLY_SERIAL) == self.serial and message.type == ERROR:
                text = str(message.body[0]) if message.body else ""
                name = str(message.fields.get(ERROR_NAME, ""))
                raise BusError(f"{member}: {text or name}", name)
            if message.type == SIGNAL:
                self.signals.append(message)

    def wait_signal(self, member: str, wanted: Callable[[list[Any]], bool]) -> list[Any]:
        """Return the values of the first signal of a name that is wanted, also of one that has come already.

        Raises: BusError where none comes in time.
        """
        while True:
            for message in self.signals:
                if message.fields.get(MEMBER) == member and wanted(message.body):
                    return message.body
            self.signals.clear()
            message = self.receive(member)
            if message.type == SIGNAL:
                self.signals.append(message)

    def receive(self, what: str) -> Message:
        """Return the next message. Raises: BusError; what: what is waited for."""
        try:
            start = self.read(FIXED_PART)
            body, _, fields = struct.unpack_from("<III", start, 4)
            if start[:1] != b"l" or body + fields > LONGEST:
                raise BusError(f"{self.path}: {what}: an answer that is no D-Bus message of this machine's byte order")
            return Message(start + self.read(fields + -fields % 8), self.read(body))
        except TimeoutError:
            raise BusError(f"{self.path}: {what}: no answer in {PATIENCE:.0f} s") from None
        except OSError as error:
            raise BusError(f"{self.path}: {what}: {error.strerror or error}") from None

    def read(self, size: int) -> bytes:
        """Return so many bytes. Raises: BusError at the end, OSError."""
        while len(self.buffer) < size:
            more = self.socket.recv(65536)
            if not more:
                raise BusError(f"{self.path}: the other side has closed the connection")
            self.buffer += more
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def read_line(self) -> bytes:
        """Return a line of the authentication, without its end."""
        line = b""
        while not line.endswith(b"\r\n"):
            line += self.read(1)
        return line[:-2]

    def close(self) -> None:
        """End the connection."""
        self.socket.close()

    def __enter__(self) -> Bus:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def address_path(address: str) -> str:
    """Return the socket's path in a D-Bus address, "" where it has none: unix:path=/run/user/1000/bus,guid=..."""
    for one in address.split(";"):
        transport, _, rest = one.partition(":")
        for pair in rest.split(","):
            key, _, value = pair.partition("=")
            if transport == "unix" and key == "path":
                return os.fsdecode(_unescape(value))
    return ""


def _unescape(text: str) -> bytes:
    head, *parts = os.fsencode(text).split(b"%")
    return head + b"".join(bytes.fromhex(part[:2].decode()) + part[2:] for part in parts)
