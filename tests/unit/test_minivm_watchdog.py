"""The watchdog: it bites who is silent, and nobody else."""

from __future__ import annotations

import contextlib
import struct
import threading
import time

import pytest

from minivm.boot import acpi, wdat
from minivm.devices.watchdog import BASE, CONTROL, COUNTDOWN, RESET, Watchdog
from minivm.machine.config import Config
from minivm.machine.machine import Machine
from minivm.machine.prepare import prepare

LIMIT = 20


@contextlib.contextmanager
def counting(held=lambda: False):
    """Yield a watchdog that counts, and what it has said."""
    said, watchdog = [], None
    watchdog = Watchdog(said.append, held)
    thread = threading.Thread(target=watchdog.run)
    thread.start()
    try:
        yield watchdog, said
    finally:
        watchdog.stop()
        thread.join(LIMIT)
        assert not thread.is_alive()


def until(what):
    end = time.monotonic() + LIMIT
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_silence_is_told_once_with_its_length():
    with counting() as (watchdog, said):
        watchdog.write(COUNTDOWN, 2, 2)
        assert watchdog.read(CONTROL, 1) == 0
        watchdog.write(CONTROL, 1, 1)
        until(lambda: said)
        time.sleep(0.4)
        assert said == [0.2] and watchdog.read(CONTROL, 1) == 0


def test_an_access_gets_as_many_bytes_as_it_asks_for():
    watchdog = Watchdog(lambda seconds: None)
    watchdog.write(COUNTDOWN, 2, 0x1234)
    assert [watchdog.read(COUNTDOWN, size) for size in (1, 2, 4)] == [0x34, 0x1234, 0x1234]


def test_who_resets_it_or_stops_it_is_left_alone():
    with counting() as (watchdog, said):
        watchdog.write(COUNTDOWN, 2, 20)
        watchdog.write(CONTROL, 1, 1)
        for _ in range(8):
            time.sleep(0.3)
            watchdog.write(RESET, 1, 1)
        assert not said and 0 < watchdog.read(COUNTDOWN, 2) <= 20
        watchdog.write(COUNTDOWN, 2, 1)
        watchdog.write(CONTROL, 1, 0)
        time.sleep(0.3)
        assert not said and watchdog.read(COUNTDOWN, 2) == 1


def test_it_waits_while_the_guest_cannot_run():
    held = threading.Event()
    held.set()
    with counting(held.is_set) as (watchdog, said):
        watchdog.write(COUNTDOWN, 2, 1)
        watchdog.write(CONTROL, 1, 1)
        time.sleep(0.5)
        assert not said
        held.clear()
        until(lambda: said)


def test_the_tables_actions_lead_to_the_devices_registers():
    """As a driver reads them: an entry an action, each a register of ports of the access' width."""
    body = wdat.body()
    length, period, most, least, flags, count = struct.unpack_from("<I8xIIIB3xI", body)
    assert (length, flags & 1) == (32, 1) and len(body) == 32 + 24 * count and 1 <= least < most <= 0xFFFF and period == 100
    found = {}
    for place in range(32, len(body), 24):
        action, instruction, space, bits, _, access, address, value, mask = struct.unpack_from("<BB2xBBBBQII", body, place)
        assert space == 1 and bits == 8 << access - 1 and mask == (1 << bits) - 1
        found[action] = instruction, address - BASE, value
    assert found[1] == (2, RESET, 1) and found[6][:2] == (3, COUNTDOWN) and found[4][:2] == (1, COUNTDOWN)
    assert (found[9], found[11], found[8]) == ((2, CONTROL, 1), (2, CONTROL, 0), (0, CONTROL, 1))
    pieces, _ = acpi.tables(1, [], True)
    assert {piece.what: sum(piece.data) % 256 for piece in pieces}["ACPI WDAT"] == 0


SILENT = bytes.fromhex("ba1406 b80300 ef ba1006 b001 ee ebfe")  # out 0x614, 3; out 0x610, 1; and round and round


@pytest.mark.timeout(60)
def test_a_guest_that_falls_silent_ends_with_134(tmp_path):
    (tmp_path / "guest").write_bytes(SILENT)
    config = Config(str(tmp_path / "guest"), boot="flat16", memory=1 << 20, watchdog=True)
    with Machine(config, prepare(config)) as machine:
        machine.build()
        outcome = machine.run(None, 30)
    assert (outcome.status, outcome.how) == (134, "watchdog") and "0.3 s" in outcome.reason
