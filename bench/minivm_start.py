"""How soon a guest speaks, and how many exits a second are answered.

    .venv/bin/python -m bench.minivm_start [--format json]

Times are of this machine and this minute; compare them with each other, in one run.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import minivm.boot
from bench.beside import parser
from minivm.boot import formats
from minivm.machine.config import Config
from minivm.machine.machine import Machine, Outcome
from minivm.machine.recorder import Recorder

TIMES = 20
EXITS = 60_000
HELLO16 = str(Path(minivm.boot.__file__).with_name("hello16.bin"))
COMMANDS = {
    "an interpreter's first letter": ["-c", "print(1)"],
    "16-bit hello": ["-m", "minivm", "run", HELLO16, "--boot", "flat16"],
    "in-tree guest's first line": ["-m", "minivm", "run"],
}


def first_byte(words: list[str]) -> float:
    """Return the milliseconds from starting a command to the first byte that it prints."""
    begin = time.perf_counter()
    with subprocess.Popen([sys.executable, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.read(1)
        took = time.perf_counter() - begin
        child.stdout.read()
    return took * 1000


def outs(port: int) -> bytes:
    """Return 16-bit code that does EXITS `out`s to a port, and halts."""
    return b"\xba" + port.to_bytes(2, "little") + b"\xb9" + EXITS.to_bytes(2, "little") + b"\xee\xe2\xfd\xf4"


def exits_a_second(port: int, told: bool) -> float:
    """Run such a guest with its console on /dev/null."""
    config, null = Config(memory=1 << 20), os.open(os.devnull, os.O_WRONLY)
    start = formats.prepare(outs(port), "flat16", config.memory, "")
    recorder = Recorder([lambda event: None] if told else [])
    with Machine(config, start, recorder, console=null) as machine:
        machine.build()
        begin = time.perf_counter()
        machine.run(None, 120)
        took = time.perf_counter() - begin
    os.close(null)
    return EXITS / took


def build_and_close() -> float:
    """Return the milliseconds to build the default machine and take it down again, without a run."""
    config = Config()
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    begin = time.perf_counter()
    with Machine(config, start) as machine:
        machine.build()
    return (time.perf_counter() - begin) * 1000


def first_line_in_process() -> float:
    """Return the milliseconds from a Config to the first line of the in-tree guest, in a process that has all modules."""
    heard, console = os.pipe()
    config = Config()
    begin = time.perf_counter()
    start = formats.prepare(formats.read_kernel(formats.default_kernel()), "auto", config.memory, "")
    with Machine(config, start, console=console) as machine:
        machine.build()
        thread = threading.Thread(target=machine.run, args=(None, 60))
        thread.start()
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(heard, 1)
        took = time.perf_counter() - begin
        machine.stop(Outcome(0, ""))
        thread.join()
    os.close(heard)
    os.close(console)
    return took * 1000


RATES: dict[str, Callable[[], float]] = {
    "answered in C (UART to /dev/null)": lambda: exits_a_second(0x3F8, False),
    "answered in Python (UART scratch)": lambda: exits_a_second(0x3FF, False),
    "told to a sink (UART)": lambda: exits_a_second(0x3F8, True),
}


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns 0."""
    args = parser("bench.minivm_start", __doc__).parse_args(argv)
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(TIMES):
        for name, words in COMMANDS.items():
            times[name].append(first_byte(words))
    times["first line, in process"] = [first_line_in_process() for _ in range(TIMES)]
    times["build and close, in process"] = [build_and_close() for _ in range(TIMES)]
    rates = {name: max(measure() for _ in range(3)) for name, measure in RATES.items()}
    table = {name: {"min": min(t), "median": statistics.median(t)} for name, t in times.items()}
    if args.format == "json":
        print(json.dumps({"milliseconds": table, "exits_a_second": rates}))
        return 0
    print(f"{'milliseconds':36}{'min':>9}{'median':>9}   of {TIMES}")
    for name, row in table.items():
        print(f"{name:36}{row['min']:9.1f}{row['median']:9.1f}")
    print(f"\n{'exits a second, best of 3':36}")
    for name, rate in rates.items():
        print(f"{name:36}{rate:9.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
