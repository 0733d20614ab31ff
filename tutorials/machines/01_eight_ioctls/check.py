"""What guests of 16 bits find in lesson 1's machine: their memory, and devices that answer.

The programs are written down as bytes, with the instructions beside them; what they do is computed in the guest, with secrets.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from tutorials.tutor.lessons import TOP
from tutorials.tutor.world import World

STORY = ("minivm", "run", str(TOP / "minivm/boot/hello16.bin"), "--boot", "flat16", "--timeout", "10")
END = bytes.fromhex("ba 01 05  ee  f4")  # mov dx, 0x501; out dx, al; hlt: the exit status is al


def observe(world: World) -> Iterator[tuple[str, object]]:
    byte = world.number("byte", 3, 250)
    yield "memory-is-there", world.guest(last_byte(byte), "-m", "1m").returncode == byte
    yield "memory-ends", world.guest(bytes.fromhex("b8 ff ff 8e d8  a0 10 00") + END, "-m", "1m").returncode  # al = [0xffff:0x10]
    once = bytes([0xBA, 0xFF, 0x03, 0xB0, byte, 0xEE, 0x30, 0xC0, 0xEC])  # mov dx, 0x3ff; mov al, byte; out; xor al, al; in
    done = world.guest(once + bytes([0xB9, world.number("times", 2, 90), 0, 0xEC, 0xE2, 0xFD]) + END, "--stats", "--format", "json")
    yield "read-back", done.returncode == byte  # and cx times `in` more
    wide = bytes([0x66, 0xB8, byte, 0xAA, 0xBB, 0xCC]) + bytes.fromhex("ba 01 05  66 ef  f4")  # mov eax, n; out dx, eax
    yield "four-bytes", world.guest(wide).returncode == byte
    yield "nobody", world.guest(bytes.fromhex("31 c0  ba 34 12  ed  20 e0") + END).returncode  # in ax, dx; and al, ah
    fill = bytes([0xBA, 0xFF, 0x03, 0xB0, byte, 0xEE]) + bytes.fromhex("bf 00 80  b9 10 00  fc  f3 6c  a0 0f 80")
    yield "many-at-once", world.guest(fill + END).returncode == byte  # 16 bytes by one `rep insb`; al = the last one
    text = world.secret("text", 40)
    yield "text", world.guest(decoded(text.encode(), byte)).stdout.strip() == text
    yield "counted", counted(done.stderr)
    large = world.run("minivm", "run", "-m", "4g", "--timeout", world.patience)
    yield "two-pieces", "memory 0x100000000 to" in large.stdout.replace("memory 100000000", "memory 0x100000000")


def counted(report: str) -> list[str]:
    """Return how often each port was asked, of what --stats reports."""
    try:
        rows = json.loads(report.splitlines()[-1])["exits"]
    except (ValueError, IndexError):
        return []
    return sorted(f"{row['what']}: {row['count']}" for row in rows)


def last_byte(value: int) -> bytes:
    """Write a byte to the last address of the first MiB, and read it again: es = 0xf000, di = 0xffff."""
    return bytes.fromhex("b8 00 f0 8e c0  bf ff ff  26 c6 05") + bytes([value]) + bytes.fromhex("30 c0  26 8a 05") + END


def decoded(text: bytes, key: int) -> bytes:
    """Decode a text that is nowhere in the program, and send it with one `rep outsb`."""
    code = bytes.fromhex("be 40 7c  bf 00 80  b9") + len(text).to_bytes(2, "little")  # si, di, cx
    code += bytes([0xFC, 0xAC, 0x34, key, 0xAA, 0xE2, 0xFA])  # cld; 1: lodsb; xor al, key; stosb; loop 1b
    code += bytes.fromhex("be 00 80  b9") + len(text).to_bytes(2, "little") + bytes.fromhex("ba f8 03  f3 6e  30 c0") + END
    return code.ljust(0x40, b"\x90") + bytes(c ^ key for c in text)
