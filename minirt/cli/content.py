"""diff, export, commit, top: what is in containers."""

from __future__ import annotations

import argparse
import json
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

def add_parser(commands: Any) -> None:
    """Add the commands."""
    diff = commands.add_parser(
        "diff", help="what a container has changed", description="List what was added (A), changed (C) and deleted (D).",
        epilog="examples:\n  minirt diff web\n  minirt diff --format json web", formatter_class=Help,
    )  # fmt: skip
    diff.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    diff.set_defaults(run=print_changes)
    export = commands.add_parser(
        "export", help="a container's files as a tar", description="Write all files of a container as a tar.",
        epilog="examples:\n  minirt export -o web.tar web\n  minirt export web | tar t", formatter_class=Help,
    )  # fmt: skip
    export.add_argument("-o", "--output", default="-", metavar="FILE", help="where to (standard output)")
    export.set_defaults(run=write_files)
    commit = commands.add_parser(
        "commit", help="an image of a container as it is", description="Make an image of a container's changes; print its ID.",
        epilog="examples:\n  minirt commit web web:fixed\n  minirt commit -c 'CMD [\"httpd\", \"-f\"]' -m 'the config' web web:2",
        formatter_class=Help,
    )  # fmt: skip
    commit.add_argument("-a", "--author", default="", metavar="NAME", help="who made it")
    commit.add_argument("-m", "--message", default="", metavar="TEXT", help="why")
    commit.add_argument("-c", "--change", action="append", default=[], metavar="INSTRUCTION", help="as in a Dockerfile: CMD ...")
    commit.add_argument("-p", "--pause", choices=("true", "false"), default="true", help="hold it still meanwhile (true)")
    commit.set_defaults(run=make_image)
    top = commands.add_parser(
        "top", help="a container's processes", description="List a container's processes by ps(1), with the host's numbers.",
        epilog="examples:\n  minirt top web\n  minirt top web -o pid,rss,args", formatter_class=Help,
    )  # fmt: skip
    top.set_defaults(run=print_processes)
    for parser in (diff, export, commit, top):
        parser.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    commit.add_argument("image", nargs="?", default="", metavar="IMAGE", help="the new image's name")
    words = top.add_argument("words", nargs=argparse.REMAINDER, metavar="PS-OPTION", help="for ps (-ef)")
    words.required = False


def print_changes(args: argparse.Namespace) -> int:
    """Print what has changed."""
    from minirt.engine.changes import changes
    from minirt.engine.container import find

    found = changes(find(args.container))
    if args.format == "json":
        print(json.dumps([{"kind": kind, "path": path} for kind, path in found], indent=2))
        return 0
    for kind, path in found:
        print(f"{kind} {path}")
    return 0


def write_files(args: argparse.Namespace) -> int:
    """Write the tar."""
    import os

    from minirt.engine.changes import files
    from minirt.engine.container import find
    from minirt.errors import UsageError

    container = find(args.container)
    container.tell("export")
    pieces = files(container)
    if args.output == "-":
        if sys.stdout.isatty():
            raise UsageError("export: a tar is nothing for a terminal: give -o FILE")
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return 0
    try:
        with open(f"{args.output}.new", "wb") as file:
            file.writelines(pieces)
        os.rename(f"{args.output}.new", args.output)
    except OSError as error:
        raise UsageError(f"export -o {args.output}: {error.strerror}") from None
    return 0


def make_image(args: argparse.Namespace) -> int:
    """Make the image."""
    from minirt.build.commit import commit
    from minirt.engine.container import find

    print(commit(
        find(args.container), args.image, author=args.author, message=args.message, changes=args.change, pause=args.pause == "true"
    ))  # fmt: skip
    return 0


def print_processes(args: argparse.Namespace) -> int:
    """Print the processes."""
    from minirt.engine.container import find
    from minirt.engine.processes import pids_of
    from minirt.runtime.listing import show_ps

    return show_ps(pids_of(find(args.container)), args.words or ["-ef"])
