"""What is here: ls, inspect, history, du, tree."""

from __future__ import annotations

import argparse

from minirt.cli.image.print import human, short, since, table
from minirt.cli.image.verb import find, open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.cli.image.verb import Subparsers
    from minirt.image.store import Image, Store

__all__ = ["add", "add_history", "add_ls", "description"]

NONE = "<none>"


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    add_ls(verbs, "ls")
    inspect = verb(verbs, "inspect", _inspect, "print all that is known of an image, as JSON", "minirt image inspect busybox")
    inspect.add_argument("-f", "--format", dest="template", default="", metavar="TEMPLATE", help="json, or as '{{.Id}}'")
    inspect.add_argument("names", metavar="NAME", nargs="+")
    add_history(verbs, "minirt image history")

    du = verb(verbs, "du", _du, "print what images cost on this disk, and how much of it they share",
              "minirt image du", "minirt image du --format json")  # fmt: skip
    du.add_argument("--format", choices=("table", "json"), default="table", help="json: an object a line")
    tree = verb(verbs, "tree", _tree, "print which image stands on which layers", "minirt image tree")
    tree.add_argument("--format", choices=("tree", "json"), default="tree", help="json: an object a layer")


def add_history(verbs: Subparsers, command: str) -> None:
    """Add the verb that tells how an image came about."""
    history = verb(verbs, "history", _history, "print how an image's layers came about, newest first",
                   f"{command} busybox", f"{command} --format json busybox")  # fmt: skip
    history.add_argument("--no-trunc", action="store_true", help="do not shorten")
    history.add_argument("--format", choices=("table", "json"), default="table", help="json: an object a line")
    history.add_argument("name", metavar="NAME")


def add_ls(verbs: Subparsers, name: str) -> None:
    """Add the verb that lists images, under a name."""
    command = "minirt images" if name == "images" else "minirt image ls"
    parser = verb(verbs, name, _ls, "list images", f"{command} -q", f"{command} --format json", f"{command} debian")
    parser.add_argument("names", metavar="NAME", nargs="*", help="only those of this repository, or with this name")
    parser.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
                        help="reference, label, dangling, before, since, until")  # fmt: skip
    parser.add_argument("--format", default="table", metavar="FORMAT", help="table, json, or as '{{.Repository}}:{{.Tag}}'")
    parser.add_argument("-a", "--all", action="store_true", help="signatures, too")
    parser.add_argument("--digests", action="store_true", help="the manifests' digests, too")
    parser.add_argument("--no-trunc", action="store_true", help="do not shorten")
    parser.add_argument("-q", "--quiet", action="store_true", help="only IDs")


def _ls(args: argparse.Namespace) -> int:
    from minirt.cli.formats import Column, show
    from minirt.engine.filters import Filters
    from minirt.engine.image_view import chosen

    wanted = [_parts(name) for name in args.names]
    found = chosen(open_store(), Filters(args.filter), signatures=args.all)
    rows = [_row(name, image, args.no_trunc) for name, image in found if _is_wanted(name, wanted)]
    if args.quiet:
        for row in rows:
            print(row["ID"])
        return 0
    heads = {"Repository": "REPOSITORY", "Tag": "TAG"}
    heads |= {"Digest": "DIGEST"} if args.digests else {}
    heads |= {"ID": "IMAGE ID", "CreatedSince": "CREATED", "Size": "SIZE"}
    show(args.format, rows, [Column(head, field) for field, head in heads.items()], {"CreatedAt": "CREATED AT", "Digest": "DIGEST"})
    return 0


def _parts(name: str) -> tuple[str, str]:
    """Part a name into repository and tag; what has a digest has no tag."""
    bare, at, _ = name.partition("@")
    colon = bare.rfind(":")
    if colon > bare.rfind("/"):
        return bare[:colon], bare[colon + 1 :]
    return bare, "" if at else NONE


def _is_wanted(name: str, wanted: list[tuple[str, str]]) -> bool:
    repository, tag = _parts(name)
    return not wanted or any(r == repository and t in (tag, NONE) for r, t in wanted)


def _inspect(args: argparse.Namespace) -> int:
    from minirt.cli.formats import show_objects

    store = open_store()
    return show_objects(args.template, args.names, lambda name: description(store, find(store, name)))


def _history(args: argparse.Namespace) -> int:
    import json

    from minirt.image.errors import printable

    image = find(open_store(), args.name)
    steps = list(_steps(image))
    if args.format == "json":
        for step in steps:
            print(json.dumps(step))
        return 0
    rows = []
    for row, step in enumerate(steps):
        by = printable(step["CreatedBy"])
        if len(by) > 45 and not args.no_trunc:
            by = by[:44] + "…"
        id = "<missing>" if row else image.id if args.no_trunc else short(image.id)
        rows.append([id, since(step["CreatedAt"]), by, human(step["Size"]), printable(step["Comment"])])
    table([["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"], *rows])
    return 0


def _steps(image: Image) -> list[dict[str, Any]]:
    """Return the history, newest first, each step with the bytes of its layer as stored."""
    sizes = [int(layer["size"]) for layer in image.manifest["layers"]]
    steps = []
    for step in image.config.get("history") or []:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        words = {"CreatedAt": "created", "CreatedBy": "created_by", "Comment": "comment"}
        steps.append({**{ours: str(step.get(theirs, "")) for ours, theirs in words.items()}, "Size": size})
    return steps[::-1]


def _row(name: str, image: Image | None, whole: bool) -> dict[str, str]:
    """One image, in the words of `docker image ls --format json`."""
    repository, tag = _parts(name)
    row = {"Repository": repository or NONE, "Tag": tag or NONE, "ID": "damaged", "Digest": ""}
    if image is None:
        return row | {"CreatedAt": "", "CreatedSince": "", "Size": ""}
    created = str(image.config.get("created", ""))
    return row | {
        "ID": image.id if whole else short(image.id),
        "Digest": image.digest,
        "CreatedAt": created,
        "CreatedSince": since(created),
        "Size": human(image.size),
    }


def description(store: Store, image: Image) -> dict[str, Any]:
    """One image, in the words of `docker image inspect`, and its manifest's layers."""
    from minirt.image.index import name_of

    names = [name_of(entry) for entry in store.index.entries() if entry.get("digest") == image.digest and name_of(entry)]
    repositories = sorted({_parts(name)[0] for name in names})
    return {
        "Id": image.id,
        "RepoTags": [name for name in names if "@" not in name],
        "RepoDigests": [f"{repository}@{image.digest}" for repository in repositories],
        "Digest": image.digest,
        "Created": image.config.get("created", ""),
        "Author": image.config.get("author", ""),
        "Architecture": image.config.get("architecture", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "Config": image.config.get("config") or {},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Layers": image.manifest["layers"],
        "History": image.config.get("history") or [],
    }


def _du(args: argparse.Namespace) -> int:
    import json

    from minirt.image.usage import usage

    costs = usage(open_store())
    if args.format == "json":
        for cost in costs:
            print(json.dumps({"Name": cost.name, "Stored": cost.stored, "Unpacked": cost.unpacked,
                              "Shared": cost.shared, "Unique": cost.unique}))  # fmt: skip
        return 0
    rows = [[cost.name, *map(human, (cost.stored, cost.unpacked, cost.shared, cost.unique))] for cost in costs]
    table([["IMAGE", "STORED", "UNPACKED", "SHARED", "UNIQUE"], *rows])
    return 0


def _tree(args: argparse.Namespace) -> int:
    import json

    from minirt.image.usage import stacks

    for layer in stacks(open_store()):
        if args.format == "json":
            print(json.dumps({"Chain": layer.chain, "Depth": layer.depth, "Size": layer.size, "Images": layer.names}))
        else:
            print(f"{layer.branch}{short(layer.chain)}  {human(layer.size)}  {', '.join(layer.names)}".rstrip())
    return 0
