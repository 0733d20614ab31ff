"""`minivm run --step N`: the first instructions of the guest, one by one, on stderr."""

from __future__ import annotations

import sys

from minivm.errors import MinivmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from minivm.inspect.steps import Step
    from minivm.machine.machine import Machine

__all__ = ["step"]


def step(options: argparse.Namespace, machine: Machine) -> None:
    """Go through them on the first processor; the others wait to be started anyway. Raises MinivmError."""
    from minivm.inspect.exits import reason_name
    from minivm.inspect.steps import as_dict, difference, steps
    from minivm.inspect.symbols import Symbols, read_symbols
    from minivm.machine.loop import Exits

    if options.step < 0:
        raise UsageError(f"--step {options.step}: how many instructions?")
    symbols = Symbols(())
    try:
        symbols = read_symbols(options.symbols or machine.config.kernel or _default())
    except MinivmError:
        if options.symbols:
            raise
    vcpu, exits = machine.vcpus[0], Exits(machine, machine.vcpus[0])
    for one in steps(vcpu, options.step, machine.bytes_at, exits.handlers, lambda: machine.outcome is not None):
        length, text = _text(one)
        if options.format == "json":
            import json

            data = as_dict(one) | {"code": one.code[:length].hex(), "text": text, "exits": [reason_name(n) for n in one.exits]}
            print(json.dumps(data | {"where": symbols.name(one.address)}), file=sys.stderr)
            continue
        told = "".join(f"  [{reason_name(reason)}]" for reason in one.exits)
        where = f"{one.number:>6}  {one.address:>16x}  {symbols.name(one.address):24}"
        print(f"{where} {text:36} {difference(one)}{told}", file=sys.stderr)
    machine.exits.add(exits.counts)


def _default() -> str:
    from minivm.boot.formats import default_kernel

    return default_kernel()


def _text(one: Step) -> tuple[int, str]:
    """Return an instruction's length and text; without capstone its bytes."""
    from minivm.inspect.disassembly import disassemble

    try:
        found = disassemble(one.code, one.address, one.bits, 1)
    except MinivmError:
        found = []
    return found[0][1:] if found else (len(one.code), one.code.hex(" "))
