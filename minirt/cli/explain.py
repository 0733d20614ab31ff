"""`minirt explain`: a trace, told again as --explain told it, or as a page that can be stepped through."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "explain", help="tell a trace again, or make a page of it",
        description="Tell what a trace holds (minirt run --trace FILE, minivm run --trace FILE): no root, no container is needed.",
        epilog="examples:\n  minirt run --trace birth.jsonl --rm busybox true\n  minirt explain birth.jsonl\n"
               "  minirt explain birth.jsonl --html birth.html",
        formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("file", metavar="FILE", help="of --trace")
    parser.add_argument("--html", default="", metavar="OUT", help="write a page that steps forward and back through it")
    parser.set_defaults(run=explain)


def explain(args: argparse.Namespace) -> int:
    """Print it, or write the page."""
    from minirt.errors import UsageError
    from minirt.trace import open_trace

    try:
        header, events = open_trace(args.file)
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not args.html:
        from minirt.plan.explain import Explainer

        tell = Explainer(sys.stdout)
        for event in events:
            tell(event)
        return 0
    from minirt.plan.player import page

    if header.get("kind") == "machine":
        from minivm.inspect.told import ready  # the one place where minirt looks into minivm: it knows what a guest's code says

        events = ready(events)
    try:
        with open(f"{args.html}.new", "w", encoding="utf-8") as file:
            file.write(page(header, events))
        os.rename(f"{args.html}.new", args.html)
    except OSError as error:
        raise UsageError(f"--html {args.html}: {error.strerror}") from None
    return 0
