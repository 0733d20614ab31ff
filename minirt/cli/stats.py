"""`minirt stats`: what containers use, as a table or as it goes on."""

from __future__ import annotations

import argparse
import sys
from collections import deque

from minirt.cli.help import Help, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from minirt.engine.stats import Usage

__all__ = ["Plot", "add_parser", "bars"]

COLUMNS = (("CONTAINER ID", "ID"), ("NAME", "Name"), ("CPU %", "CPUPerc"), ("MEM USAGE / LIMIT", "MemUsage"), ("MEM %", "MemPerc"),
           ("NET I/O", "NetIO"), ("BLOCK I/O", "BlockIO"), ("PIDS", "PIDs"))  # fmt: skip
BARS = "▁▂▃▄▅▆▇█"
KEPT = 1000  # looks, more than a terminal is wide
LEAST = 1.0  # per cent of a processor, or bytes, that a whole bar stands for at least
HOME = "\033[H\033[J"  # what was printed before goes


def add_parser(commands: Any) -> None:
    """Add the command."""
    stats = commands.add_parser(
        "stats", help="what containers use", description="Show what running containers use, again and again.",
        epilog="examples:\n  minirt stats\n  minirt stats --no-stream --format json web\n  minirt stats --plot web db",
        formatter_class=Help,
    )  # fmt: skip
    stats.add_argument("--no-stream", action="store_true", help="once")
    stats.add_argument("--plot", action="store_true", help="processor and memory as bars, the newest on the right")
    stats.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (1)")
    stats.add_argument("--no-trunc", action="store_true", help="whole ids")
    stats.add_argument("--format", default="table", metavar="FORMAT", help="table, json, or as '{{.Name}} {{.CPUPerc}}'")
    stats.add_argument("containers", nargs="*", metavar="CONTAINER", help="by default all that run")
    stats.set_defaults(run=print_usage)


def print_usage(args: argparse.Namespace) -> int:
    """Print what containers use; on a terminal in place of what was printed before."""
    from minirt.cli.formats import Column, show
    from minirt.errors import UsageError

    if not 0 < args.interval < 3600:
        raise UsageError(f"--interval {args.interval:g}: seconds, more than 0")
    if args.plot and (args.no_stream or args.format != "table"):
        raise UsageError("--plot shows how it goes on: leave out --no-stream and --format")
    plot = Plot()
    for found in looks(args):
        if sys.stdout.isatty() and not args.no_stream and args.format == "table":
            print(HOME, end="")
        if args.plot:
            plot.add(found)
            print("\n".join(plot.lines(width())))
        else:
            show(args.format, [row(usage, args.no_trunc) for usage in found], [Column(*pair) for pair in COLUMNS])
        sys.stdout.flush()
    return 0


def looks(args: argparse.Namespace) -> Iterator[list[Usage]]:
    """Yield what the containers that are meant use, once or again and again."""
    from minirt.engine.container import containers, find
    from minirt.engine.stats import measure

    while True:
        chosen = [find(text) for text in args.containers] or [c for c in containers() if c.running]
        yield measure(chosen, args.interval)
        if args.no_stream:
            return


def row(usage: Usage, whole: bool) -> dict[str, Any]:
    """Return what a container uses as a row, in docker's fields."""
    from minirt.cli.formats import size

    id = usage.id if whole else usage.id[:12]
    share = usage.memory * 100 / usage.memory_limit if usage.memory is not None and usage.memory_limit else None
    return {
        "Container": id, "ID": id, "Name": usage.name,
        "CPUPerc": percent(usage.cpu),
        "MemUsage": f"{binary(usage.memory)} / {binary(usage.memory_limit)}",
        "MemPerc": percent(share),
        "NetIO": f"{size(usage.received)} / {size(usage.sent)}",
        "BlockIO": f"{size(usage.read)} / {size(usage.written)}",
        "PIDs": str(usage.pids),
    }  # fmt: skip


def percent(number: float | None) -> str:
    """Return per cent for people; `--` for what is not counted."""
    return "--" if number is None else f"{number:.2f}%"


def binary(number: float | None) -> str:
    """Return bytes of memory for people: units of 1024; `--` for what is not counted."""
    from minirt.cli.formats import scaled

    return "--" if number is None else scaled(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


class Plot:
    """What containers have used, look by look; those that are gone are forgotten."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}  # by id
        self.seen: dict[str, deque[tuple[float | None, float | None]]] = {}  # processor and memory, the newest last

    def add(self, found: Iterable[Usage]) -> None:
        """Take one look more."""
        before, self.seen, self.names = self.seen, {}, {}
        for usage in found:
            self.names[usage.id] = usage.name
            self.seen[usage.id] = before.get(usage.id) or deque(maxlen=KEPT)
            self.seen[usage.id].append((usage.cpu, usage.memory))

    def lines(self, wide: int) -> list[str]:
        """Return two lines for each container. Args: wide, columns that there are."""
        made = []
        for id, seen in self.seen.items():
            for number, what, text in ((0, "CPU", percent), (1, "MEM", binary)):
                values = [look[number] for look in seen]
                most = max([LEAST, *(value for value in values if value is not None)])
                before = f"{self.names[id] if not number else '':16.16} {what} {text(values[-1]):>9} "
                after = f" of {text(most)}" if values[-1] is not None else ""
                made.append(before + bars(values, most, max(wide - len(before) - len(after), 1)) + after)
        return made or ["no container runs"]


def bars(values: list[float | None], most: float, wide: int) -> str:
    """Return the newest values as bars, a column each, the newest on the right; nothing where there is none.

    Args: most, what a whole bar stands for; wide, columns.
    """
    shown = ["" if value is None else BARS[min(int(value * len(BARS) / most), len(BARS) - 1)] for value in values[-wide:]]
    return "".join(bar or " " for bar in shown).rjust(wide)
