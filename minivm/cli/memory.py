"""`minivm balloon` and `minivm hotplug`: take memory from a machine that runs, and give it more."""

from __future__ import annotations

from minirt.cli.help import Help
from minivm.cli.table import add_format, print_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
The machine was made with --balloon. What the guest's driver gives up goes back to the host; a guest that runs out of memory
takes it back by itself. Free memory goes back without any of this: the driver reports it.

examples:
  minivm balloon box              how large it is, and the guest's statistics
  minivm balloon box 128m         have it hold 128 MiB
  minivm balloon box 0            give all of it back
"""


HOTPLUG_EPILOG = """\
The machine was made with --hotplug. The guest's driver asks for the memory, and gives back what it can free: what is in use
stays until it is not.

examples:
  minivm hotplug box              how much there is, is to be, and may be
  minivm hotplug box 512m         have 512 MiB beside the memory from the start
  minivm hotplug box 0            take all of it back
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    parser = commands.add_parser(
        "balloon", help="take memory from a machine that runs, and give it back", epilog=EPILOG, formatter_class=Help,
        description="Set the size of a machine's balloon; without a size, say how it is.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("size", nargs="?", metavar="SIZE", help="what it is to hold: 64m, 1g, 0")
    add_format(parser)
    parser.set_defaults(do=_balloon)
    parser = commands.add_parser(
        "hotplug", help="give a machine that runs memory, and take it back", epilog=HOTPLUG_EPILOG, formatter_class=Help,
        description="Set how much memory is plugged into a machine; without a size, say how much is.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("size", nargs="?", metavar="SIZE", help="what is to be plugged: 64m, 1g, 0")
    add_format(parser)
    parser.set_defaults(do=_hotplug)


def _mebibytes(text: str) -> int:
    from minivm.machine.config import parse_size

    return parse_size(text) >> 20 if text.strip("0") else 0


def _answer(options: argparse.Namespace, place: str, wish: str, status: str, show: Callable[[dict[str, int]], None]) -> int:
    """Ask a machine for an amount, at `place` and by the name of `wish`; or say what it has, as `status` tells it."""
    from minivm.manager.client import request
    from minivm.manager.machines import find

    machine = find(options.name)
    if options.size is not None:
        request(machine, "PATCH", place, {wish: _mebibytes(options.size)})
        return 0
    found = request(machine, "GET", status)
    (print_json if options.format == "json" else show)(found)
    return 0


def _hotplug(options: argparse.Namespace) -> int:
    def show(found: dict[str, int]) -> None:
        amounts = (found[f"{name}_size_mib"] for name in ("plugged", "requested", "total"))
        print("{} MiB of {} MiB are plugged; {} MiB is the most".format(*amounts))

    return _answer(options, "/hotplug/memory", "requested_size_mib", "/hotplug/memory", show)


def _balloon(options: argparse.Namespace) -> int:
    def show(found: dict[str, int]) -> None:
        print(f"balloon      {found.pop('actual_mib')} MiB of {found.pop('target_mib')} MiB")
        for name, value in sorted(found.items()):
            if not name.endswith("_pages"):
                print(f"{name:20} {value}")

    return _answer(options, "/balloon", "amount_mib", "/balloon/statistics", show)
