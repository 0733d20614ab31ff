"""What every verb is made with: its parser, the store, an image by name."""

from __future__ import annotations

import argparse

from minirt import paths
from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.image.store import Image, Store

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["find", "open_store", "verb"]


def verb(
    verbs: Subparsers, name: str, run: Callable[[argparse.Namespace], int], text: str, *examples: str
) -> argparse.ArgumentParser:
    """Add a verb.

    Args: verbs, of which command; name; run, a function of the arguments to the exit code; text, one line of help;
    examples, one line each.
    Returns its parser, for its arguments.
    """
    parser = verbs.add_parser(
        name,
        help=text,
        description=text[0].upper() + text[1:] + ".",
        epilog="\n  ".join(["examples:", *examples]) if examples else None,
        formatter_class=Help,
    )
    parser.set_defaults(run=run)
    return parser


def open_store() -> Store:
    """Return the store of this user's images."""
    from minirt.image.store import Store

    return Store(paths.data_root() + "/image")


def find(store: Store, name: str) -> Image:
    """Return an image by name; `busybox` is made at its first use. Raises: ImageError."""
    from minirt.image.busybox import find

    return find(store, name)
