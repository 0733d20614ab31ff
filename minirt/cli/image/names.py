"""Names given and taken away: tag, rm, prune."""

from __future__ import annotations

import argparse

from minirt.cli.image.verb import find, open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers
    from minirt.image.store import Store

__all__ = ["add", "add_rm", "add_tag"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    add_tag(verbs, "minirt image tag")
    add_rm(verbs, "rm")
    prune = verb(verbs, "prune", _prune, "remove images whose name went to another one, and what a killed import or pull left",
                 "minirt image prune", "minirt image prune --all --filter until=24h")  # fmt: skip
    prune.add_argument("-a", "--all", action="store_true", help="images with names, too, that no container stands on")
    prune.add_argument("-f", "--force", action="store_true", help="do not ask, with --all")
    prune.add_argument("--filter", action="append", default=[], metavar="KEY=VALUE", help="until, label, label!")


def add_tag(verbs: Subparsers, command: str) -> None:
    """Add the verb that gives an image another name."""
    tag = verb(verbs, "tag", _tag, "give an image another name", f"{command} busybox box:test")
    tag.add_argument("source", metavar="NAME")
    tag.add_argument("name", metavar="NEWNAME")


def add_rm(verbs: Subparsers, name: str) -> None:
    """Add the verb that removes images, under a name."""
    command = "minirt rmi" if name == "rmi" else "minirt image rm"
    rm = verb(verbs, name, _rm, "remove names, and what no other name leads to", f"{command} box:test debian",
              f"{command} --force 0123456789ab")  # fmt: skip
    rm.add_argument("names", metavar="NAME|ID", nargs="+")
    rm.add_argument("-f", "--force", action="store_true",
                    help="all names of an ID, and where a container stands on it (which keeps what it needs)")  # fmt: skip


def _tag(args: argparse.Namespace) -> int:
    from minirt.engine.images import tell_image

    store = open_store()
    image = find(store, args.source)
    store.tag(image.name or image.digest, args.name)
    tell_image("tag", args.name, image.id)
    return 0


def _rm(args: argparse.Namespace) -> int:
    from minirt.errors import MinirtError
    from minirt.image.errors import ImageError, UnknownImage

    store = open_store()
    errors = []
    for name in args.names:
        try:
            untagged, gone = _dropped(store, name, args.force)
        except MinirtError as error:
            if not (args.force and isinstance(error, UnknownImage)):
                errors.append(str(error))
            continue
        for one in untagged:
            print(f"Untagged: {one}")
        for digest in gone:
            print(f"Deleted: {digest}")
    if errors:
        raise ImageError("\n".join(errors))
    return 0


def _dropped(store: Store, name: str, force: bool) -> tuple[list[str], list[str]]:
    """Remove an image's name, or all that an ID has. Returns the names, and the digests of what went with them."""
    from minirt.engine.images import drop
    from minirt.image.errors import Damaged
    from minirt.image.reference import Reference

    try:
        image = store.resolve(name)
    except Damaged:  # nothing can be said of it but its name
        return [Reference.parse(name).familiar], store.remove(name)
    return drop(store, image, name, force)


def _prune(args: argparse.Namespace) -> int:
    from minirt.cli.ask import agreed
    from minirt.engine.prune import prune_images

    if args.all and not agreed(args.force, "This removes all images that no container stands on."):
        return 0
    store = open_store()
    untagged, gone, _ = prune_images(args.all, args.filter)
    for name in untagged:
        print(f"Untagged: {name}")
    for digest in gone:
        print(f"Deleted: {digest}")
    store.images()  # one that cannot be read keeps all content from being removed: say so
    return 0
