"""`minirt graph`."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt graph
  minirt graph --format svg --output machine.svg
  minirt graph --format json | jq '.containers[].namespaces.net'
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "graph", help="the machine's containers as a picture", epilog=EPILOG, formatter_class=Help,
        description="Draw the containers that run: namespaces shared and not, cgroups with what they use, layers and mounts,"
        " bridges, pairs of interfaces, ports; from what the kernel says now.",
    )  # fmt: skip
    parser.add_argument("--format", choices=("text", "svg", "json"), default="text", help="how to draw (text)")
    parser.add_argument("-o", "--output", default="", metavar="FILE", help="write it there")
    parser.set_defaults(run=graph)


def graph(args: argparse.Namespace) -> int:
    """Draw."""
    from minirt.errors import UsageError
    from minirt.graph.facts import collect

    text = drawn(collect(), args.format, bool(args.output))
    if not args.output:
        print(text, end="")
        return 0
    try:
        with open(args.output, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"--output {args.output}: {error.strerror}") from None
    return 0


def drawn(facts: dict[str, Any], form: str, plain: bool) -> str:
    """Return the picture as text."""
    if form == "json":
        import json

        return json.dumps(facts, indent=2) + "\n"
    if form == "svg":
        from minirt.graph.svg import draw

        return draw(facts)
    from minirt.graph.text import render
    from minirt.plan.explain import Explainer

    paint = Explainer(sys.stdout, False if plain else None).paint
    return "".join(f"{line}\n" for line in render(facts, paint))
