"""docker's short names for verbs of `minirt image`: pull, push, images, rmi, tag, save, load, import, history."""

from __future__ import annotations

from minirt.cli.image import archives, listing, names, transfer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.cli.image.verb import Subparsers

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Register the commands: the same parsers and functions as the verbs have."""
    transfer.add(subparsers, "minirt")
    listing.add_ls(subparsers, "images")
    names.add_rm(subparsers, "rmi")
    names.add_tag(subparsers, "minirt tag")
    archives.add_save(subparsers, "minirt save")
    archives.add_load(subparsers, "minirt load")
    archives.add_import(subparsers, "minirt import")
    listing.add_history(subparsers, "minirt history")
