"""`minirt volume`: words to the engine's volumes."""

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
  minirt volume create data
  minirt run --rm -v data:/data busybox sh -c 'echo kept > /data/note'
  minirt run --rm -v data:/data:ro busybox cat /data/note
  minirt volume create --opt type=tmpfs --opt device=tmpfs --opt o=size=64m scratch
  minirt volume ls --filter dangling=true
  minirt volume rm data
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "volume", help="directories that outlive containers", description="Volumes: directories that outlive the containers.",
        epilog=EPILOG, formatter_class=Help,
    )  # fmt: skip
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    make = verbs.add_parser("create", help="make a volume", formatter_class=Help)
    make.add_argument("-d", "--driver", default="local", metavar="NAME", help="local")
    make.add_argument("-o", "--opt", action="append", default=[], metavar="KEY=VALUE", help="type, device, o, as mount(8) has them")
    make.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="annotate it")
    make.add_argument("name", nargs="?", default="", metavar="NAME", help="by default one is made up")
    make.set_defaults(run=create)
    show = verbs.add_parser("ls", aliases=["list"], help="list volumes", formatter_class=Help)
    show.add_argument("-q", "--quiet", action="store_true", help="names only")
    show.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE", help="dangling, label, name, driver")
    show.add_argument("--format", default="table", metavar="FORMAT", help="table, json, or a template as '{{.Name}}' (table)")
    show.set_defaults(run=list_volumes)
    look = verbs.add_parser("inspect", help="tell all about volumes, as JSON", formatter_class=Help)
    look.add_argument("-f", "--format", default="", metavar="TEMPLATE", help="as '{{.Mountpoint}}'")
    look.add_argument("names", nargs="+", metavar="NAME")
    look.set_defaults(run=inspect)
    drop = verbs.add_parser("rm", aliases=["remove"], help="remove volumes that no container uses", formatter_class=Help)
    drop.add_argument("-f", "--force", action="store_true", help="one that is not there is no error")
    drop.add_argument("names", nargs="+", metavar="NAME")
    drop.set_defaults(run=remove)
    sweep = verbs.add_parser("prune", help="remove volumes that nobody named and nobody uses", formatter_class=Help)
    sweep.add_argument("-a", "--all", action="store_true", help="those with names too")
    sweep.add_argument("-f", "--force", action="store_true", help="do not ask")
    sweep.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help="label=KEY[=VALUE], label!=...")
    sweep.set_defaults(run=prune)


def create(args: argparse.Namespace) -> int:
    """Make one, and print its name."""
    from minirt.engine.values import parse_pairs
    from minirt.engine.volumes import create as make
    from minirt.errors import UsageError

    if args.driver != "local":
        raise UsageError(f"--driver {args.driver}: there is local")
    print(make(args.name, parse_pairs(args.label, "--label"), parse_pairs(args.opt, "--opt")).name)
    return 0


def list_volumes(args: argparse.Namespace) -> int:
    """Print those that the filters choose."""
    from minirt.cli.formats import Column, show
    from minirt.engine.volume_view import chosen, row

    found = chosen(args.filter)
    if args.quiet:
        print("".join(f"{volume.name}\n" for volume in found), end="")
        return 0
    show(args.format, [row(volume) for volume in found], [Column("DRIVER", "Driver"), Column("VOLUME NAME", "Name")])
    return 0


def inspect(args: argparse.Namespace) -> int:
    """Print all about some."""
    from minirt.cli.formats import show_objects
    from minirt.engine.volume_view import described
    from minirt.volume.store import find

    return show_objects(args.format, args.names, lambda name: described(find(name)))


def remove(args: argparse.Namespace) -> int:
    """Remove each; go on after one that cannot be."""
    from minirt.engine.volumes import remove as drop
    from minirt.errors import MinirtError
    from minirt.volume.store import load

    failed = 0
    for name in args.names:
        try:
            if not args.force or load(name) is not None:
                drop(name)
            print(name)
        except MinirtError as error:
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    return failed


def prune(args: argparse.Namespace) -> int:
    """Remove those that nobody uses."""
    from minirt.cli.ask import agreed
    from minirt.cli.formats import size
    from minirt.engine.volume_view import keeper
    from minirt.engine.volumes import prune as sweep

    which = "all volumes" if args.all else "all volumes without a name of their own"
    if not agreed(args.force, f"This removes {which} that no container uses."):
        return 0
    names, freed = sweep(args.all, keeper(args.filter))
    if names:
        print("Deleted Volumes:\n" + "\n".join(names) + "\n")
    print(f"Total reclaimed space: {size(freed)}")
    return 0
