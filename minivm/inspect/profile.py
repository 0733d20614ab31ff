"""Exits by reason, place and guest function: of a machine that runs, or of a trace.

An exit's registers say which instruction asked for it; a symbol table says in which function of the guest that lies.
"""

from __future__ import annotations

from minivm.inspect.times import bar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.trace import Event
    from minivm.inspect.symbols import Symbols

__all__ = ["Profile"]

SITES = 12  # instructions that a table shows
PREFIX = "KVM_EXIT_"


class Profile:
    """A sink that counts the exits among the events it is given."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str, str, int | None], list[int]] = {}  # (reason, what, device, rip) -> [count, ns in KVM_RUN]
        self.code: dict[int, tuple[bytes, int]] = {}  # rip -> (bytes around it, how many of them before it)
        self.bits: dict[int, int] = {}  # rip -> 16, 32 or 64: the mode that its code is in

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if not event.call.startswith(PREFIX):
            return
        data = event.data or {}
        rip = data.get("rip")
        entry = self.counts.setdefault((event.call, _what(data), _device(event), rip), [0, 0])
        entry[0] += 1
        entry[1] += event.duration
        if "code" in data and rip is not None:
            self.code[rip] = bytes.fromhex(data["code"]), data["code_before"]
            self.bits[rip] = data["code_bits"]

    def rows(self, symbols: Symbols | None) -> list[dict[str, Any]]:
        """Return one JSON object for each reason, place and function, the most frequent first."""
        merged: dict[tuple[str, str, str, str], list[int]] = {}
        for (reason, what, device, rip), (count, ns) in self.counts.items():
            entry = merged.setdefault((reason, what, device, _function(rip, symbols)), [0, 0])
            entry[0] += count
            entry[1] += ns
        rows = [
            {"reason": reason, "what": what, "device": device, "function": function, "count": count, "seconds": ns / 1e9}
            for (reason, what, device, function), (count, ns) in merged.items()
        ]
        return sorted(rows, key=lambda row: (-row["count"], row["reason"], row["what"], row["function"]))

    def sites(self, symbols: Symbols | None) -> list[dict[str, Any]]:
        """Return the instructions that exit most often, disassembled. Raises MinivmError where capstone is missing."""
        from minivm.inspect.disassembly import at_exit

        counts: dict[int, int] = {}
        for (_, _, _, rip), (count, _) in self.counts.items():
            if rip in self.code:
                counts[rip] = counts.get(rip, 0) + count
        most = sorted(counts, key=lambda rip: (-counts[rip], rip))[:SITES]
        return [
            {"rip": rip, "count": counts[rip], "where": symbols.name(rip) if symbols else f"{rip:#x}",
             "code": at_exit(*self.code[rip], rip, self.bits[rip])}
            for rip in most
        ]  # fmt: skip

    def table(self, symbols: Symbols | None) -> str:
        """Return the rows as a table for a person."""
        rows = self.rows(symbols)
        total = sum(row["count"] for row in rows)
        lines = [f"{'exits':>9}  {'':20}  {'in KVM_RUN':>10}  reason, place (device), function of the guest"]
        for row in rows:
            what = f" {row['what']}" if row["what"] else ""
            device = f" ({row['device']})" if row["device"] else ""
            name = row["reason"].removeprefix(PREFIX)
            lines.append(f"{row['count']:>9}  {bar(row['count'] / total)}  {row['seconds']:>8.3f} s  {name}{what}{device}"
                         f"{'  ' + row['function'] if row['function'] else ''}")  # fmt: skip
        return "\n".join([*lines, f"{total:>9}  total"])

    def listing(self, symbols: Symbols | None) -> str:
        """Return the sites as a listing for a person."""
        lines = []
        for site in self.sites(symbols):
            lines.append(f"{site['count']:>9}  {site['where']}")
            lines += [f"           {'=>' if line['exits'] else '  '} {line['address']:x}  {line['text']}" for line in site["code"]]
        return "\n".join(lines)


def _what(data: dict[str, Any]) -> str:
    """Return the place: a port, or the page of an address."""
    if "port" in data:
        return f"{data['direction']} {data['port']:#x}"
    return f"{data['direction']} {data['address']:#x}" if "address" in data else ""


def _device(event: Event) -> str:
    return event.args[-1] if event.data and ("port" in event.data or "address" in event.data) and event.args else ""


def _function(rip: int | None, symbols: Symbols | None) -> str:
    if rip is None or symbols is None:
        return ""
    found = symbols.function(rip)
    return found[0] if found else "?"
