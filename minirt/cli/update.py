"""`minirt update`: other limits, another restart policy."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help
from minirt.cli.run import add_limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "update", help="change limits and restart policy of containers",
        description="Change the limits of containers, at once and for each later start, and whether they are started again.",
        epilog="examples:\n  minirt update --memory 128m --cpus 0.5 web\n  minirt update --restart unless-stopped $(minirt ps -q)",
        formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("--restart", default="", metavar="POLICY", help="no, on-failure[:N], always, unless-stopped")
    add_limits(parser)
    parser.add_argument("containers", nargs="+", metavar="CONTAINER", help="name, or the beginning of an id")
    parser.set_defaults(run=update_all)


def update_all(args: argparse.Namespace) -> int:
    """Change each; go on after one that cannot be."""
    from minirt.engine.container import find
    from minirt.engine.update import LIMITS, update
    from minirt.errors import MinirtError, UsageError

    changes = {name: value for name in (*LIMITS, "restart") if (value := getattr(args, name)) not in ("", None, [])}
    if not changes:
        raise UsageError("update: give one flag or more of what is to change: minirt update --help")
    failed = 0
    for text in args.containers:
        try:
            update(find(text), changes)
            print(text)
        except MinirtError as error:
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    return failed
