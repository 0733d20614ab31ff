"""Base images from a distribution's archive: bootstrap."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.image.verb import open_store, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers

__all__ = ["add"]


def add(verbs: Subparsers) -> None:
    """Add the verbs."""
    parser = verb(
        verbs,
        "bootstrap",
        _bootstrap,
        "make a base image of Debian with apt, from its signed archive",
        "minirt image bootstrap debian                              debian:bookworm",
        "minirt image bootstrap --suite trixie --include ca-certificates debian debian:13",
        "minirt run --rm --net host debian:bookworm apt-get update",
    )
    parser.add_argument("distribution", choices=("debian",), help="debian: by mmdebstrap, which has to be installed")
    parser.add_argument("name", metavar="NAME", nargs="?", default="", help="for the image (debian:SUITE)")
    parser.add_argument("--suite", default="bookworm", metavar="NAME", help="the release (bookworm)")
    parser.add_argument("--variant", default="minbase", metavar="NAME", help="mmdebstrap's: which packages at least (minbase)")
    parser.add_argument("--include", action="append", default=[], metavar="PACKAGE[,PACKAGE]", help="more packages")
    parser.add_argument("--mirror", default="", metavar="URL", help="the archive (deb.debian.org, with security updates)")
    parser.add_argument("--refresh", action="store_true", help="make it again, though the cache has it")


def _bootstrap(args: argparse.Namespace) -> int:
    from minirt.cli.image.progress import Counter
    from minirt.image.bootstrap import bootstrap
    from minirt.image.errors import ImageError
    from minirt.image.reference import Reference
    from minirt.paths import cache_root

    for text in (args.suite, args.variant, *args.include):
        if not text or not text.replace(",", "a").replace("-", "a").replace("+", "a").replace(".", "a").isalnum() or text[0] == "-":
            raise ImageError(f"{text!r} is no name of a suite, a variant or packages")
    name = args.name or f"debian:{args.suite}"
    Reference.parse(name)
    include = [package for text in args.include for package in text.split(",") if package]

    def begins() -> None:
        if sys.stderr.isatty():
            print(f"mmdebstrap makes a root of Debian {args.suite} now: a minute or more, and only this once", file=sys.stderr)

    with Counter("importing", 0) as progress:
        image = bootstrap(
            open_store(), name, suite=args.suite, include=include, variant=args.variant, mirror=args.mirror,
            cache=f"{cache_root()}/bootstrap", refresh=args.refresh, progress=progress.advance, begins=begins,
        )  # fmt: skip
    print(image.id)
    return 0
