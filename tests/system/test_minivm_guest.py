"""The toy kernel against its own tasks: each attack is put in the place of user_count, and the third task must live on."""

from __future__ import annotations

import functools
import os
import re
import secrets
import struct
import subprocess
import sys
from pathlib import Path

import pytest

import minivm.boot

LIMIT = 60
KVM = Path("/dev/kvm")
GUEST = Path(minivm.boot.__file__).with_name("guest.elf")
pytestmark = [
    pytest.mark.skipif(not os.access(KVM, os.R_OK | os.W_OK), reason="/dev/kvm is missing or not ours to open"),
    pytest.mark.timeout(LIMIT + 30),
]
EXIT = "b8 08 00 00 00  31 ff  0f 05"  # mov eax, SYS_EXIT; xor edi, edi; syscall
YIELD = "b8 04 00 00 00  0f 05"


@functools.cache
def symbols() -> dict[str, int]:
    """Read the table of symbols (man 5 elf), by hand: not each machine has a program for it."""
    image = GUEST.read_bytes()
    table, (size, count) = struct.unpack_from("<Q", image, 40)[0], struct.unpack_from("<HH", image, 58)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + size * number) for number in range(count)]
    kept = next(section for section in sections if section[1] == 2)  # SHT_SYMTAB; sh_link names the section of its strings
    names, found = sections[kept[6]][4], {}
    for at in range(kept[4], kept[4] + kept[5], 24):
        name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
        found[image[names + name : image.index(b"\0", names + name)].decode()] = value
    return found


def symbol(name: str) -> int:
    return symbols()[name]


def place(name: str) -> int:
    """Return where in the file a symbol lies."""
    image = GUEST.read_bytes()
    (table,) = struct.unpack_from("<Q", image, 32)
    for number in range(image[56]):
        kind, _, offset, start, _, size, _, _ = struct.unpack_from("<IIQQQQQQ", image, table + 56 * number)
        if kind == 1 and start <= symbol(name) < start + size:
            return symbol(name) - start + offset
    raise AssertionError(name)


def attacked(tmp_path: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Run the guest with other code for its first two tasks; type `exit 7` to the third."""
    image, raw, at = bytearray(GUEST.read_bytes()), bytes.fromhex(code), place("user_count")
    assert len(raw) < place("user_echo") - at or place("user_echo") < at
    image[at : at + len(raw)] = raw
    (tmp_path / "guest.elf").write_bytes(image)
    word = secrets.token_hex(4)
    command = [sys.executable, "-m", "minivm", "run", "--timeout", "40", tmp_path / "guest.elf"]
    done = subprocess.run(command, input=f"{word}\nexit 7\n", capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (7, ""), done.stdout + done.stderr
    assert f"backwards: {word[::-1]}" in done.stdout
    return done


def ends(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"task [12] exited with status (\d+)", done.stdout)


@pytest.mark.parametrize("port", [0x00, 0x20, 0x40, 0x64, 0x70, 0x3F8, 0x501])
def test_a_task_has_no_port(tmp_path, port):
    """At 0x64 it would reset the machine; the TSS says where a map of permitted ports begins (SDM volume 1, 19.5.2)."""
    done = attacked(tmp_path, f"66 ba {port.to_bytes(2, 'little').hex()}  b0 fe  ee  {EXIT}")  # mov dx; mov al, 0xfe; out dx, al
    assert ends(done) == [str(128 + 13)] * 2


@pytest.mark.parametrize(
    "code",
    [
        f"9c  48 81 0c 24 00 40 00 00  9d  {YIELD} {EXIT}",  # pushf; or [rsp], NT; popf
        f"fd  {YIELD} {EXIT}",  # std
        f"9c  48 81 0c 24 00 00 04 00  9d  {YIELD} {EXIT}",  # pushf; or [rsp], AC; popf
        f"31 e4  {YIELD} {EXIT}",  # xor esp, esp
        "48 b9 00 00 00 00 00 00 00 80  48 c7 c2 {entry}  b8 03 00 00 00  ff e2",  # rcx is no address; jump to syscall_entry
        "48 b9 00 00 00 00 00 80 00 00  48 c7 c2 {entry}  b8 04 00 00 00  ff e2",
        f"b8 ff ff ff 7f  0f 05  {EXIT}",  # no such call
    ],
)  # fmt: skip
def test_a_task_cannot_take_the_kernel_with_it(tmp_path, code):
    done = attacked(tmp_path, code.replace("{entry}", symbol("syscall_entry").to_bytes(4, "little").hex()))
    assert len(ends(done)) == 2 and "panic" not in done.stdout


@pytest.mark.parametrize(
    ("code", "vector"),
    [("f4", 13), ("fa", 13), ("0f 0b", 6), ("48 31 c0  48 89 00", 14), ("0f 20 c0", 13), ("b8 00 00 10 00  ff e0", 14)],
)
def test_a_tasks_mistake_ends_the_task(tmp_path, code, vector):
    assert ends(attacked(tmp_path, code)) == [str(128 + vector)] * 2


@pytest.mark.parametrize("call", [1, 2])
@pytest.mark.parametrize("address", [0, 0x100000, 0x1FFFFF, 0x7FFFFFFFFFFF, 1 << 63, (1 << 64) - 1])
def test_the_kernel_touches_no_memory_for_a_task_that_the_task_may_not(tmp_path, call, address):
    """write and read of two bytes: the result is -1, and the task ends with it."""
    code = f"48 bf {address.to_bytes(8, 'little').hex()}  be 02 00 00 00  b8 {call:02x} 00 00 00  0f 05"
    assert ends(attacked(tmp_path, f"{code}  89 c7  b8 08 00 00 00  0f 05")) == [str((1 << 32) - 1)] * 2
