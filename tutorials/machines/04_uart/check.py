"""What the in-tree guest does with the learner's driver: a text typed comes back, computed by a task in ring 3.

A UART with a slow wire shows whether the driver waits (slow.py); a machine without interrupt controllers, in which each write to
their ports is an exit, what is written there at the end of an interrupt (calls.c).
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from minirt.trace import read_trace
from tutorials.tutor.world import NotBorn, World

STORY = ("minivm", "run", "--fail", "KVM_RUN=EIO")
HERE = Path(__file__).resolve().parent
NOBODY = 0x1234  # the port that calls.c writes the line's number to


def observe(world: World) -> Iterator[tuple[str, object]]:
    kernel = world.kernel()

    def run(typed: str, *before: str) -> tuple[str, int]:
        words = ["run", str(kernel), "--timeout", world.patience]
        done = world.run(*(before or ("minivm",)), *words, input=typed)
        if done.returncode == 124:
            last = (done.stdout.replace("\0", "").strip().splitlines() or ["nothing"])[-1]
            raise NotBorn(f"the guest hangs; its last line: {last[:100]}")
        return done.stdout, done.returncode

    status, text, long = world.number("status", 3, 100), world.secret("text", 12), world.secret("long", 60) * 3
    said, ended = run(f"{text}\n{long}\nexit {status}\n")
    yield "greeting", said.startswith("Hello from the minivm guest")
    yield "backwards", f"backwards: {text[::-1]}" in said
    yield "long-line", f"backwards: {long[::-1]}" in said
    yield "status", ended == status
    yield "told", told(world, kernel)
    said, ended = run(f"{text}\n")  # and no more: the carrier drops
    yield "end-of-input", ended
    yield "tasks", [f"task {number}: step 3" in said for number in (1, 2)]
    said, ended = run(f"{text}\nexit {status}\n", "script", str(HERE / "slow.py"))
    yield "waits", f"backwards: {text[::-1]}" in said and ended == status and said.startswith("Hello from the minivm guest")


def told(world: World, kernel: Path) -> list[str]:
    """Return what pic_end writes to which port, for each line."""
    source = kernel.parent
    shutil.copyfile(HERE / "calls.c", source / "calls.c")
    subprocess.run(["make", "-s", "-C", str(source), "build/calls.o"], capture_output=True, timeout=120, check=True)
    parts = [str(source / "build" / name) for name in ("calls.o", "pic.o")]
    program, trace = source / "calls.bin", world.directory / "calls.jsonl"
    link = ["ld", "-Ttext=0x100000", "-e", "start", "--oformat=binary", "-o", str(program), *parts]
    subprocess.run(link, capture_output=True, timeout=120, check=True)
    words = ["--boot", "flat64", "--irqchip", "none", "--timeout", world.patience, "--trace", str(trace)]
    world.run("minivm", "run", str(program), *words)
    with trace.open(encoding="utf-8") as file:
        exits = [event.data for event in read_trace(file)[1] if event.call == "KVM_EXIT_IO" and event.data]
    found: dict[int, str] = {}
    for data in exits[:-1]:
        value = int(data["value"], 16)
        if data["port"] == NOBODY:
            found[value] = ""
        elif found:
            found[max(found)] += f" {value:#x} to port {data['port']:#x}"
    groups = [(said, list(group)) for said, group in groupby(found, found.__getitem__)]
    return [f"lines {group[0]} to {group[-1]}:{said or ' nothing'}" for said, group in groups]
