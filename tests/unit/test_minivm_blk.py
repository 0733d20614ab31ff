"""virtio-blk: what the file holds after what a driver asked."""

from __future__ import annotations

import os
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from virtio_driver import EVENT_IDX, INDIRECT, PACKED, VERSION_1, Driver, OldDriver

from minivm.devices.virtio import blk
from minivm.devices.virtio.blk import Blk
from minivm.errors import MinivmError
from minivm.machine.overlay import Overlay

MIB = 1 << 20
KINDS = [VERSION_1, VERSION_1 | EVENT_IDX | INDIRECT, VERSION_1 | PACKED, VERSION_1 | PACKED | EVENT_IDX | INDIRECT]


@pytest.fixture
def disk(tmp_path):
    fd = os.open(tmp_path / "disk", os.O_RDWR | os.O_CREAT)
    os.truncate(fd, MIB)
    yield fd
    os.close(fd)


@pytest.fixture
def driver(disk):
    with Driver(Blk(disk, MIB)) as driver:
        yield driver


def head(kind, sector=0):
    return struct.pack("<IIQ", kind, 0, sector)


@pytest.mark.parametrize("features", KINDS)
def test_what_is_written_is_in_the_file_and_read_back(disk, features):
    data = os.urandom(1024)
    with Driver(Blk(disk, MIB), features) as driver:
        assert driver.ask([head(blk.WRITE, 3), data[:512], data[512:], 1]) == (1, [b"\0"])
        assert os.pread(disk, 1024, 3 * 512) == data
        parts = [head(blk.READ, 3), 512, 512, 1]
        assert driver.ask(parts, indirect=bool(features & INDIRECT)) == (1025, [data[:512], data[512:], b"\0"])
        assert driver.ask([head(blk.FLUSH), 1]) == (1, [b"\0"])


def test_how_the_driver_divides_its_buffers_is_its_own_affair(disk, driver):
    """2.7.4.1: header in two parts, data and status in one."""
    os.pwrite(disk, b"D" * 512, 512)
    assert driver.ask([head(blk.READ, 1)[:5], head(blk.READ, 1)[5:], 513]) == (513, [b"D" * 512 + b"\0"])


def test_discarded_sectors_read_as_zeroes_and_take_no_room(disk, driver):
    os.pwrite(disk, b"x" * MIB, 0)
    before = os.fstat(disk).st_blocks
    assert driver.ask([head(blk.DISCARD), struct.pack("<QII", 8, 1024, 0), 1]) == (1, [b"\0"])
    assert os.pread(disk, 512 << 10, 4096) == bytes(512 << 10) and os.pread(disk, 4096, 0) == b"x" * 4096
    assert os.fstat(disk).st_blocks < before and os.fstat(disk).st_size == MIB


@pytest.mark.parametrize("flags", [0, 1])
def test_zeroes_are_written_exactly_where_they_are_asked_for(disk, driver, flags):
    os.pwrite(disk, b"x" * MIB, 0)
    ranges = struct.pack("<QIIQII", 3, 5, flags, 100, 1, flags)
    assert driver.ask([head(blk.WRITE_ZEROES), ranges, 1]) == (1, [b"\0"])
    expected = bytearray(b"x" * MIB)
    expected[3 * 512 : 8 * 512] = bytes(5 * 512)
    expected[100 * 512 : 101 * 512] = bytes(512)
    assert os.pread(disk, MIB, 0) == expected


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ([head(blk.READ, 2048), 512, 1], 1),
        ([head(blk.READ, (1 << 64) - 1), 512, 1], 1),
        ([head(blk.READ), 511, 1], 1),
        ([head(blk.WRITE, 2047), bytes(1024), 1], 1),
        ([head(blk.DISCARD), struct.pack("<QII", 2047, 2, 0), 1], 1),
        ([head(blk.DISCARD), struct.pack("<QII", (1 << 64) - 1, 2, 0), 1], 1),
        ([head(blk.DISCARD), struct.pack("<QII", 0, 1, 1), 1], 2),
        ([head(blk.WRITE_ZEROES), struct.pack("<QII", 0, 0xFFFFFFFF, 0), 1], 1),
        ([head(blk.WRITE_ZEROES), bytes(15), 1], 1),
        ([head(99), 1], 2),
    ],
)
def test_what_lies_outside_of_the_disk_is_an_error(disk, driver, parts, code):
    assert driver.ask(parts)[1][-1] == bytes((code,))
    assert os.fstat(disk).st_size == MIB


def test_a_read_only_disk_stays_as_it_is(disk):
    with Driver(Blk(disk, MIB, read_only=True)) as driver:
        for kind in (blk.WRITE, blk.DISCARD, blk.WRITE_ZEROES):
            assert driver.ask([head(kind), struct.pack("<QII", 0, 1, 0) * 32, 1])[1] == [b"\1"]
        assert os.pread(disk, 512, 0) == bytes(512)
        assert driver.offered & blk.F_RO


def test_the_capacity_and_the_name_are_told(disk):
    with Driver(Blk(disk, MIB + 100, serial="a-name", queues=3)) as driver:
        assert driver.read(0x100, 8) == 2048, "whole sectors"
        assert driver.offered & blk.F_MQ and driver.read(0x122, 2) == 3
        assert driver.ask([head(blk.GET_ID), 20, 1], 2) == (21, [b"a-name".ljust(20, b"\0"), b"\0"])


def test_a_rate_limit_holds_in_the_mean_and_lets_a_burst_through(disk):
    """100 requests a second after a burst of 4: twelve need at least 80 ms, by the clock that the limit is made of."""
    from time import monotonic

    with Driver(Blk(disk, MIB, limits=(0, 0, 4, 40_000_000))) as driver:
        begin = monotonic()
        for _ in range(4):
            driver.ask([head(blk.READ), 512, 1])
        for _ in range(8):
            driver.ask([head(blk.READ), 512, 1])
        assert monotonic() - begin >= 0.07


SECTORS = st.integers(0, 63)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([blk.WRITE, blk.READ]), SECTORS, st.integers(1, 24), st.integers(0, 255)),
        st.tuples(st.sampled_from([blk.DISCARD, blk.WRITE_ZEROES]), SECTORS, st.integers(1, 24), st.integers(0, 0)),
        st.tuples(st.just(blk.FLUSH), st.just(0), st.just(0), st.just(0)),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), STEPS, st.integers(0, 2))
def test_a_disk_is_an_array_of_sectors(features, steps, extra):
    """Whatever is asked, in whatever order, by several queues: what is read is what was written there last."""
    fd, size = os.memfd_create("disk"), 64 * 512
    os.truncate(fd, size)
    model = bytearray(size)
    with Driver(Blk(fd, size, queues=1 + extra), features) as driver:
        for number, (kind, sector, count, byte) in enumerate(steps):
            check(driver, model, number % (1 + extra), kind, sector, count, byte)
        assert os.pread(fd, size, 0) == model
    os.close(fd)


def check(driver, model, queue, kind, sector, count, byte):
    """Ask for one step of the driver and the model; both must agree."""
    begin, end = sector * 512, (sector + count) * 512
    fits = end <= len(model)
    if kind == blk.READ:
        _, (data, status) = driver.ask([head(kind, sector), count * 512, 1], queue)
        assert not fits or data == model[begin:end]
    elif kind == blk.WRITE:
        _, (status,) = driver.ask([head(kind, sector), bytes((byte,)) * (count * 512), 1], queue)
        if fits:
            model[begin:end] = bytes((byte,)) * (count * 512)
    elif kind == blk.FLUSH:
        _, (status,) = driver.ask([head(kind), 1], queue)
        fits = True
    else:
        _, (status,) = driver.ask([head(kind), struct.pack("<QII", sector, count, 0), 1], queue)
        if fits:
            model[begin:end] = bytes(count * 512)
    assert status == (b"\0" if fits else b"\1")


# --- overlays ---


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base"
    path.write_bytes(bytes(range(256)) * 256)  # 64 KiB
    fd = os.open(path, os.O_RDONLY)
    yield fd
    os.close(fd)


def over(base, fd, **more):
    overlay = Overlay(fd, base, 64 << 10)
    return Driver(Blk(base, 64 << 10, overlay=overlay.c, **more), VERSION_1 | blk.F_FLUSH), overlay


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_an_overlay_is_a_disk_too_and_its_base_stays(steps, queues):
    """The model begins as the base; after each round the overlay is opened anew, as what was saved of it."""
    base, fd = os.memfd_create("base"), os.memfd_create("overlay")
    first = bytes(range(256)) * 128
    os.write(base, first)
    model = bytearray(first)
    for _ in range(2):
        overlay = Overlay(fd, base, len(first))
        with Driver(Blk(base, len(first), overlay=overlay.c, queues=queues)) as driver:
            for number, step in enumerate(steps):
                if step[0] != blk.DISCARD:  # of which only whole clusters are sure to read as zeroes
                    check(driver, model, number % queues, *step)
            for sector in range(0, 64, 16):
                check(driver, model, 0, blk.READ, sector, 16, 0)
        overlay.close()
    assert os.pread(base, len(first), 0) == first
    os.close(base)
    os.close(fd)


def test_what_was_flushed_is_there_after_a_crash(tmp_path, base):
    """Nothing is saved at the end: the file is looked at as it is after the flush."""
    with open(tmp_path / "overlay", "x+b") as file:
        driver, overlay = over(base, file.fileno())
        with driver:
            driver.ask([head(blk.WRITE, 1), b"kept" * 128, 1])
            driver.ask([head(blk.FLUSH), 1])
            driver.ask([head(blk.WRITE, 40), b"lost" * 128, 1])
            crashed = (tmp_path / "overlay").read_bytes()
        overlay.close()
    with open(tmp_path / "copy", "x+b") as file:
        file.write(crashed)
        file.flush()
        driver, overlay = over(base, file.fileno())
        with driver:
            assert driver.ask([head(blk.READ), 1536, 1])[1][0] == os.pread(base, 512, 0) + b"kept" * 128 + os.pread(base, 512, 1024)
            assert driver.ask([head(blk.READ, 40), 512, 1])[1][0] == os.pread(base, 512, 40 * 512), "the base's, not zeroes"
        overlay.close()


def test_a_driver_that_knows_no_flush_finds_each_write_kept(tmp_path, base):
    """5.2.6.2. Of an overlay: what is marked as written in the file, before its end."""
    with open(tmp_path / "overlay", "x+b") as file:
        overlay = Overlay(file.fileno(), base, 64 << 10)
        with OldDriver(Blk(base, 64 << 10, overlay=overlay.c), 0) as driver:
            driver.ask([head(blk.WRITE, 1), b"kept" * 128, 1])
            (tmp_path / "copy").write_bytes((tmp_path / "overlay").read_bytes())
        overlay.close()
    with open(tmp_path / "copy", "r+b") as file:
        driver, overlay = over(base, file.fileno())
        with driver:
            assert driver.ask([head(blk.READ, 1), 512, 1])[1][0] == b"kept" * 128
        overlay.close()


@pytest.mark.parametrize(("interface", "version"), [(Driver, VERSION_1), (OldDriver, 0)])
@pytest.mark.parametrize("request_", [[blk.WRITE, b"x" * 512], [blk.WRITE_ZEROES, struct.pack("<QII", 3, 5, 0)]])
def test_a_write_that_was_not_kept_has_failed_where_there_is_no_flush(disk, interface, version, request_):
    """fdatasync is asked for, as it says EINVAL of a file that only takes what is written (man 2 fdatasync)."""
    kind, data = request_
    null = os.open(os.devnull, os.O_RDWR)
    for flushes, status in ((blk.F_FLUSH, b"\0"), (0, b"\1")):
        with interface(Blk(null, MIB), version | flushes) as driver:
            assert driver.ask([head(kind, 3), data, 1]) == (1, [status])
    with interface(Blk(disk, MIB), version) as driver:
        assert driver.ask([head(kind, 3), data, 1]) == (1, [b"\0"])
    os.close(null)


def test_an_overlay_whose_maker_was_killed_is_made_to_the_end(tmp_path, base):
    """At each moment of its making: nothing is there yet, or the header, or all."""
    with open(tmp_path / "overlay", "x+b") as file:
        sizes = []
        for length in (0, 32):
            file.truncate(length)
            over(base, file.fileno())[1].close()
            sizes.append(os.fstat(file.fileno()).st_size)
        assert len(set(sizes)) == 1 and sizes[0] > 64 << 10


@pytest.mark.parametrize("length", [33, 4096, 8192, 64 << 10])
def test_an_overlay_that_was_cut_short_is_refused(tmp_path, base, length):
    """What is missing would be zeroes where the guest had written something else."""
    with open(tmp_path / "overlay", "x+b") as file:
        over(base, file.fileno())[1].close()
        file.truncate(length)
        with pytest.raises(MinivmError, match="cut short"):
            over(base, file.fileno())


@pytest.mark.parametrize("start", [b"", b"MINIVMOV", b"MINIVMOV\1\0\0\0"])
def test_a_file_that_is_no_overlay_is_refused_and_stays(tmp_path, base, start):
    with open(tmp_path / "overlay", "x+b") as file:
        file.write(start.ljust(200, b"x"))
        file.flush()
        with pytest.raises(MinivmError):
            over(base, file.fileno())
    assert (tmp_path / "overlay").read_bytes() == start.ljust(200, b"x")


def test_an_overlay_discards_into_holes(tmp_path, base):
    with open(tmp_path / "overlay", "x+b") as file:
        driver, overlay = over(base, file.fileno())
        with driver:
            driver.ask([head(blk.DISCARD), struct.pack("<QII", 3, 20, 0), 1])
            assert driver.ask([head(blk.READ, 8), 4096, 1])[1][0] == bytes(4096), "sectors 8 to 15 are a whole cluster"
            assert driver.ask([head(blk.READ, 3), 512, 1])[1][0] == os.pread(base, 512, 3 * 512)
        overlay.close()


def test_an_overlay_of_another_disk_is_refused(tmp_path, base):
    with open(tmp_path / "overlay", "x+b") as file:
        Overlay(file.fileno(), base, 64 << 10).close()
        os.utime(tmp_path / "base", ns=(1, 1))
        with pytest.raises(MinivmError, match="has changed since"):
            Overlay(file.fileno(), base, 64 << 10)
    with open(tmp_path / "text", "x+b") as file:
        file.write(b"hello, world")
        file.flush()
        with pytest.raises(MinivmError, match="no overlay of minivm"):
            Overlay(file.fileno(), base, 64 << 10)
