"""Whether content is what it says, and what images differ in: verify, diff."""

from __future__ import annotations

import argparse

from minirt.cli.image.transfer import boolean
from minirt.cli.image.verb import find, open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers
    from minirt.image.store import Store

__all__ = ["add"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    verify = verb(verbs, "verify", _verify, "compute an image's digests again and name what is damaged",
                  "minirt image verify busybox", "minirt image verify --all",
                  "minirt image verify --key team.pub registry.example/team/app:1")  # fmt: skip
    verify.add_argument("names", metavar="NAME", nargs="*")
    verify.add_argument("--all", action="store_true", help="every image of the store")
    verify.add_argument("--format", choices=("text", "json"), default="text", help="json: an object a blob")
    verify.add_argument("--key", default="", metavar="FILE", help="and ask for a signature by this public key")
    verify.add_argument("--tls-verify", type=boolean, nargs="?", const=True, default=True, metavar="true|false",
                        help="as for pull: where a signature that is not here is fetched from")  # fmt: skip
    diff = verb(verbs, "diff", _diff, "print what a second image has otherwise: A added, C changed, D deleted",
                "minirt image diff debian:12 mine", "minirt image diff --format json app:1 app:2")  # fmt: skip
    diff.add_argument("first", metavar="NAME")
    diff.add_argument("second", metavar="NAME")
    diff.add_argument("--format", choices=("text", "json"), default="text", help="json: an object a difference")


def _verify(args: argparse.Namespace) -> int:
    from minirt.errors import UsageError
    from minirt.image.errors import Damaged

    if bool(args.names) == args.all:
        raise UsageError("image verify: name images, or give --all")
    store = open_store()
    problems: list[str] = []
    for name in _names(store) if args.all else args.names:
        try:
            problems += _problems(args, store, name)
        except Damaged as error:
            problems.append(f"image {name!r}: {error}")
    if problems:
        raise Damaged("\n".join(problems))
    return 0


def _names(store: Store) -> list[str]:
    from minirt.image.errors import Attempt
    from minirt.image.index import name_of

    with Attempt(f"read the image store {store.root}"):
        return [name_of(entry) or str(entry.get("digest")) for entry in store.index.entries()]


def _problems(args: argparse.Namespace, store: Store, name: str) -> list[str]:
    """Check one image, print each blob's verdict, and return what is wrong."""
    import json

    from minirt.image.verify import verify

    problems = []
    image = find(store, name)
    if args.key:
        from minirt.cli.image.signing import check_key

        check_key(args, store, image)
        if args.format == "json":
            print(json.dumps({"Image": name, "Digest": image.digest, "Key": args.key, "Problem": ""}), flush=True)
        else:
            print(f"{image.digest}  signed by {args.key}", flush=True)
    for digest, problem in verify(store, image):
        if args.format == "json":
            print(json.dumps({"Image": name, "Digest": digest, "Problem": problem}), flush=True)
        else:
            print(f"{digest}  {'DAMAGED' if problem else 'ok'}", flush=True)
        problems += [f"image {name!r}: {problem}"] if problem else []
    return problems


def _diff(args: argparse.Namespace) -> int:
    import json

    from minirt.image.compare import differences

    store = open_store()
    for how, what in differences(find(store, args.first), find(store, args.second)):
        text = what.encode("utf-8", "surrogateescape").decode(errors="replace")
        print(json.dumps({"Kind": how, "Path": text}) if args.format == "json" else f"{how} {text}")
    return 0
