"""virtio-console: bytes between a driver and the host's descriptors, and the talk about ports."""

from __future__ import annotations

import os
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import EVENT_IDX, INDIRECT, PACKED, VERSION_1, Driver, until

from minivm.devices.virtio import console as module
from minivm.devices.virtio.console import Console, Port
from minivm.devices.virtio.queue import QueueError
from minivm.machine import host
from minivm.machine.devices import MOST_PORTS

KINDS = st.sampled_from([VERSION_1, VERSION_1 | EVENT_IDX | INDIRECT, VERSION_1 | PACKED, VERSION_1 | PACKED | EVENT_IDX])


class Terminal(Driver):
    """A driver of a console whose output is a pipe."""

    def __init__(self, features=VERSION_1 | EVENT_IDX, ports=(), **more):
        self.reader, self.writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.rooms, self.gone = [], []
        device = Console(self.writer, ports, room=lambda: self.rooms.append(1), gone=lambda: self.gone.append(1), **more)
        super().__init__(device, features | (module.F_MULTIPORT if ports else 0), size=32)

    def close(self):
        super().close()
        os.close(self.reader)
        os.close(self.writer)

    def printed(self, length):
        """Return the next bytes that the guest has printed."""
        data = bytearray()

        def more():
            try:
                data.extend(os.read(self.reader, length - len(data)))
            except BlockingIOError:
                pass
            return len(data) == length

        until(more)
        return bytes(data)

    def typed(self, length, queue=0, size=20):
        """Return the next bytes that arrive, in buffers of `size`."""
        data = b""
        while len(data) < length:
            written, (part,) = self.ask([size], queue)
            data += part[:written]
        return data


def test_there_are_as_many_ports_as_the_flags_say():
    assert module.lib.CONSOLE_PORTS == 1 + MOST_PORTS, "one of them is the console"


@settings(max_examples=40, deadline=None)
@given(KINDS, st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=12), st.integers(1, 100))
def test_what_is_typed_comes_once_and_in_order(features, typed, size):
    with Terminal(features) as terminal:
        for data in typed:
            assert terminal.device.push(data)
        whole = b"".join(typed)
        assert terminal.typed(len(whole), size=size) == whole


@settings(max_examples=40, deadline=None)
@given(KINDS, st.lists(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4), min_size=1, max_size=12))
def test_what_is_printed_comes_once_and_in_order(features, printed):
    with Terminal(features) as terminal:
        for parts in printed:
            assert terminal.ask(parts, 1, indirect=bool(features & INDIRECT))[0] == 0
        whole = b"".join(b"".join(parts) for parts in printed)
        assert terminal.printed(len(whole)) == whole


def test_buffers_that_were_there_before_the_device_went_live_are_used():
    """The driver may fill its queues before DRIVER_OK, must not notify until then (3.1.1), and Linux does not afterwards."""
    device = Console(1)
    with Driver(device, begin=False) as driver:
        device.push(b"early")
        driver.offer([16])
        driver.notify()
        assert driver.collect() is None, "not live yet"
        driver.write(0x70, 1 | 2 | 8 | 4)
        assert driver.wait()[1:] == (5, [b"early" + bytes(11)]) and driver.pulses == 1


def test_a_full_pipe_holds_the_guest_back_and_loses_nothing():
    with Terminal() as terminal:
        sent = os.urandom(200_000)
        for start in range(0, len(sent), 10_000):
            terminal.offer([sent[start : start + 10_000]], 1)
        terminal.notify(1)
        until(lambda: module.lib.console_pending(terminal.mmio.paths[0].c))
        assert terminal.printed(len(sent)) == sent
        until(lambda: not module.lib.console_pending(terminal.mmio.paths[0].c))


def test_the_last_of_it_is_read_by_who_waits_for_it():
    with Terminal() as terminal:
        sent, got = os.urandom(200_000), bytearray()
        for start in range(0, len(sent), 10_000):
            terminal.offer([sent[start : start + 10_000]], 1)
        terminal.notify(1)
        terminal.device.drain(lambda: got.extend(terminal.printed(5000) if len(got) < len(sent) else b""))
        got += terminal.printed(len(sent) - len(got))
        assert bytes(got) == sent


def test_the_host_waits_while_the_guest_does_not_read():
    with Terminal() as terminal:
        sent = os.urandom(200_000)
        assert not terminal.device.push(sent), "more than a pipe holds"
        assert terminal.rooms == []
        assert terminal.typed(len(sent), size=5000) == sent
        until(lambda: terminal.rooms)


def test_nobody_reads_any_more():
    with Terminal() as terminal:
        os.close(terminal.reader)
        terminal.ask([b"hello"], 1)
        until(lambda: terminal.gone)
        terminal.ask([b"the guest goes on"], 1)
        terminal.reader = os.open(os.devnull, os.O_RDONLY)


@pytest.mark.parametrize("parts", [[b"to read"], [b"to read", 20]])
def test_a_buffer_for_input_that_cannot_all_be_written_to_breaks_the_rules(parts):
    with Terminal() as terminal:
        terminal.device.push(b"x")
        terminal.offer(parts, 0)
        terminal.notify(0)
        until(lambda: terminal.read(0x70) & 0x40)
        assert b"to read" in terminal.memory.bytes.tobytes()


def test_a_broken_queue_does_not_hide_what_else_there_is_to_look_at():
    """A client of a port that left in the same moment: nobody would ever be let in again."""
    with Terminal() as terminal:
        (path,), seen, broken = terminal.mmio.paths, [], []

        def look(source):
            seen.append(source)
            if source == module.CONTROL_OUT:
                raise QueueError("a rule was broken")

        path._look, path.broken = look, lambda: broken.append(True)
        path._look_at(1 << module.CONTROL_OUT | 1 << module.lib.SOURCE_FD + 1)
        assert seen == [module.CONTROL_OUT, module.lib.SOURCE_FD + 1] and broken == [True]


# --- ports ---


class Ports(Terminal):
    """A console with one more port; the driver's side of the control queues."""

    def __init__(self, tmp_path, **more):
        self.path = str(tmp_path / "agent")
        self.listener = host.listen(self.path)
        super().__init__(ports=[Port("org.x.agent", self.listener)], **more)

    def close(self):
        super().close()
        host.unlisten(self.listener, self.path)

    def tell(self, number, event, value):
        self.ask([struct.pack("<IHH", number, event, value)], 3)

    def hear(self):
        """Return the next message: (port, event, value, name)."""
        written, (data,) = self.ask([64], 2)
        return *struct.unpack_from("<IHH", data), data[8:written]

    def introduced(self):
        self.tell(0, module.DEVICE_READY, 1)
        assert [self.hear()[:2] for _ in range(2)] == [(0, module.PORT_ADD), (1, module.PORT_ADD)]

    def connect(self):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.settimeout(10)
        client.connect(self.path)
        return client


@pytest.fixture
def ports(tmp_path):
    with Ports(tmp_path) as ports:
        ports.introduced()
        yield ports


def test_ports_are_named_and_the_first_is_a_console(ports):
    assert ports.read(0x104) == 2
    ports.tell(0, module.PORT_READY, 1)
    assert [ports.hear()[:3] for _ in range(2)] == [(0, module.CONSOLE_PORT, 1), (0, module.PORT_OPEN, 1)]
    ports.tell(1, module.PORT_READY, 1)
    assert ports.hear() == (1, module.PORT_NAME, 1, b"org.x.agent")
    assert ports.hear()[:3] == (1, module.PORT_OPEN, 0)


def test_a_terminal_tells_its_size(tmp_path):
    with Ports(tmp_path, size=(132, 43)) as ports:
        ports.introduced()
        ports.tell(0, module.PORT_READY, 1)
        ports.hear()
        assert ports.hear() == (0, module.RESIZE, 0, struct.pack("<HH", 43, 132))
        assert ports.read(0x100) == 43 << 16 | 132


def test_who_connects_talks_to_the_guest_once_it_has_opened_the_port(ports):
    with ports.connect() as client:
        assert ports.hear()[:3] == (1, module.PORT_OPEN, 1)
        client.sendall(b"question")
        assert ports.offer([16], 4) is not None
        ports.notify(4)
        assert ports.collect(4) is None, "no program has it open"
        ports.tell(1, module.PORT_OPEN, 1)
        assert ports.wait(4)[1:] == (8, [b"question" + bytes(8)])
        ports.ask([b"an", b"swer"], 5)
        assert client.recv(6) == b"answer"


def test_one_after_the_other(ports):
    with ports.connect() as first, ports.connect() as second:
        assert ports.hear()[:3] == (1, module.PORT_OPEN, 1)
        ports.tell(1, module.PORT_OPEN, 1)
        ports.offer([16], 4)
        ports.notify(4)
        first.close()
        assert [ports.hear()[:3] for _ in range(2)] == [(1, module.PORT_OPEN, 0), (1, module.PORT_OPEN, 1)]
        second.sendall(b"second")
        assert ports.wait(4)[1] == 6


def test_what_is_printed_to_nobody_is_lost_and_the_guest_goes_on(ports):
    assert ports.ask([b"hello"], 5) == (0, [])


MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 2)).map(lambda m: struct.pack("<IHH", *m)),
        st.binary(min_size=1, max_size=12),
    ),
    max_size=100,
)


@settings(max_examples=30, deadline=None)
@given(MESSAGES)
def test_no_message_does_harm(tmp_path_factory, messages):
    with Ports(tmp_path_factory.mktemp("ports")) as ports:
        for message in messages:
            ports.ask([message], 3)
        assert len(ports.device._messages) <= module.MOST_MESSAGES
        assert ports.ask([b"still there"], 1)[0] == 0 and ports.printed(11) == b"still there"
