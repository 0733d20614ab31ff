"""A machine's trace, made ready for the page that steps through it (minirt explain --html): code as text, large numbers as text.

A browser's numbers are exact up to 2**53, and registers hold 64 bits.
"""

from __future__ import annotations

from minivm.errors import MinivmError
from minivm.inspect.disassembly import at_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.trace import Event

__all__ = ["ready"]


def ready(events: Iterable[Event]) -> list[Event]:
    """Return the events with `data` as the page shows it; code stays bytes where capstone is not installed."""
    told = list(events)
    for event in told:
        if event.data:
            event.data = _shown(event.data)
    return told


def _shown(data: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in data.items() if not key.startswith("code")}
    for key in ("rip", "address"):
        if key in data:
            shown[key] = f"{data[key]:#x}"
    if "registers" in data:
        shown["registers"] = {name: f"{value:#x}" for name, value in data["registers"].items()}
    if "code" in data:
        shown["asm"] = _assembly(data)
    if "walk" in data:
        shown["walk"] = _walk(data["walk"])
    return shown


def _assembly(data: dict[str, Any]) -> list[str]:
    code, before = bytes.fromhex(data["code"]), data["code_before"]
    try:
        lines = at_exit(code, before, data["rip"], data["code_bits"])
    except MinivmError:
        return [f"{data['rip']:x}  {code[before : before + 16].hex(' ')}"]
    return [f"{'>' if line['exits'] else ' '} {line['address']:x}  {line['text']}" for line in lines]


def _walk(walk: dict[str, Any]) -> dict[str, Any]:
    rows = [[entry["level"], str(entry["index"]), f"{entry['address']:#x}", f"{entry['value']:#x}", " ".join(entry["flags"])]
            for entry in walk["entries"]]  # fmt: skip
    return {
        "linear": f"{walk['linear']:#x}",
        "mode": walk["mode"],
        "root": f"{walk['root']:#x}",
        "rows": rows,
        "physical": f"{walk['physical']:#x}" if walk.get("physical") is not None else walk["fault"],
        "rights": ", ".join(walk.get("rights", ())),
    }
