"""Exits a second in minivm's loops, beside a bare loop in C with the same guest, in one run.

    .venv/bin/python -m bench.exits [--rounds 15] [--format json]

The guests are 16-bit code that does 60,000 times the same I/O and halts:

    in, in C       reads the UART's line status, which the loop in C answers by itself
    out, in C      sends a byte, which that loop writes to /dev/null
    in, in Python  reads the UART's scratch register: to Python, over the bus, to the device and back
    out, in Python writes it

exits.c is the bare loop: KVM_RUN again and again, answering nothing. All take turns, in an order drawn anew each round; the
ratios are of medians, each loop's exits a second to the bare one's with the same guest. A second is one of the processor's
for the process, its threads together: what else runs on the machine does not count.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.beside import parser
from minivm.boot import formats
from minivm.machine.config import Config
from minivm.machine.machine import Machine

HERE = Path(__file__).resolve().parent
TIMES = 60_000
LINE_STATUS, DATA, SCRATCH = 0x3FD, 0x3F8, 0x3FF
GUESTS = {
    "in, in C": (LINE_STATUS, "in"), "out, in C": (DATA, "out"),
    "in, in Python": (SCRATCH, "in"), "out, in Python": (SCRATCH, "out"),
}  # fmt: skip


def guest(port: int, direction: str) -> bytes:
    """Return `mov dx, port; mov cx, TIMES; again: in al, dx | out dx, al; loop again; hlt`."""
    io = b"\xec" if direction == "in" else b"\xee"
    return b"\xba" + port.to_bytes(2, "little") + b"\xb9" + TIMES.to_bytes(2, "little") + io + b"\xe2\xfd\xf4"


def in_minivm(code: bytes, null: int) -> float:
    """Return the exits a second in a machine of ours."""
    config = Config(memory=1 << 20)
    with Machine(config, formats.prepare(code, "flat16", config.memory, ""), console=null) as machine:
        machine.build()
        begin = time.process_time()
        machine.run(None, 120)
        took = time.process_time() - begin
    return TIMES / took


def in_c(program: str, path: str) -> float:
    """Return the exits a second in the bare loop."""
    exits, ns = map(int, subprocess.run([program, path], capture_output=True, text=True, check=True).stdout.split())
    return exits / ns * 1e9


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return for each guest the medians, exits a second: {"bare": ..., "minivm": ..., "ratio": ...}."""
    found: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as place, open(os.devnull, "r+b") as null:
        program = f"{place}/exits"
        subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", str(HERE / "exits.c"), "-o", program], check=True)
        runs: dict[tuple[str, str], Callable[[], float]] = {}
        for name, what in GUESTS.items():
            code, path = guest(*what), f"{place}/{name.replace(', ', '-').replace(' ', '-')}"
            Path(path).write_bytes(code)
            runs[name, "bare"] = lambda path=path: in_c(program, path)
            runs[name, "minivm"] = lambda code=code: in_minivm(code, null.fileno())
        for _ in range(rounds):
            for key in random.sample(list(runs), len(runs)):
                found.setdefault(key, []).append(runs[key]())
    medians = {key: statistics.median(values) for key, values in found.items()}
    table = {name: {side: medians[name, side] for side in ("bare", "minivm")} for name in GUESTS}
    return {name: row | {"ratio": row["minivm"] / row["bare"]} for name, row in table.items()}


def main(argv: list[str] | None = None) -> int:
    """Measure and print. Returns 0."""
    words = parser("bench.exits", __doc__)
    words.add_argument("--rounds", type=int, default=15, help="of each guest in each loop (15)")
    options = words.parse_args(argv)
    table = measure(options.rounds)
    if options.format == "json":
        print(json.dumps(table))
        return 0
    print(f"{'exits a second, medians':24}{'bare C':>10}{'minivm':>10}{'ratio':>8}")
    for name, row in table.items():
        print(f"{name:24}{row['bare']:10.0f}{row['minivm']:10.0f}{row['ratio']:8.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
