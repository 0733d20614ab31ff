"""D-Bus's bytes: what we write jeepney reads, and the other way; a call over a socket against a server made of jeepney."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Any

import jeepney
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jeepney.low_level import Endianness, Message, Parser, parse_signature

from minirt.linux import dbus
from minirt.linux.dbus import Bus, BusError, address_path
from minirt.linux.dbus_values import marshal, split, unmarshal

INTEGERS = {"y": (0, 255), "n": (-(1 << 15), (1 << 15) - 1), "q": (0, (1 << 16) - 1), "i": (-(1 << 31), (1 << 31) - 1),
            "u": (0, (1 << 32) - 1), "x": (-(1 << 63), (1 << 63) - 1), "t": (0, (1 << 64) - 1)}  # fmt: skip
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9)
basics = st.sampled_from([*INTEGERS, "b", "d", "s", "g"])
signatures = st.recursive(basics | st.just("v"), lambda inner: st.one_of(
    inner.map(lambda kind: f"a{kind}"), st.lists(inner, min_size=1, max_size=4).map(lambda kinds: f"({''.join(kinds)})"),
), max_leaves=6)  # fmt: skip


def values_of(kind: str) -> st.SearchStrategy[Any]:
    """Return values of one complete type."""
    if kind in INTEGERS:
        return st.integers(*INTEGERS[kind])
    if kind == "v":
        return basics.flatmap(lambda inner: st.tuples(st.just(inner), values_of(inner)))
    if kind == "y" or kind[0] == "a":
        return st.lists(values_of(kind[1:]), max_size=3)
    if kind[0] == "(":
        return st.tuples(*map(values_of, split(kind[1:-1])))
    return {"b": st.booleans(), "d": st.floats(allow_nan=False), "s": texts, "g": signatures}[kind]


@st.composite
def bodies(draw: st.DrawFn) -> tuple[str, tuple[Any, ...]]:
    kinds = draw(st.lists(signatures, min_size=1, max_size=4))
    return "".join(kinds), tuple(draw(values_of(kind)) for kind in kinds)


def plain(value: Any) -> Any:
    """jeepney gives bytes for an array of bytes, where we give numbers."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, list | tuple):
        return type(value)(plain(item) for item in value)
    return value


@given(bodies())
def test_what_we_write_jeepney_reads_and_so_do_we(body: tuple[str, tuple[Any, ...]]) -> None:
    signature, values = body
    data = bytes(marshal(signature, values))
    theirs, end = parse_signature(list(f"({signature})")).parse_data(data, 0, Endianness.little)
    assert end == len(data) and plain(theirs) == values
    assert unmarshal(signature, data) == (list(values), len(data))


@given(bodies(), st.integers(1, 1 << 31))
def test_a_call_of_ours_is_a_message_to_jeepney(body: tuple[str, tuple[Any, ...]], serial: int) -> None:
    fields = ((dbus.PATH, "o", "/a/b"), (dbus.MEMBER, "s", "Do"), (dbus.INTERFACE, "s", "a.b"), (dbus.DESTINATION, "s", ""))
    message = Message.from_buffer(dbus.call_message(serial, fields, *body))
    header = message.header
    assert header.message_type is jeepney.MessageType.method_call and header.serial == serial
    assert header.fields[jeepney.HeaderFields.path] == "/a/b" and jeepney.HeaderFields.destination not in header.fields
    assert plain(message.body) == body[1]


@given(st.text("ybnqiuxtdsogva(){", max_size=8))
def test_a_signature_is_divided_or_refused(text: str) -> None:
    try:
        parts = split(text)
    except ValueError:
        return
    assert "".join(parts) == text and all(split(part) == [part] for part in parts)


class Server:
    """A service at a socket of its own, made of jeepney: answers Add, says Failed to Fail, hangs up at Go, signals before Told."""

    def __init__(self, path: Path, answer: bytes) -> None:
        self.answer = answer
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(str(path))
        self.listening.listen()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        connection, _ = self.listening.accept()
        data = b""
        while not data.endswith(b"BEGIN\r\n"):
            data += connection.recv(1)
        assert data == b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
        connection.sendall(self.answer)
        parser = Parser()
        while data := connection.recv(4096):
            parser.add_data(data)
            while (call := parser.get_next_message()) is not None:
                member = call.header.fields[jeepney.HeaderFields.member]
                if member == "Go":
                    connection.close()
                    return
                for number, reply in enumerate(self.replies(member, call)):
                    connection.sendall(reply.serialise(serial=number + 7))

    def replies(self, member: str, call: Message) -> list[Message]:
        if member == "Fail":
            return [jeepney.new_error(call, "a.b.Failed", "s", ("it did not",))]
        told = jeepney.new_signal(jeepney.DBusAddress("/x", interface="a.b"), "Told", "us", (5, "done"))
        return [*([told] if member == "Told" else []), jeepney.new_method_return(call, "i", (sum(call.body),))]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def test_a_method_is_called_and_answers(path: Path) -> None:
    Server(path, b"DATA\r\nOK 0123\r\n")
    with Bus(str(path)) as bus:
        assert bus.call("/x", "a.b", "Add", "ii", 40, 2) == [42]
        with pytest.raises(BusError, match="Fail: it did not") as caught:
            bus.call("/x", "a.b", "Fail")
        assert caught.value.name == "a.b.Failed"
        assert bus.call("/x", "a.b", "Told", "i", 1) == [1]
        assert bus.wait_signal("Told", lambda values: values[0] == 5) == [5, "done"]
        with pytest.raises(BusError, match="closed"):
            bus.call("/x", "a.b", "Go")


def test_who_is_refused_is_told(path: Path) -> None:
    Server(path, b"REJECTED EXTERNAL\r\n")
    with pytest.raises(BusError, match="refused"):
        Bus(str(path))


def test_the_path_in_an_address() -> None:
    assert address_path("unix:path=/run/user/1000/bus,guid=12") == "/run/user/1000/bus"
    assert address_path("tcp:host=x;unix:guid=1,path=/a%20b") == "/a b"
    assert address_path("unix:abstract=/x") == address_path("") == ""
