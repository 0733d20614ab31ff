"""diff, export, commit, top, stats: what is in containers, and what they use."""

from __future__ import annotations

import argparse
import json
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.stats import Usage

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
    stats = commands.add_parser(
        "stats", help="what containers use", description="Show what running containers use, again and again.",
        epilog="examples:\n  minirt stats\n  minirt stats --no-stream --format json web", formatter_class=Help,
    )  # fmt: skip
    stats.add_argument("--no-stream", action="store_true", help="once")
    stats.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (1)")
    stats.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    stats.add_argument("containers", nargs="*", metavar="CONTAINER", help="by default all that run")
    stats.set_defaults(run=print_usage)
    for parser in (diff, export, commit, top):
        parser.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    commit.add_argument("image", nargs="?", default="", metavar="IMAGE", help="the new image's name")
    top.add_argument("words", nargs=argparse.REMAINDER, metavar="PS-OPTION", help="for ps (-ef)")


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


def print_usage(args: argparse.Namespace) -> int:
    """Print what containers use; on a terminal in place of what was printed before."""
    from minirt.engine.container import containers, find
    from minirt.engine.stats import measure
    from minirt.errors import UsageError

    if not 0 < args.interval < 3600:
        raise UsageError(f"--interval {args.interval:g}: seconds, more than 0")
    while True:
        chosen = [find(text) for text in args.containers] if args.containers else [c for c in containers() if c.running]
        found = measure(chosen, args.interval)
        if args.format == "json":
            print(json.dumps([usage.as_dict() for usage in found]))
        else:
            print(("\033[H\033[J" if sys.stdout.isatty() and not args.no_stream else "") + usage_table(found), flush=True)
        if args.no_stream:
            return 0


def usage_table(found: list[Usage]) -> str:
    """Return what containers use as text."""
    lines = [f"{'CONTAINER':<14}{'NAME':<20}{'CPU %':>8}{'MEMORY':>12}{'LIMIT':>12}{'PIDS':>6}{'READ':>10}{'WRITTEN':>10}"]
    for u in found:
        cpu = "-" if u.cpu is None else f"{u.cpu:.1f}"
        cells = (size(u.memory), size(u.memory_limit), u.pids, size(u.read), size(u.written))
        lines.append("{:<14}{:<20}{:>8}{:>12}{:>12}{:>6}{:>10}{:>10}".format(u.id[:12], u.name[:19], cpu, *cells))
    return "\n".join(lines)


def size(number: int | None) -> str:
    """Return bytes for people, `-` for what is not counted."""
    if number is None:
        return "-"
    value, unit = float(number), 0
    while value >= 1024 and unit < 4:
        value, unit = value / 1024, unit + 1
    return f"{value:.3g}{('B', 'KiB', 'MiB', 'GiB', 'TiB')[unit]}"


def print_processes(args: argparse.Namespace) -> int:
    """Print the processes."""
    import os

    from minirt.engine.container import find
    from minirt.engine.removal import running
    from minirt.runtime.listing import show_ps

    container = find(args.container)
    os.close(running(container))
    group = container.cgroup
    pids = group.all_pids() if group is not None else [container.state["pid"]]
    return show_ps(set(pids), args.words or ["-ef"])
