"""A kernel's file in guest memory without a copy: the same bytes as copied, and what is written stays out of the file."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minivm.boot import formats
from minivm.kvm import GuestMemory
from minivm.machine.config import Config
from minivm.machine.machine import Machine
from minivm.machine.plan import machine_plan

pytestmark = pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open")
MIB = 1 << 20


def write_elf(path: Path, place: int, size: int, more: int, address: int) -> bytes:
    """Write an ELF kernel with one segment of random bytes, `more` bytes of zeroes behind it, and a tail that is not loaded."""
    data = os.urandom(size)
    head = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, address, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    head += struct.pack("<IIQQQQQQ", 1, 7, place, address, address, size, size + more, 4096)
    path.write_bytes(head.ljust(place, b"\xaa") + data + b"\xbb" * 5000)
    return data


def build(path: Path) -> Machine:
    config = Config(str(path), memory=64 * MIB, irqchip=False)
    machine = Machine(config, formats.prepare(formats.read_kernel(str(path)), "elf64", config.memory, ""))
    machine.build()
    return machine


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 8191), st.integers(MIB, MIB + 9000), st.integers(0, 9000), st.sampled_from([4 * MIB, 4 * MIB + 8, 5 * MIB]))
def test_what_is_mapped_is_what_would_be_copied_and_zeroes_follow(tmp_path, place, size, more, address):
    data = write_elf(tmp_path / "elf", 176 + place, size, more, address)
    with build(tmp_path / "elf") as machine:
        assert machine.bytes_at(address, size) == data
        assert not any(machine.bytes_at(address + size, more + 4096)) and not any(machine.bytes_at(address - 64, 64))


def test_a_fitting_segment_is_mapped_and_the_guests_writes_stay_out_of_the_file(tmp_path):
    data = write_elf(tmp_path / "elf", 4096, 2 * MIB + 100, 50, 4 * MIB)
    config = Config(str(tmp_path / "elf"), memory=64 * MIB)
    start = formats.prepare(formats.read_kernel(config.kernel), "elf64", config.memory, "")
    mapped = [op for op in machine_plan(config, start) if op.call == "mmap" and op.args.get("address") == 4 * MIB]
    assert [(op.args["length"], op.args["offset"]) for op in mapped] == [(2 * MIB, 4096)]
    large = Config(config.kernel, memory=256 * MIB)
    assert not [op for op in machine_plan(large, start) if "offset" in op.args], "large pages: copied"
    with build(tmp_path / "elf") as machine:
        machine.bytes_at(4 * MIB, 4096)[:] = bytes(4096)
        maps = Path("/proc/self/smaps").read_text()
        shared = re.search(rf"^\S+ r--s .*{tmp_path}/elf\n(?:.*\n)*?Rss: +(\d+) kB", maps, re.M)
        assert shared and int(shared[1]) <= 64, "what was read of its headers is no longer held"
    assert (tmp_path / "elf").read_bytes()[4096 : 4096 + len(data)] == data


def test_guest_memory_begins_at_a_large_page():
    for size in (4096, 3 * MIB, 130 * MIB):
        memory = GuestMemory(size)
        assert memory.address % (2 * MIB) == 0
        memory.view(size - 1, 1)[:] = b"x"
        memory.close()
