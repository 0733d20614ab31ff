"""What --stats and --profile say at the end of a run, and `minivm exits` of a trace."""

from __future__ import annotations

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable
    from typing import Any

    from minirt.trace import Event
    from minivm.inspect.profile import Profile
    from minivm.inspect.symbols import Symbols
    from minivm.machine.machine import Machine, Outcome

__all__ = ["kernel_code", "profile_as_dict", "profile_as_text", "report", "tell_code", "traced_code"]

FOUND = "VMCOREINFO"  # the event of a trace


def report(options: argparse.Namespace, machine: Machine, outcome: Outcome, code: int | None = None) -> str:
    """Return it, as --format says; `code`: what kernel_code returned, for --profile."""
    profile: Profile | None = options.profile or None
    symbols, lack = _symbols(options.symbols, machine.config.kernel, code) if profile else (None, "")
    if options.format == "json":
        import json

        data: dict[str, Any] = {"status": outcome.status, "exits": machine.exits.rows()}
        if machine.times:
            data["times"] = {f"vcpu{number}": row for number, row in sorted(machine.times.items())}
        return json.dumps(data | (profile_as_dict(profile, symbols) if profile else {}))
    from minivm.inspect.times import table

    parts = [machine.exits.table()] if profile is None else [profile_as_text(profile, symbols), lack]
    return "\n\n".join(part for part in (*parts, table(machine.times)) if part)


def profile_as_dict(profile: Profile, symbols: Symbols | None) -> dict[str, Any]:
    """Return a profile as a JSON object."""
    data: dict[str, Any] = {"profile": profile.rows(symbols)}
    try:
        data["sites"] = profile.sites(symbols)
    except MinivmError as error:
        data["lacks"] = str(error)
    return data


def profile_as_text(profile: Profile, symbols: Symbols | None) -> str:
    """Return a profile as tables for a person."""
    try:
        listing = profile.listing(symbols)
    except MinivmError as error:
        listing = f"({error})"
    return f"{profile.table(symbols)}\n\nthe instructions that exit most\n{listing}"


def kernel_code(machine: Machine) -> int | None:
    """Return where the code of the Linux is that has run in a machine, which is still open; None for other guests."""
    from minivm import kvm
    from minivm.inspect.paging import Modes
    from minivm.inspect.vmcoreinfo import code_at, vmcoreinfo

    if machine.config.kernel is None:
        return None
    ranges = [(base, pages.view(0, pages.size)) for base, pages in machine.memory]
    return code_at(vmcoreinfo(ranges, Modes.of(kvm.get_sregs(machine.vcpus[0].fd)), machine.bytes_at))


def tell_code(machine: Machine, code: int) -> None:
    """Put where kernel_code found the code into the trace: the addresses of its exits mean nothing without."""
    from minirt.trace import Event

    why = "The guest's Linux says so in its memory, for who reads its dumps: KASLR has put it anywhere."
    machine.recorder.tell(Event(FOUND, (f"_stext={code:#x}",), side="guest", step="run", why=why, data={"address": code}))


def traced_code(events: Iterable[Event]) -> int | None:
    """Return what tell_code has put into a trace; None where nothing."""
    found = (event.data.get("address") for event in events if event.call == FOUND and event.data)
    return next((code for code in found if isinstance(code, int)), None)


def _symbols(path: str | None, kernel: str | None, code: int | None) -> tuple[Symbols | None, str]:
    """Return the symbols, and in words why there are none; a file that was named must have some."""
    from minivm.boot.formats import default_kernel
    from minivm.inspect.symbols import read_symbols

    try:
        return read_symbols(path or kernel or default_kernel()).with_code_at(code), ""
    except MinivmError as error:
        if path:
            raise
        return None, f"without the guest's functions: {error}"
