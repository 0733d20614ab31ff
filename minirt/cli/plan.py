"""`minirt plan`: plans beside each other."""

from __future__ import annotations

import argparse
import json
import os
import shlex

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt plan diff 'busybox true' '--read-only busybox true'
  minirt plan diff 'busybox true' '--cap-drop ALL --tmpfs /tmp busybox true'
  minirt run --plan --format json busybox true > one.json; minirt plan diff one.json '--userns auto busybox true'
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "plan", help="what two containers' plans differ in", description="Plans: the system calls of a container's birth.",
        epilog=EPILOG, formatter_class=Help,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    diff = verbs.add_parser(
        "diff", help="calls that only one of two has", epilog=EPILOG, formatter_class=Help,
        description="Print the calls that the first plan has and the second has not (-), and the other way round (+).",
    )  # fmt: skip
    diff.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    for name in ("one", "other"):
        diff.add_argument(name, metavar=name.upper(), help="words after `minirt run`, or a file of --plan --format json")
    diff.set_defaults(run=print_difference)


def print_difference(args: argparse.Namespace) -> int:
    """Print it; the exit status is 0 where there is none, 1 where there is, as diff(1)'s."""
    from minirt.plan.compare import compare

    changes = list(compare(load(args.one), load(args.other)))
    if args.format == "json":
        print(json.dumps([change.as_dict() for change in changes], indent=2))
        return int(bool(changes))
    heading = None
    for change in changes:
        if (change.step, change.side) != heading:
            heading = (change.step, change.side)
            print(f"{change.step}  [{change.side}]")
        print(f"{'+' if change.added else '-'} {change.call}")
        if change.why and change.added:
            print(f"      {change.why}")
    return int(bool(changes))


def load(text: str) -> dict[str, Any]:
    """Return a plan: from a file, or of a container that these words would run. Raises: UsageError."""
    from minirt.cli.main import build_parser
    from minirt.cli.run import options_of
    from minirt.engine.planned import plan_of
    from minirt.errors import UsageError
    from minirt.plan.decode import plan_as_dict

    if os.path.isfile(text):
        try:
            with open(text, encoding="utf-8") as file:
                found: dict[str, Any] = json.load(file)
            found["records"][0]["call"]
        except (ValueError, KeyError, IndexError, TypeError):
            raise UsageError(f"{text}: not a plan: minirt run --plan --format json ... > {text} makes one") from None
        return found
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"{text!r}: {error}") from None
    args = build_parser("run").parse_args(["run", *words])
    return plan_as_dict(plan_of(options_of(args)))
