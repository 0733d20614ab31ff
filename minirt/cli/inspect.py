"""`minirt inspect`: all that is known of containers, images, networks, volumes, as JSON or by a template."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["add_parser", "look_ups"]

EPILOG = """\
examples:
  minirt inspect web
  minirt inspect -f '{{.State.Status}} {{.State.Pid}}' web
  minirt inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web
  minirt inspect -f '{{json .Config.Env}}' busybox
  minirt inspect --type volume data
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "inspect", help="tell all about containers, images, networks, volumes", epilog=EPILOG, formatter_class=Help,
        description="Print all that is known of each, as JSON or by a template: of a container, else of what has the name.",
    )  # fmt: skip
    parser.add_argument("-f", "--format", default="", metavar="TEMPLATE", help="json, or as '{{.Id}}'")
    parser.add_argument("-s", "--size", action="store_true", help="of containers, what they have written too")
    parser.add_argument("--type", default="", choices=("container", "image", "network", "volume"), help="only one of these")
    parser.add_argument("names", nargs="+", metavar="NAME", help="name, or the beginning of an id")
    parser.set_defaults(run=inspect)


def look_ups(size: bool) -> dict[str, Callable[[str], dict[str, Any]]]:
    """Return what finds and describes, by the kind of object. Each raises MinirtError where there is none of the name."""

    def container(name: str) -> dict[str, Any]:
        from minirt.engine.container import find
        from minirt.engine.container_view import sizes
        from minirt.engine.inspect import inspect as look

        found = find(name)
        return {**look(found), **(sizes(found) if size else {})}

    def image(name: str) -> dict[str, Any]:
        from minirt.cli.image.listing import description
        from minirt.cli.image.verb import open_store

        store = open_store()
        return description(store, store.resolve(name))

    def network(name: str) -> dict[str, Any]:
        from minirt.engine.networks import inspect as look

        return look(name)

    def volume(name: str) -> dict[str, Any]:
        from minirt.engine.volume_view import described
        from minirt.volume.store import find

        return described(find(name))

    return {"container": container, "image": image, "network": network, "volume": volume}


def inspect(args: argparse.Namespace) -> int:
    """Print all that is known of each."""
    from minirt.cli.formats import show_objects
    from minirt.engine.container import NoContainer
    from minirt.errors import MinirtError

    known = look_ups(args.size)

    def look(name: str) -> dict[str, Any]:
        if args.type:
            return known[args.type](name)
        for find in known.values():
            try:
                return find(name)
            except MinirtError:
                continue
        raise NoContainer(f"no container, image, network or volume {name!r}")

    return show_objects(args.format, args.names, look)
