"""How often guests leave their machine, and who answers: as minivm counts it, and as KVM does.

The programs are written down as bytes, with the instructions beside them; how often each does what is drawn anew.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

from minirt.trace import read_trace
from tutorials.tutor.counts import counted
from tutorials.tutor.lessons import TOP
from tutorials.tutor.world import NotBorn, World

DISK = ("--disk", f"{TOP}/minivm/boot/hello16.bin,ro")  # its registers are the first page of virtio's, the console's the second
STORY = ("minivm", "run", str(TOP / "minivm/boot/hello16.bin"), "--boot", "flat16", *DISK, "--timeout", "10")
SERIAL, LINE_CONTROL, MODEM_CONTROL, LINE_STATUS = 0x3F8, 0x3FB, 0x3FC, 0x3FD
FAILED = 124  # exit statuses from here on are minivm's own; the guests' are less
REGISTERS, CONSOLE, NOTIFY, ACKNOWLEDGE, STATUS = 0xD000_0000, 0xD000_1000, 0x50, 0x64, 0x70
EXIT, NOBODY = 0xCFFF_F000, 0x0100_0000
END = bytes.fromhex("ba 01 05  ee  f4")  # mov dx, 0x501; out dx, al; hlt: the exit status is al


def observe(world: World) -> Iterator[tuple[str, object]]:
    status, n = world.number("status", 3, 120), {name: world.number(name, 50, 200) for name in ("polled", "told", "other", "seen")}
    word = world.secret("word")

    code = polls(n["polled"]) + divisor(status) + sends(word) + bytes.fromhex("88 d8") + END  # mov al, bl
    done = run(world, "flat16", code)
    yield "polled", rows(done, "in 0x3fd")
    yield "sent", [done.stdout.strip(), *rows(done, "out 0x3f8")]
    yield "divisor", done.returncode == status
    yield "traced", traced(world, code)
    done = run(world, "flat16", typed() + tell16() + overrun() + tell16() + END, typed=word[-1])
    yield "typed", done.stdout[:1] == word[-1]
    yield "overrun", [f"{ord(byte):#x}" for byte in done.stdout[1:2]]

    state = status & 0x33 | 1
    steps = store(REGISTERS + STATUS, state) + load(REGISTERS + STATUS) + tell32()
    steps += load(NOBODY) + bytes.fromhex("66 23 05") + address(NOBODY + 2) + b"\x40" + tell32()  # and ax, [nobody + 2]; inc eax
    done = run(world, "flat32", steps + bytes.fromhex("b8 40 e2 01 00  b0") + bytes([status, 0xA2]) + address(EXIT))
    yield "written", done.stdout[:1] == chr(state)
    yield "read", done.stdout[1:2] == "\0"
    yield "ended", done.returncode == status
    yield "counted", rows(done, f"page {REGISTERS:#x}") + rows(done, f"page {EXIT:#x}") + rows(done, f"page {NOBODY:#x}")

    loops = notifies(n["told"], 0) + notifies(n["other"], 5) + acknowledges(n["seen"])
    loops += again(n["told"] + 7, 1, CONSOLE + NOTIFY)
    command = words(world, "flat32", loops + says(word) + bytes.fromhex("eb fe"))  # jmp to itself
    seen, done = counted(world, word, *command)
    yield "acknowledged", rows(done, "InterruptACK")
    yield "notified", rows(done, f"page {REGISTERS:#x}")
    yield "prompt", rows(done, "QueueNotify")
    yield "kvm-counts", seen["mmio_exits"]


# -- running them --------------------------------------------------------------------------------------------


def words(world: World, boot: str, code: bytes) -> tuple[str, ...]:
    program = world.directory / "program.bin"
    program.write_bytes(code)
    more = ("-m", "2m", "--console", "virtio", *DISK) if boot == "flat32" else ()
    return "minivm", "run", str(program), "--boot", boot, *more, "--timeout", world.patience, "--stats", "--format", "json"


def run(world: World, boot: str, code: bytes, typed: str = "") -> subprocess.CompletedProcess[str]:
    done = world.run(*words(world, boot, code), input=typed)
    if done.returncode >= FAILED:
        said = [line for line in done.stderr.splitlines() if line.startswith("minivm: ")]
        raise NotBorn("the guest does not come to its end" if done.returncode == 124 else (said or ["minivm ended"])[0])
    return done


def traced(world: World, code: bytes) -> str:
    """Return how many exits a trace has: all of them, as none may be answered out of its sight."""
    path = world.directory / "traced.jsonl"
    world.run(*words(world, "flat16", code), "--trace", str(path))
    with path.open(encoding="utf-8") as file:
        events = read_trace(file)[1]
    return f"{sum(event.call.startswith('KVM_EXIT') for event in events)} exits in the trace"


def rows(done: subprocess.CompletedProcess[str], what: str) -> list[str]:
    """Return how many exits of a kind there were, and how many of them the loop in C has answered."""
    try:
        exits = json.loads(done.stderr.splitlines()[-1])["exits"]
    except (ValueError, IndexError):
        return [done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no report"]
    return [f"{row['count']} exits of {what}, {row['in_c']} answered in C" for row in exits if row["what"] == what]


# -- 16 bits -------------------------------------------------------------------------------------------------


def port(number: int) -> bytes:
    """mov dx, number."""
    return b"\xba" + number.to_bytes(2, "little")


def put(number: int, value: int) -> bytes:
    """mov dx, number; mov al, value; out dx, al."""
    return port(number) + b"\xb0" + bytes([value]) + b"\xee"


def polls(times: int) -> bytes:
    """mov dx, 0x3fd; mov cx, times; 1: in al, dx; loop 1b."""
    return port(LINE_STATUS) + b"\xb9" + times.to_bytes(2, "little") + bytes.fromhex("ec  e2 fd")


def sends(text: str) -> bytes:
    """Send a text, each byte as `mov dx, 0x3f8; mov al, byte; out dx, al`."""
    return b"".join(put(SERIAL, byte) for byte in text.encode())


def tell16() -> bytes:
    """mov dx, 0x3fc; mov ah, al; mov al, 0; out dx, al; mov al, ah; mov dx, 0x3f8; out dx, al: out of loop mode, and send al."""
    return port(MODEM_CONTROL) + bytes.fromhex("88 c4  b0 00  ee  88 e0") + port(SERIAL) + b"\xee"


def divisor(value: int) -> bytes:
    """Set the low byte of the divisor, which has the port of the data, and read it again: in al, dx; mov bl, al."""
    return put(LINE_CONTROL, 0x83) + put(SERIAL, value) + bytes.fromhex("ec  88 c3") + put(LINE_CONTROL, 3)


def overrun() -> bytes:
    """Lose a byte in loop mode, and read LSR twice: the overrun is told once. al = the first | the second << 4."""
    lost = put(MODEM_CONTROL, 0x10) + put(SERIAL, 1) + put(SERIAL, 2) + port(LINE_STATUS)
    return lost + bytes.fromhex("ec  88 c3  ec  c0 e0 04  08 d8")  # in al, dx; mov bl, al; in al, dx; shl al, 4; or al, bl


def typed() -> bytes:
    """mov dx, 0x3fd; 1: in al, dx; test al, 1; jz 1b; mov dx, 0x3f8; in al, dx."""
    return port(LINE_STATUS) + bytes.fromhex("ec  a8 01  74 fb") + port(SERIAL) + b"\xec"


# -- 32 bits -------------------------------------------------------------------------------------------------


def address(number: int) -> bytes:
    return number.to_bytes(4, "little")


def store(where: int, value: int) -> bytes:
    """mov dword [where], value."""
    return bytes.fromhex("c7 05") + address(where) + address(value)


def load(where: int) -> bytes:
    """mov eax, [where]."""
    return b"\xa1" + address(where)


def tell32() -> bytes:
    """mov dx, 0x3f8; out dx, al."""
    return bytes.fromhex("66 ba f8 03  ee")


def again(times: int, value: int, register: int) -> bytes:
    """mov ecx, times; mov eax, value; 1: mov [register], eax; loop 1b."""
    return b"\xb9" + address(times) + b"\xb8" + address(value) + b"\xa3" + address(register) + bytes.fromhex("e2 f9")


def notifies(times: int, queue: int) -> bytes:
    return again(times, queue, REGISTERS + NOTIFY)


def acknowledges(times: int) -> bytes:
    return again(times, 1, REGISTERS + ACKNOWLEDGE)


def says(text: str) -> bytes:
    """mov dx, 0x3f8; for each byte: mov al, byte; out dx, al."""
    line = f"{text}\n".encode()
    return bytes.fromhex("66 ba f8 03") + b"".join(b"\xb0" + bytes([byte]) + b"\xee" for byte in line)
