"""What an exit of each kind costs here: guests that do one thing N times, a line fitted to each, and what the lines predict.

A guest's time is that of its vCPU's thread on the processor, so that what else runs does not count; the shortest of some runs.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import time
from collections.abc import Iterator

from minivm import kvm
from minivm.boot import formats
from minivm.boot.layout import VIRTIO
from minivm.devices.virtio.mmio import QUEUE_NOTIFY
from minivm.machine.config import Config
from minivm.machine.devices import Disk
from minivm.machine.machine import Machine
from tutorials.tutor.lessons import TOP
from tutorials.tutor.measure import Curve

TIMES = (1000, 2000, 4000)
RUNS = 2
MIX = 500  # groups of ten
LINE_STATUS, SCRATCH = b"\xba\xfd\x03", b"\xba\xff\x03"  # mov dx, 0x3fd or 0x3ff
CLEAR = b"\x31\xc0"  # xor ax, ax
KINDS = {  # three instructions each
    "nothing": SCRATCH + CLEAR + b"\x90",  # nop
    "the kernel answers": SCRATCH + CLEAR + b"\x0f\xa2",  # cpuid
    "C answers": LINE_STATUS + CLEAR + b"\xec",  # in al, dx
    "Python answers": SCRATCH + CLEAR + b"\xec",
    "Python answers, MMIO": SCRATCH + CLEAR + b"\xa0\x10\x00",  # mov al, [0x10], of segment 0xffff: behind the memory
}
NOTHING, EXITS, NOTED = b"\x90", b"\xee", b"\xa2\x10\x00"  # nop; out dx, al; mov [0x10], al, of that segment
END = bytes.fromhex("ba 01 05  31 c0  ee")  # mov dx, 0x501; xor ax, ax; out dx, al


def measure() -> Iterator[Curve]:
    """Yield what the formulas say and what was measured."""
    found = {kind: [(times, seconds(loop(body, times))) for times in TIMES] for kind, body in KINDS.items()}
    lines = {kind: fitted(points) for kind, points in found.items()}
    step = lines["nothing"].slope / 5  # of one instruction of a loop: three, `dec`, and `jnz`
    cost = {kind: max(0.0, line.slope - 5 * step) * 1e6 for kind, line in lines.items()}  # us, for the exit alone
    start = max(0.0, statistics.median(line.intercept for line in lines.values()))
    words = ", ".join(f"{value:.1f} us {kind}" for kind, value in cost.items() if kind != "nothing")
    for kind in ("C answers", "Python answers"):
        points = [(times, predicted(start, step, times * 5, {kind: times}, cost), took * 1e3) for times, took in found[kind]]
        yield Curve(kind.replace(" ", "-"), f"T = T0 + N * (5 instructions + exit): {words}", "exits", "ms", points)
    points = []
    for python in (0, 2, 5, 8, 10):
        guest = loop(KINDS["C answers"] * (10 - python) + KINDS["Python answers"] * python, MIX)
        counts = {"C answers": MIX * (10 - python), "Python answers": MIX * python}
        points.append((10.0 * python, predicted(start, step, MIX * 32, counts, cost), seconds(guest) * 1e3))
    yield Curve("mixed", f"{MIX * 10} exits, some answered by C, the others by Python: T = T0 + sum of N * cost",
                "% by Python", "ms", points)  # fmt: skip
    yield batched(start, step, cost)
    yield notified(start, step, cost)
    yield from coalesced()


def batched(start: float, step: float, cost: dict[str, float]) -> Curve:
    """Read 4096 bytes from a port that Python answers, so many with one `rep insb`: KVM asks for them all in one exit."""
    points = []
    for size in (1, 4, 16, 64, 256):
        times = 4096 // size
        body = SCRATCH + b"\xb9" + size.to_bytes(2, "little") + bytes.fromhex("bf 00 80  f3 6c")  # cx = size, di = 0x8000
        points.append((float(size), predicted(start, step, times * 6 + 4096, {"Python answers": times}, cost),
                       seconds(loop(body, times, counter=b"\x4e")) * 1e3))  # fmt: skip
    return Curve("batched", "4096 bytes: T = T0 + 4096 instructions + 4096 / batch * exit", "bytes in an exit", "ms", points)


def notified(start: float, step: float, cost: dict[str, float]) -> Curve:
    """Write to QueueNotify of a disk, which an ioeventfd takes; predicted is what the same writes cost as exits to Python."""
    points = []
    for times in TIMES:
        code = b"\xb9" + times.to_bytes(4, "little") + b"\x31\xc0"  # mov ecx, times; xor eax, eax
        code += b"\xa3" + (VIRTIO + QUEUE_NOTIFY).to_bytes(4, "little") + bytes.fromhex("e2 f9  66 ba 01 05  ee")
        exits = predicted(start, step, times * 2, {"Python answers, MMIO": times}, cost)
        points.append((float(times), exits, seconds(code, "flat32") * 1e3))
    said = "predicted: each notification as an exit to Python; measured: with an ioeventfd"
    return Curve("ioeventfd", said, "notifications", "ms", points)


def coalesced() -> Iterator[Curve]:
    """Write to a register that KVM takes notes for: how many exits that is, and what it costs.

    The costs are those of two guests, which make nothing but exits and nothing but notes; predicted are guests that make some notes
    and then an exit.
    """
    with Bare() as machine:
        if not machine.ring:
            print("this kernel has no KVM_CAP_COALESCED_MMIO; the lab has: lab/run .venv/bin/tutor measure m3", file=sys.stderr)
            return
        room = machine.room()
        exits = [(float(n), float(n // (room + 1)), float(machine.run(NOTED, n)[0])) for n in (room, room + 1, 1000, 2000, 4000)]
        yield Curve("coalesced-exits", f"exits = writes // ({room} + 1): the ring is full after {room}, and the next is an exit",
                    "writes", "exits", exits)  # fmt: skip
        lines = {body: fitted([(n, machine.best(body, n)) for n in TIMES]) for body in (NOTHING, EXITS, NOTED)}
        step = lines[NOTHING].slope / 3  # of an instruction: `nop`, `dec`, and `jnz`
        leave = lines[EXITS].slope - 3 * step
        note = lines[NOTED].slope - 3 * step - leave / (room + 1)
        start = max(0.0, statistics.median(line.intercept for line in lines.values()))
        points = []
        for notes in (1, 4, 16, 64, 128):
            times = 4096 // notes
            takes = start + times * (notes * (step + note) + step * 3 + leave)
            points.append((float(notes), takes * 1e3, machine.best(NOTED * notes + EXITS, times) * 1e3))
        said = f"4096 writes: T = T0 + 4096 * {note * 1e6:.1f} us to note one + 4096 / notes * {leave * 1e6:.1f} us an exit"
        yield Curve("coalesced", said, "notes before an exit", "ms", points)


class Bare:
    """A machine made of ioctls, without minivm's devices: what comes back is an exit to here, and the ring is emptied."""

    def __init__(self) -> None:
        self.system = kvm.open_kvm()
        self.vm = kvm.create_vm(self.system)
        self.memory = kvm.GuestMemory(1 << 20)
        kvm.set_user_memory_region(self.vm, 0, 0, self.memory)
        self.vcpu = kvm.Vcpu(kvm.create_vcpu(self.vm, 0), kvm.get_vcpu_mmap_size(self.system))
        self.ring = kvm.check_extension(self.system, "KVM_CAP_COALESCED_MMIO")
        if self.ring:
            kvm.register_coalesced_mmio(self.vm, 1 << 20, 16)
        sregs = kvm.get_sregs(self.vcpu.fd)
        sregs.cs.base = sregs.cs.selector = 0
        kvm.set_sregs(self.vcpu.fd, sregs)

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self.vcpu.close()
        kvm.close(self.vcpu.fd, self.vm, self.system)
        self.memory.close()

    def run(self, body: bytes, times: int) -> tuple[int, float]:
        """Run a body so many times. Returns how many exits that was, and the thread's time on the processor, in s."""
        code = loop(body, times)
        self.memory.view(0x1000, len(code))[:] = code
        kvm.set_regs(self.vcpu.fd, kvm.new_regs(rip=0x1000, rflags=2, rdx=0x3FF))
        exits, begun = 0, time.thread_time()
        while self.vcpu.run() != kvm.lib.KVM_EXIT_IO or self.vcpu.kvm_run.io.port != 0x501:
            exits += 1
            kvm.take_coalesced_mmio(self.vcpu, self.ring)
        kvm.take_coalesced_mmio(self.vcpu, self.ring)
        return exits, time.thread_time() - begun

    def best(self, body: bytes, times: int) -> float:
        """Return the shortest time of some runs."""
        return min(self.run(body, times)[1] for _ in range(RUNS))

    def room(self) -> int:
        """Return how many notes the ring holds: so many writes are no exit."""
        return next(count for count in itertools.count(1) if self.run(NOTED, count)[0]) - 1


def predicted(start: float, step: float, instructions: int, exits: dict[str, int], cost: dict[str, float]) -> float:
    """Return T in ms: the fixed part, the guest's instructions, and the exits, each by its kind."""
    return (start + instructions * step) * 1e3 + sum(count * cost[kind] for kind, count in exits.items()) / 1e3


def fitted(points: list[tuple[int, float]]) -> statistics.LinearRegression:
    """Return the line through points with the least squares of what is left over."""
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points])


def loop(body: bytes, times: int, counter: bytes = b"\x4f") -> bytes:
    """mov ax, 0xffff; mov ds, ax; mov di, times; 1: body; dec di; jnz 1b. Args: counter, the `dec`: of di, or of si."""
    register = b"\xbf" if counter == b"\x4f" else b"\xbe"
    back = (-(len(body) + 5) & 0xFFFF).to_bytes(2, "little")  # a near jump, as a group of ten is longer than a short one reaches
    return bytes.fromhex("b8 ff ff  8e d8") + register + times.to_bytes(2, "little") + body + counter + b"\x0f\x85" + back + END


def seconds(code: bytes, boot: str = "flat16") -> float:
    """Return how long a guest runs, at best."""
    return min(once(code, boot) for _ in range(RUNS))


def once(code: bytes, boot: str) -> float:
    """Run a guest. Returns its vCPU's time on the processor."""
    disks = [Disk(str(TOP / "minivm/boot/hello16.bin"), read_only=True)] if boot == "flat32" else []
    with open(os.devnull, "r+b") as null:
        config = Config(memory=(1 + len(disks)) << 20, disks=disks)
        with Machine(config, formats.prepare(code, boot, config.memory, ""), console=null.fileno()) as machine:
            machine.timed = True
            machine.build()
            machine.run(None, 120)
    return float(machine.times[0]["wall"] - machine.times[0]["asleep"])
