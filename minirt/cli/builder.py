"""`minirt builder prune`: forget steps of builds and what their caches hold."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser("builder", help="prune what builds keep", description="What builds keep.", formatter_class=Help)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    prune = verbs.add_parser(
        "prune", help="forget steps that were not used for long, and content that nothing else needs",
        description="Forget steps of builds that were not used for 14 days, and remove content that no image needs.",
        epilog="examples:\n  minirt builder prune\n  minirt builder prune --all     and the caches of RUN --mount=type=cache",
        formatter_class=Help,
    )  # fmt: skip
    prune.add_argument("-a", "--all", action="store_true", help="all steps, and all caches")
    prune.add_argument("-f", "--force", action="store_true", help="as docker has it: nothing is asked here")
    prune.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    prune.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Prune, and print what went."""
    from minirt.build.prune import prune

    done = prune(args.all)
    if done.spared:
        print("minirt: a build is running: steps of the last day stay", file=sys.stderr)
    if args.format == "json":
        import json

        print(json.dumps({"Steps": done.steps, "Caches": done.caches, "Deleted": done.gone}))
        return 0
    print(f"forgot {done.steps} step{'' if done.steps == 1 else 's'} and {done.caches} cache{'' if done.caches == 1 else 's'}")
    for digest in done.gone:
        print(f"Deleted: {digest}")
    return 0
