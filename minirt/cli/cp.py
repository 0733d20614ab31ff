"""`minirt cp`: files between a container and the host."""

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
  minirt cp web:/etc/nginx/nginx.conf .
  minirt cp page.html web:/var/www/html/
  minirt cp site/. web:/var/www/html            what is in the directory, not the directory
  minirt cp web:/var/log - | tar t              a tar on standard output
  tar c site | minirt cp - web:/var/www         a tar from standard input
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "cp", help="copy files between a container and the host", formatter_class=Help, epilog=EPILOG,
        usage="minirt cp [OPTIONS] CONTAINER:PATH PATH|-\n       minirt cp [OPTIONS] PATH|- CONTAINER:PATH",
        description="Copy files and directories between a container, running or not, and the host.",
    )  # fmt: skip
    parser.add_argument("-a", "--archive", action="store_true", help="keep owners (else: root's in the container, yours here)")
    parser.add_argument("-L", "--follow-link", action="store_true", help="of a source that is a link, what it leads to")
    parser.add_argument("-q", "--quiet", action="store_true", help="do not say how much was copied")
    parser.add_argument("source", metavar="SOURCE")
    parser.add_argument("target", metavar="TARGET")
    parser.set_defaults(run=copy)


def split(text: str) -> tuple[str, str]:
    """Return (container, path) of a word; a path of the host has no container: it begins with / or ., or has no colon."""
    container, colon, path = text.partition(":")
    if not colon or text.startswith((".", "/")):
        return "", text
    return container, path


def copy(args: argparse.Namespace) -> int:
    """Copy one way or the other."""
    from minirt.cli.formats import size
    from minirt.engine.container import find
    from minirt.engine.files.copy import copy_in, copy_out, read_out, write_in
    from minirt.errors import UsageError

    (one, source), (other, target) = split(args.source), split(args.target)
    if bool(one) == bool(other):
        which = "between two containers" if one else "within the host"
        raise UsageError(f"cp: nothing is copied {which}: one of the two is CONTAINER:PATH (a path with a colon begins with ./)")
    if not source or not target:
        raise UsageError("cp: a path is missing after the colon")
    container = find(one or other)
    if one and target == "-":
        if sys.stdout.isatty():
            raise UsageError("cp: a tar is nothing for a terminal: name a file or directory")
        read_out(container, source, args.follow_link, sys.stdout.buffer.write)
        sys.stdout.buffer.flush()
        return 0
    if other and source == "-":
        write_in(container, target, sys.stdin.buffer)
        return 0
    how = copy_out if one else copy_in
    count = how(container, source, target, args.follow_link, args.archive)
    if sys.stderr.isatty() and not args.quiet:
        print(f"Successfully copied {size(count)} to {args.target}", file=sys.stderr)
    return 0
