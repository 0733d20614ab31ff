"""virtio-net: packets between a driver and the host's end.

A pair of datagram sockets has a tap's manners, a pair of streams passt's.
"""

from __future__ import annotations

import os
import socket
import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import EVENT_IDX, INDIRECT, PACKED, VERSION_1, Driver, until

from minivm.devices.virtio import net
from minivm.devices.virtio.net import Net

MAC = bytes.fromhex("020102030405")
HEADER = bytes(12)
MRG = net.F_MRG_RXBUF
KINDS = st.sampled_from([VERSION_1 | a | b | c for a in (0, EVENT_IDX | INDIRECT) for b in (0, PACKED) for c in (0, MRG)])
FRAMES = st.lists(st.integers(15, 3000).map(os.urandom), min_size=1, max_size=12)


class Card(Driver):
    """A driver of a card, with the host's end of its cable."""

    def __init__(self, kind, features=VERSION_1 | EVENT_IDX | MRG, **more):
        ours, self.host = socket.socketpair(socket.AF_UNIX, kind)
        ours.setblocking(False)
        self.host.settimeout(10)
        self.told, self.ours = [], ours
        limits = more.pop("limits", (0, 0, 0, 0))
        offload = (lambda *what: self.told.append(what)) if kind == socket.SOCK_DGRAM else None
        device = Net(ours.fileno(), MAC, offload, limits)
        super().__init__(device, features, **more)
        device.changed = self.mmio.changed

    def close(self):
        super().close()
        self.ours.close()
        self.host.close()

    def send(self, frame, header=HEADER):
        self.ask([header + frame], 1)

    def receive(self):
        """Return the next packet's (header, frame), put together from as many buffers as its header says."""
        _, written, (data,) = self.wait(0)
        (count,) = struct.unpack_from("<H", data, 10)
        whole = data[:written]
        for _ in range(count - 1):
            got = self.collect(0)
            assert got, "all buffers of a packet appear at once"
            whole += got[2][0][: got[1]]
        return whole[:12], whole[12:]

    def supply(self, size, count=1):
        """Give the device buffers for packets."""
        for _ in range(count):
            assert self.offer([size], 0) is not None
        self.rings[0].enable()
        self.notify(0)


@pytest.fixture(params=[VERSION_1 | MRG, VERSION_1 | EVENT_IDX | PACKED | MRG, VERSION_1 | EVENT_IDX])
def tap(request):
    with Card(socket.SOCK_DGRAM, request.param, size=64) as card:
        yield card


def stream(frame):
    return struct.pack(">I", len(frame)) + frame


def read_stream(host):
    (length,) = struct.unpack(">I", read(host, 4))
    return read(host, length)


def read(host, length):
    data = b""
    while len(data) < length:
        data += host.recv(length - len(data))
    return data


def test_a_packet_goes_to_the_tap_as_it_is(tap):
    header, frame = bytes(range(12)), os.urandom(1514)
    tap.send(frame, header)
    assert tap.host.recv(2000) == header + frame


def test_a_packet_from_the_tap_fills_a_buffer_and_says_that_it_is_one(tap):
    tap.supply(2000)
    tap.host.send(bytes(10) + b"\xff\xff" + b"f" * 100)
    header, frame = tap.receive()
    assert header == bytes(10) + b"\1\0" and frame == b"f" * 100


@pytest.mark.parametrize("packed", [0, PACKED])
def test_a_large_packet_takes_several_buffers(packed):
    with Card(socket.SOCK_DGRAM, VERSION_1 | EVENT_IDX | MRG | packed, size=64) as card:
        card.supply(1526, 60)
        frame = os.urandom(60_000)
        card.host.send(HEADER + frame)
        header, got = card.receive()
        assert header[10:] == struct.pack("<H", -(-60_012 // 1526)) and got == frame


def test_a_packet_that_no_buffer_can_hold_is_dropped_and_the_next_one_comes():
    with Card(socket.SOCK_DGRAM, VERSION_1) as card:
        card.supply(100, 2)
        card.host.send(HEADER + b"x" * 500)
        card.host.send(HEADER + b"y" * 50)
        assert card.receive()[1] == b"y" * 50


def test_packets_wait_for_buffers():
    with Card(socket.SOCK_DGRAM) as card:
        card.host.send(HEADER + b"a" * 50)
        time.sleep(0.05)
        assert card.collect(0) is None
        card.supply(1526, 2)
        assert card.receive()[1] == b"a" * 50


def test_the_tap_is_told_what_the_driver_accepts():
    with Card(socket.SOCK_DGRAM, VERSION_1 | net.F_GUEST_CSUM | net.F_GUEST_TSO4) as card:
        assert card.told == [(True, True, False, 12)]
        assert card.read(0x100, 4) == int.from_bytes(MAC[:4], "little") and card.read(0x106, 2) == 1


@settings(max_examples=40, deadline=None)
@given(KINDS, FRAMES)
def test_frames_pass_through_a_stream_whole_and_in_order_both_ways(features, frames):
    with Card(socket.SOCK_STREAM, features, size=32) as card:
        assert not card.offered & net.OFFLOADS
        for frame in frames:
            card.supply(3100)
            card.host.sendall(stream(frame))
            card.send(frame)
        for frame in frames:
            assert card.receive()[1] == frame
            assert read_stream(card.host) == frame


def test_a_socket_that_is_full_holds_frames_back_and_loses_none():
    with Card(socket.SOCK_STREAM, size=64) as card:
        card.ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        frames = [bytes((number,)) * 5000 for number in range(40)]
        for frame in frames:
            card.offer([HEADER + frame], 1)
        card.notify(1)
        assert [read_stream(card.host) for _ in frames] == frames
        until(lambda: card.rings[1].get() is None)


def test_when_passt_is_gone_the_cable_is_out():
    with Card(socket.SOCK_STREAM) as card:
        card.supply(2000)
        card.host.shutdown(socket.SHUT_RDWR)
        until(lambda: card.read(0x106, 2) == 0)
        assert card.read(0x60) & 2 and card.read(0xFC) == 1


def test_a_length_that_is_none_is_not_believed():
    with Card(socket.SOCK_STREAM) as card:
        card.supply(2000)
        card.host.sendall(b"\xff\xff\xff\xff" + bytes(100))
        until(lambda: card.read(0x106, 2) == 0)


@pytest.mark.parametrize("parts", [[HEADER], [HEADER + b"short"], [HEADER + bytes(65_000), bytes(65_000)]])
def test_what_is_no_packet_is_dropped(tap, parts):
    tap.ask(parts, 1)
    tap.send(b"z" * 60)
    assert tap.host.recv(2000) == HEADER + b"z" * 60


def test_a_buffer_without_room_for_a_header_breaks_the_rules():
    for parts in ([11], [b"to read", 2000]):
        with Card(socket.SOCK_DGRAM) as card:
            card.offer(parts, 0)
            card.notify(0)
            card.host.send(HEADER + b"x" * 60)
            until(lambda card=card: card.read(0x70) & 0x40)


def test_a_reset_gives_all_buffers_back():
    with Card(socket.SOCK_DGRAM, VERSION_1 | MRG) as card:
        card.supply(1526, 8)
        card.host.send(HEADER + b"a" * 40)
        card.receive()
        before = bytes(card.memory.bytes)
        card.write(0x70, 0)
        for _ in range(3):
            card.host.send(HEADER + b"b" * 40)
        time.sleep(0.05)
        assert bytes(card.memory.bytes) == before, "nothing is written to them any more"


def test_a_rate_limit_holds_in_the_mean():
    """10,000 bytes a second after a burst of 1000: 2000 bytes and what was spent too much need 100 ms more."""
    with Card(socket.SOCK_DGRAM, limits=(0, 0, 1000, 100_000_000)) as card:
        begin = time.monotonic()
        for _ in range(20):
            card.send(b"l" * 88)
        assert time.monotonic() - begin >= 0.08
