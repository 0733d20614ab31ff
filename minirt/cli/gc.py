"""`minirt gc`: remove what a killed minirt left."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "gc", help="remove what a killed minirt left",
        description="Remove what no process owns: containers half made, half removed or to be removed at their end,"
        " their cgroups and mounts, half-written content. Containers that ended stay (minirt rm removes them), and so"
        " does all that runs.",
        epilog="examples:\n  minirt gc --dry-run\n  minirt gc --format json",
        formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    parser.set_defaults(run=collect)


def collect(args: argparse.Namespace) -> int:
    """Print a line for each thing that goes."""
    from minirt.engine.gc import collect as collect_garbage

    found = collect_garbage(args.dry_run)
    if args.format == "json":
        import json

        print(json.dumps([g.as_dict() for g in found], indent=2))
        return 0
    for g in found:
        verb = "mended" if g.kind == "exited" else "removed"
        print(f"{'would be ' if args.dry_run else ''}{verb}: {g.kind} {g.path}: {g.why}")
    return 0
