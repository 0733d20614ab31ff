"""`minirt version`, `info`, `system`, `container`: the engine as a whole."""

from __future__ import annotations

import argparse
import json

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt system df
  minirt system prune --volumes -f
  minirt system info --format '{{.ContainersRunning}} of {{.Containers}} run'
"""
FILTERS = "until=TIME, label=KEY[=VALUE], label!=..."


def add_parser(commands: Any) -> None:
    """Add the commands."""

    def show(parent: Any, name: str, run: Any, text: str) -> None:
        parser = parent.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", formatter_class=Help,
                                   epilog=f"examples:\n  minirt {name}\n  minirt {name} --format json")  # fmt: skip
        parser.add_argument("-f", "--format", default="", metavar="TEMPLATE", help="json, or a template as '{{.Server.Version}}'")
        parser.set_defaults(run=run)

    show(commands, "version", print_version, "tell versions")
    show(commands, "info", print_info, "tell about the engine and its host")

    system = commands.add_parser("system", help="the engine as a whole: df, prune, info", epilog=EPILOG, formatter_class=Help,
                                 description="What the engine takes on the disk, and what of it nobody uses.")  # fmt: skip
    verbs = system.add_subparsers(dest="verb", metavar="VERB", required=True)
    df = verbs.add_parser("df", help="tell what images, containers, volumes and builds take on the disk", formatter_class=Help)
    df.add_argument("--format", default="table", metavar="FORMAT", help="table, json, or a template as '{{.Type}} {{.Size}}'")
    df.add_argument("-v", "--verbose", action="store_true", help="each image, container, volume and cache")
    df.set_defaults(run=disk)
    prune = verbs.add_parser("prune", help="remove what nobody uses", formatter_class=Help)
    prune.add_argument("-a", "--all", action="store_true", help="images that no container stands on, too")
    prune.add_argument("-f", "--force", action="store_true", help="do not ask")
    prune.add_argument("--volumes", action="store_true", help="volumes that nobody named, too")
    prune.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help=FILTERS)
    prune.set_defaults(run=prune_all)
    show(verbs, "info", print_info, "tell about the engine and its host")

    container = commands.add_parser("container", help="containers: prune; and the other commands under docker's longer names",
                                    formatter_class=Help, description="minirt container ls is minirt ps, container rm is rm ...",
                                    epilog="examples:\n  minirt container prune\n  minirt container ls -a")  # fmt: skip
    verbs = container.add_subparsers(dest="verb", metavar="VERB", required=True)
    sweep = verbs.add_parser("prune", help="remove the containers that do not run", formatter_class=Help)
    sweep.add_argument("-f", "--force", action="store_true", help="do not ask")
    sweep.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help=FILTERS)
    sweep.set_defaults(run=prune_containers)


def print_version(args: argparse.Namespace) -> int:
    """Print versions."""
    from minirt.engine.host_info import version

    return show_one(args.format, version(), "Client", "Version", "Platform")


def print_info(args: argparse.Namespace) -> int:
    """Print what is known of the engine."""
    from minirt.engine.host_info import info

    return show_one(args.format, info())


def show_one(how: str, found: dict[str, Any], *_: str) -> int:
    """Print an object: as lines, as JSON, by a template."""
    if how:
        from minirt.template import Template

        print(Template("{{json .}}" if how == "json" else how).run(found))
        return 0
    for key, value in found.items():
        if isinstance(value, dict):
            print(f"{key}:")
            for inner, one in value.items():
                print(f" {inner}: {plain(one)}")
        else:
            print(f"{key}: {plain(value)}")
    return 0


def plain(value: Any) -> str:
    """Return a value for people."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else json.dumps(value)


def disk(args: argparse.Namespace) -> int:
    """Print what is taken on the disk."""
    from minirt.cli.formats import Column, show, size
    from minirt.engine.disk import Disk

    if args.verbose:
        return disk_of_each()
    rows = []
    for share in Disk().shares():
        part = f" ({share.reclaimable * 100 // share.size}%)" if share.size else ""
        rows.append({
            "Type": share.kind, "TotalCount": str(share.total), "Active": str(share.active), "Size": size(share.size),
            "Reclaimable": size(share.reclaimable) + (part if share.kind != "Build Cache" else ""),
        })  # fmt: skip
    heads = (("TYPE", "Type"), ("TOTAL", "TotalCount"), ("ACTIVE", "Active"), ("SIZE", "Size"), ("RECLAIMABLE", "Reclaimable"))
    show(args.format, rows, [Column(*pair) for pair in heads])
    return 0


def disk_of_each() -> int:
    """Print what each image, container, volume and cache takes."""
    from minirt.cli.formats import ago, size, table
    from minirt.engine.disk import Disk

    found = Disk()
    lines = [["IMAGE", "SIZE", "SHARED SIZE", "UNIQUE SIZE"]]
    lines += [[cost.name, size(cost.stored + cost.unpacked), size(cost.shared), size(cost.unique)] for cost in found.images]
    print("Images space usage:\n\n" + table(lines))
    lines = [["CONTAINER ID", "IMAGE", "SIZE", "NAMES"]]
    lines += [[box.id[:12], str(box.state.get("image")), size(written), box.label] for box, written in found.containers]
    print("Containers space usage:\n\n" + table(lines))
    lines = [["VOLUME NAME", "LINKS", "SIZE"]]
    lines += [[volume.name, str(links), size(taken)] for volume, taken, links in found.volumes]
    print("Local Volumes space usage:\n\n" + table(lines))
    own = sum(one.size for one in found.caches if not one.shared)
    lines = [["CACHE ID", "CACHE TYPE", "SIZE", "LAST USED", "USAGE", "SHARED"]]
    for one in found.caches:
        kind = "exec.cachemount" if one.mount else "regular"
        lines.append([one.id.partition(":")[2][:12] or one.id[:12], kind, size(one.size), ago(one.used), str(one.count),
                      str(one.shared).lower()])  # fmt: skip
    print(f"Build cache usage: {size(own)}\n\n" + table(lines), end="")
    return 0


def prune_containers(args: argparse.Namespace) -> int:
    """Remove containers that do not run."""
    from minirt.cli.ask import agreed
    from minirt.cli.formats import size
    from minirt.engine.prune import prune_containers as prune

    if not agreed(args.force, "This removes all containers that do not run."):
        return 0
    ids, freed = prune(args.filter)
    tell("Deleted Containers:", ids)
    print(f"Total reclaimed space: {size(freed)}")
    return 0


def tell(head: str, names: list[str]) -> None:
    """Print what is gone, if anything is."""
    if names:
        print(f"{head}\n" + "\n".join(names) + "\n")


def prune_all(args: argparse.Namespace) -> int:
    """Remove what nobody uses."""
    from minirt.build.prune import prune as prune_builds
    from minirt.cli.ask import agreed
    from minirt.cli.formats import size
    from minirt.engine import prune as engine
    from minirt.engine.filters import Filters
    from minirt.engine.networks import prune as prune_networks
    from minirt.engine.volume_view import keeper
    from minirt.engine.volumes import prune

    images = "images that no container stands on" if args.all else "images without a tag"
    images += ", and all that builds keep" if args.all else ", and what builds have kept for long"
    more = ", volumes that nobody named and nobody uses" if args.volumes else ""
    if not agreed(args.force, f"This removes containers that do not run, networks that nobody is in{more}, {images}."):
        return 0
    ids, freed = engine.prune_containers(args.filter)
    tell("Deleted Containers:", ids)
    tell("Deleted Networks:", prune_networks(Filters(args.filter).values))
    if args.volumes:
        labels = [text for text in args.filter if text.startswith("label")]
        names, size_of_volumes = prune(False, keeper(labels))
        freed += size_of_volumes
        tell("Deleted Volumes:", names)
    untagged, gone, size_of_images = engine.prune_images(args.all, args.filter)
    tell("Deleted Images:", [*(f"untagged: {name}" for name in untagged), *(f"deleted: {digest}" for digest in gone)])
    freed += size_of_images
    if not args.filter:  # what builds keep has no label, and goes by when it was last used
        builds = prune_builds(args.all)
        tell("Deleted build cache objects:", builds.gone)
        freed += builds.freed
    print(f"Total reclaimed space: {size(freed)}")
    return 0
