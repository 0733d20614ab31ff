"""A network in user mode: passt behind a card, asked for an address as a guest would."""

from __future__ import annotations

import os
import shutil
import socket
import struct

import pytest
from virtio_driver import EVENT_IDX, VERSION_1, Driver, until

from minivm.devices.virtio.net import F_MRG_RXBUF, Net
from minivm.machine import helpers, host
from minivm.machine.perform import Made

pytestmark = pytest.mark.skipif(shutil.which("passt") is None, reason="passt is not installed")
MAC = bytes.fromhex("525400123456")


class Opened:
    def __init__(self, fds):
        self.made = Made()
        self.made.opened = fds


@pytest.fixture
def card():
    ours, theirs = host.socket_pair()
    helper = helpers.start("passt", Opened([ours, theirs]))
    device = Net(ours, MAC, None)
    with Driver(device, VERSION_1 | EVENT_IDX | F_MRG_RXBUF) as driver:
        device.changed = driver.mmio.changed
        yield driver, helper
    helper.stop()
    os.close(ours)
    os.close(theirs)


def discover():
    """Return an Ethernet frame with a DHCPDISCOVER (RFC 2131)."""
    dhcp = struct.pack("!BBBBIHH16s6s10x192x", 1, 1, 6, 0, 0x1234, 0, 0, bytes(16), MAC) + bytes.fromhex("63825363350101ff")
    udp = struct.pack("!HHHH", 68, 67, 8 + len(dhcp), 0) + dhcp
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    total = sum(struct.unpack("!10H", ip))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return b"\xff" * 6 + MAC + b"\x08\0" + ip[:10] + struct.pack("!H", checksum) + ip[12:] + udp


def replies(driver):
    """Yield the frames that come."""
    while True:
        driver.offer([2000], 0)
        driver.notify(0)
        _, written, (data,) = driver.wait(0)
        yield data[12:written]


def test_passt_offers_an_address(card):
    driver, _ = card
    driver.ask([bytes(12) + discover()], 1)
    for frame in replies(driver):
        if frame[:6] == MAC and frame[12:14] == b"\x08\0" and frame[23] == socket.IPPROTO_UDP:
            assert frame[42] == 2 and frame[46:50] == struct.pack("!I", 0x1234), "a BOOTREPLY to our question"
            assert any(frame[58:62]), "yiaddr"
            return


def test_when_passt_ends_the_link_is_down(card):
    driver, helper = card
    driver.offer([2000], 0)
    driver.notify(0)
    helper.stop()
    until(lambda: driver.read(0x106, 2) == 0)
