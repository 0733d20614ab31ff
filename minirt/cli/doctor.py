"""`minirt doctor`: what this machine offers, found by trying it, and what to do about the rest."""

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
        "doctor", help="tell what this machine offers and what to do about the rest",
        description="Try each kernel feature that minirt uses, and say what to do where one is missing.",
        epilog="examples:\n  minirt doctor\n  minirt doctor --format json",
        formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    parser.set_defaults(run=examine)


def examine(args: argparse.Namespace) -> int:
    """Print a line a probe. Exit code 1 if containers cannot run here."""
    from minirt.engine.doctor import probes

    results = [probe() for probe in probes()]
    if args.format == "json":
        import json

        print(json.dumps([r.as_dict() for r in results], indent=2))
    else:
        import sys

        from minirt.plan.explain import CYAN, GREEN, RED, Explainer

        paint = Explainer(sys.stdout).paint
        for r in results:
            mark = paint(GREEN, "ok     ") if r.good else paint(RED, "missing") if r.needed else paint(CYAN, "without")
            print(f"{mark}  {r.name}: {r.found}" + (f" -> {r.advice}" if r.advice and not r.good else ""))
    return int(any(r.needed and not r.good for r in results))
