"""virtio-vsock: a guest's side with ports and credit, against sockets of the host."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import AREA, EVENT_IDX, PACKED, VERSION_1, Driver, until

from minivm.devices.virtio import vsock_stream as vs
from minivm.devices.virtio.vsock import FIRST_PORT, Vsock
from minivm.machine import host
from minivm.machine.connector import start

CID, MAXIMUM, MANY = 42, 0xFFFFFFFF, 2000


class Guest(Driver):
    """A driver of the device, and packets."""

    def __init__(self, directory, features=VERSION_1 | EVENT_IDX, buffers=16, connector=False):
        self.path = os.path.join(directory, "v")
        self.listener = host.listen(self.path)
        self.connector = start(self.path) if connector else None
        end = self.connector.end if self.connector else None
        super().__init__(Vsock(CID, self.path, self.listener, end), features, size=32)
        for _ in range(buffers):
            self.supply()

    def close(self):
        super().close()
        host.unlisten(self.listener, self.path)
        if self.connector:
            self.connector.stop()

    def supply(self):
        self.offer([4096], 0)
        self.rings[0].enable()
        self.notify(0)

    def say(self, op, port, peer, data=b"", flags=0, buffer=1 << 20, passed_on=0, cid=CID, target=2, length=None, kind=1):
        length = len(data) if length is None else length
        head = vs.HEADER.pack(cid, target, peer, port, length, kind, op, flags, buffer, passed_on)
        self.ask([head, data] if data else [head], 1)

    def hear(self):
        """Return the next packet: (op, the host's port, the guest's port, flags, data, fwd_cnt)."""
        _, written, (data,) = self.wait(0)
        self.supply()
        source, target, port, peer, length, kind, op, flags, buffer, passed_on = vs.HEADER.unpack_from(data)
        assert (source, target, kind, written) == (2, CID, 1, vs.HEADER.size + length) and buffer == vs.BUFFER
        return op, port, peer, flags, data[vs.HEADER.size : written], passed_on

    def client(self, line):
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(10)
        end.connect(self.path)
        end.sendall(line)
        return end

    def joined(self, peer=52):
        """Return (a client of the host that is joined to the guest's port, its own port)."""
        end = self.client(f"CONNECT {peer}\n".encode())
        op, port, got, *_ = self.hear()
        assert (op, got) == (vs.REQUEST, peer)
        self.say(vs.RESPONSE, port, peer)
        assert end.recv(100) == f"OK {port}\n".encode()
        return end, port


@pytest.fixture(params=[VERSION_1 | EVENT_IDX, VERSION_1 | PACKED])
def guest(tmp_path, request):
    with Guest(tmp_path, request.param) as guest:
        yield guest


@pytest.fixture(params=[False, True], ids=["itself", "connector"])
def caller(tmp_path, request):
    """A guest whose connections are made by its own process, or by the connector."""
    with Guest(tmp_path, connector=request.param) as guest:
        yield guest


@pytest.fixture
def jailed(tmp_path):
    """The same, by the connector alone."""
    with Guest(tmp_path, connector=True) as guest:
        yield guest


def service(guest, port, backlog=128):
    """A program of the host that listens at a port."""
    listener = socket.socket(socket.AF_UNIX)
    listener.settimeout(10)
    listener.bind(f"{guest.path}_{port}")
    listener.listen(backlog)
    return listener


def test_the_guest_is_told_its_address(guest):
    assert guest.read(0x100, 8) == CID


def test_a_client_of_the_host_is_joined_to_a_port_of_the_guest(guest):
    end, port = guest.joined()
    with end:
        end.sendall(b"question")
        assert guest.hear()[:5] == (vs.RW, port, 52, 0, b"question")
        guest.say(vs.RW, port, 52, b"answer")
        assert end.recv(100) == b"answer"


def test_a_port_where_nobody_listens_closes_the_client(guest):
    with guest.client(b"CONNECT 9\n") as end:
        _, port, *_ = guest.hear()
        guest.say(vs.RST, port, 9)
        assert end.recv(100) == b""


def test_a_client_that_leaves_before_the_guest_has_answered_is_forgotten(guest):
    with guest.client(b"CONNECT 9\n") as end:
        _, port, *_ = guest.hear()
        end.shutdown(socket.SHUT_WR)  # it has no more to say, and still waits
        time.sleep(0.05)
        assert guest.collect(0) is None
    assert guest.hear()[:3] == (vs.RST, port, 9)
    until(lambda: not guest.device._by_fd)


@pytest.mark.parametrize("line", [b"HELLO 5\n", b"CONNECT x\n", b"CONNECT\n", b"CONNECT 99999999999\n", b"C" * 40, b"\n"])
def test_other_words_close_the_client(guest, line):
    with guest.client(line) as end:
        try:
            assert end.recv(100) == b""
        except ConnectionResetError:
            pass  # closed before all of it was read


def test_a_program_of_the_guest_reaches_one_of_the_host(caller):
    with service(caller, 1234) as listener:
        caller.say(vs.REQUEST, 1234, 77)
        with listener.accept()[0] as end:
            assert caller.hear()[:3] == (vs.RESPONSE, 1234, 77)
            caller.say(vs.RW, 1234, 77, b"hello")
            assert end.recv(10) == b"hello"
            end.sendall(b"hello yourself")
            assert caller.hear()[:5] == (vs.RW, 1234, 77, 0, b"hello yourself")


def test_where_nobody_listens_the_guest_is_refused(caller):
    caller.say(vs.REQUEST, 1235, 77)
    assert caller.hear()[:3] == (vs.RST, 1235, 77)


@contextlib.contextmanager
def no_descriptor_free():
    """Let this process have no more descriptors than it has."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_guest_that_connects_when_no_descriptor_is_free_is_refused_and_goes_on(caller):
    with service(caller, 1236) as listener:
        with no_descriptor_free():
            caller.say(vs.REQUEST, 1236, 77)
            assert caller.hear()[:3] == (vs.RST, 1236, 77)
        caller.say(vs.REQUEST, 1236, 78)
        assert caller.hear()[:3] == (vs.RESPONSE, 1236, 78)
        listener.accept()[0].close()


def test_a_client_for_whom_no_descriptor_is_free_waits_for_one_and_costs_no_time(guest, monkeypatch):
    end, port = guest.joined()
    calls, serve = [], guest.device.serve_descriptor
    monkeypatch.setattr(guest.device, "serve_descriptor", lambda fd, events: (calls.append(fd), serve(fd, events)))
    late = socket.socket(socket.AF_UNIX)
    late.settimeout(10)
    with end, late, no_descriptor_free():
        late.connect(guest.path)
        late.sendall(b"CONNECT 60\n")
        until(lambda: calls)
        time.sleep(0.05)
        assert len(calls) < 10, "the loop sleeps though somebody waits at the listener"
        guest.say(vs.RST, port, 52)  # whose descriptor is free now
        assert guest.hear()[::2][:2] == (vs.REQUEST, 60)


def test_a_program_that_takes_nobody_in_is_not_waited_for(caller):
    with service(caller, 1238, backlog=0) as full, service(caller, 1239):
        with socket.socket(socket.AF_UNIX) as first:
            first.connect(full.getsockname())
            caller.say(vs.REQUEST, 1238, 77)
            assert caller.hear()[:3] == (vs.RST, 1238, 77)
        caller.say(vs.REQUEST, 1239, 77)
        assert caller.hear()[:3] == (vs.RESPONSE, 1239, 77)


@contextlib.contextmanager
def halted(guest):
    """Let the connector do nothing for a while."""
    pid = guest.connector.pid
    os.kill(pid, signal.SIGSTOP)
    until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("thinks_better", ["reset", "other", "driver"])
def test_a_guest_that_does_not_wait_for_the_connector_is_not_connected(jailed, thinks_better):
    with service(jailed, 1240) as listener:
        with halted(jailed):
            jailed.say(vs.REQUEST, 1240, 77)
            if thinks_better == "driver":
                jailed.write(0x70, 0)
                jailed.memory.bytes[AREA : 4 * AREA] = bytes(3 * AREA)  # else the request of before stands in the ring again
                jailed.negotiate(jailed.features)
                jailed.memory.bytes[AREA : AREA * (1 + len(jailed.queues))] = bytes(AREA * len(jailed.queues))  # or it asks again
                jailed.rings = {number: jailed.set_up(number) for number in jailed.queues}
                jailed.write(0x70, 15)
                for _ in range(16):
                    jailed.supply()
            else:
                jailed.say({"reset": vs.RST, "other": vs.RW}[thinks_better], 1240, 77)
            if thinks_better == "other":
                assert jailed.hear()[:3] == (vs.RST, 1240, 77)
        with listener.accept()[0] as end:
            end.settimeout(10)
            assert end.recv(10) == b"" and jailed.collect(0) is None and not jailed.device._by_fd
        jailed.say(vs.REQUEST, 1240, 77)
        assert jailed.hear()[:3] == (vs.RESPONSE, 1240, 77)


def test_a_guest_that_asks_thousands_of_times_at_once_has_no_more_answered_than_it_may_hold(jailed):
    """Each answer is a descriptor, and each question is kept: so they count, and what is too much is refused at once."""
    jailed.device.most, refused, made = 150, 0, 0
    with service(jailed, 1241) as listener:
        with halted(jailed):
            for peer in range(MANY):
                jailed.say(vs.REQUEST, 1241, peer)
                while answer := jailed.collect(0):
                    jailed.supply()
                    assert vs.HEADER.unpack_from(answer[2][0])[6] == vs.RST
                    refused += 1
            assert len(jailed.device._calls) <= 150
            waiting = len(jailed.device._calls)
            refused += sum(1 for _ in range(MANY - waiting - refused) if jailed.hear()[0] == vs.RST)
        assert refused == MANY - waiting and waiting > 100
        listener.setblocking(False)
        ends = []
        while made < waiting:
            with contextlib.suppress(BlockingIOError):
                ends.append(listener.accept()[0])
            if answer := jailed.collect(0):
                jailed.supply()
                op = vs.HEADER.unpack_from(answer[2][0])[6]
                made, refused = made + 1, refused + (op == vs.RST)
        assert len(jailed.device._by_fd) == MANY - refused <= 150
        for end in ends:
            end.close()


def test_where_the_connector_is_gone_the_guest_is_refused_and_nothing_spins(jailed, monkeypatch):
    calls, serve = [], jailed.device.serve_descriptor
    monkeypatch.setattr(jailed.device, "serve_descriptor", lambda fd, events: (calls.append(fd), serve(fd, events)))
    with service(jailed, 1242):
        with halted(jailed):
            jailed.say(vs.REQUEST, 1242, 77)
            os.kill(jailed.connector.pid, signal.SIGKILL)
        assert jailed.hear()[:3] == (vs.RST, 1242, 77)
        jailed.say(vs.REQUEST, 1242, 78)
        assert jailed.hear()[:3] == (vs.RST, 1242, 78)
        until(lambda: jailed.device._calls.fd < 0)
        assert len(calls) < 10


def test_a_client_of_the_host_does_not_get_a_port_that_the_guest_is_being_connected_to(jailed):
    with service(jailed, FIRST_PORT), halted(jailed):
        jailed.say(vs.REQUEST, FIRST_PORT, 52)
        with jailed.client(b"CONNECT 52\n"):
            assert jailed.hear()[:3] == (vs.REQUEST, FIRST_PORT + 1, 52)


def test_half_of_the_processs_descriptors_are_not_the_guests_to_use_up(tmp_path):
    """The console's ports and the control socket want some too."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(before[0], 200), before[1]))
    try:
        with Guest(tmp_path) as guest, service(guest, 1237):
            for peer in range(100):
                guest.say(vs.REQUEST, 1237, peer)
                assert guest.hear()[:3] == (vs.RESPONSE, 1237, peer)
            guest.say(vs.REQUEST, 1237, 100)
            assert guest.hear()[:3] == (vs.RST, 1237, 100)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_host_sends_no_more_than_the_guest_has_room_for(guest):
    end, port = guest.joined()
    with end:
        guest.say(vs.CREDIT_UPDATE, port, 52, buffer=100)
        end.sendall(b"x" * 250)
        assert guest.hear()[4] == b"x" * 100
        time.sleep(0.05)
        assert guest.collect(0) is None, "the guest has room for 100 bytes and has passed none on"
        guest.say(vs.CREDIT_UPDATE, port, 52, buffer=100, passed_on=60)
        assert guest.hear()[4] == b"x" * 60


def test_the_host_is_read_though_the_guest_was_just_told_of_room(guest):
    """Buffers are there all the time, so that no notification comes that would have the host's socket looked at again."""
    end, port = guest.joined()
    with end:
        sent = end.makefile("rb")
        for _ in range(3):
            for _ in range(2):
                guest.say(vs.RW, port, 52, b"d" * 40_000)
            assert sent.read(80_000) == b"d" * 80_000
            assert vs.HEADER.unpack_from(guest.wait(0)[2][0])[6] == vs.CREDIT_UPDATE
            end.sendall(b"more")
            assert guest.wait(0)[2][0][vs.HEADER.size :].startswith(b"more")


def test_a_guest_that_sends_more_than_there_is_room_for_is_cut_off(guest):
    end, port = guest.joined()
    with end:
        sent = 0
        while sent <= 2 * vs.BUFFER + (4 << 20):
            guest.say(vs.RW, port, 52, b"y" * 60_000)
            sent += 60_000
            if got := guest.collect(0):
                assert vs.HEADER.unpack_from(got[2][0])[6] in (vs.RST, vs.CREDIT_UPDATE)
                if vs.HEADER.unpack_from(got[2][0])[6] == vs.RST:
                    return
    raise AssertionError("it was never cut off")


def test_all_that_was_sent_arrives_and_then_the_end(guest):
    """Half a connection is closed, then the other half."""
    end, port = guest.joined()
    with end:
        guest.say(vs.RW, port, 52, b"last words")
        guest.say(vs.SHUTDOWN, port, 52, flags=vs.NO_SEND)
        assert end.recv(100) == b"last words" and end.recv(100) == b""
        end.sendall(b"still heard")
        assert guest.hear()[4] == b"still heard"
        end.close()
        assert guest.hear()[:4] == (vs.SHUTDOWN, port, 52, vs.NO_SEND)
        guest.say(vs.SHUTDOWN, port, 52, flags=vs.NO_SEND | vs.NO_RECEIVE)
        assert guest.hear()[0] == vs.RST


def test_a_reset_of_the_device_closes_everything(guest):
    end, _ = guest.joined()
    with end:
        guest.write(0x70, 0)
        guest.negotiate(guest.features)
        guest.rings = {number: guest.set_up(number) for number in guest.queues}
        guest.write(0x70, 15)
        assert end.recv(10) == b""


def test_a_stream_of_megabytes_keeps_its_order_both_ways(guest):
    end, port = guest.joined()
    data = os.urandom(1 << 20)
    got, echoed = bytearray(), bytearray()

    def echo():
        while len(echoed) < len(data):
            piece = end.recv(1 << 16)
            echoed.extend(piece)
            end.sendall(piece)

    thread = threading.Thread(target=echo)
    thread.start()
    sent = passed_on = 0
    while len(got) < len(data):
        if sent < len(data) and sent - passed_on < vs.BUFFER - 20_000:
            guest.say(vs.RW, port, 52, data[sent : sent + 20_000], passed_on=len(got))
            sent += len(data[sent : sent + 20_000])
        while received := guest.collect(0):
            guest.supply()
            fields = vs.HEADER.unpack_from(received[2][0])
            passed_on = fields[9]
            if fields[6] == vs.RW:
                got += received[2][0][vs.HEADER.size : received[1]]
    thread.join(10)
    end.close()
    assert bytes(echoed) == data and bytes(got) == data


def test_a_client_that_hangs_up_while_the_guest_has_no_room_costs_no_time(guest):
    end, port = guest.joined()
    guest.say(vs.CREDIT_UPDATE, port, 52, buffer=0)
    end.sendall(b"z" * 100)
    end.close()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.1, "the loop sleeps though the socket says that it was hung up"
    guest.say(vs.CREDIT_UPDATE, port, 52, buffer=1000)
    assert guest.hear()[4] == b"z" * 100 and guest.hear()[0] == vs.SHUTDOWN


PORTS = st.sampled_from([0, 1, 52, 1 << 30, (1 << 30) + 1, MAXIMUM])
PACKETS = st.lists(
    st.one_of(
        st.fixed_dictionaries({
            "op": st.integers(0, 9), "port": PORTS, "peer": PORTS, "data": st.binary(max_size=40), "flags": st.integers(0, 7),
            "buffer": st.sampled_from([0, 1, 4096, MAXIMUM]), "passed_on": st.sampled_from([0, 5, MAXIMUM]),
            "cid": st.sampled_from([CID, CID, 2, 0]), "target": st.sampled_from([2, 2, 1]),
            "length": st.sampled_from([None, None, 0, MAXIMUM]), "kind": st.sampled_from([1, 1, 2]),
        }),
        st.binary(min_size=1, max_size=60),
        st.just("connect"),
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(PACKETS, st.booleans())
def test_no_packet_does_harm(tmp_path_factory, packets, connector):
    clients = []
    with Guest(tmp_path_factory.mktemp("v"), connector=connector) as guest:
        for packet in packets:
            if packet == "connect":
                clients.append(guest.client(b"CONNECT 52\nmore"))
            elif isinstance(packet, bytes):
                guest.ask([packet], 1)
            else:
                guest.say(**packet)
            while guest.collect(0):
                guest.supply()
        until(lambda: guest.ask([b"?"], 1)[0] == 0 and not guest.read(0x70) & 0x40)
        assert len(guest.device._by_fd) == len(guest.device._streams) <= len(clients) + len(packets)
    for client in clients:
        client.close()
