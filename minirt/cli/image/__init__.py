"""`minirt image …` and docker's short names for the same: words on the command line -> calls into minirt.image.

    verb.py      what every verb is made with: its parser, the store, an image by name
    print.py     sizes, times and tables as docker prints them
    listing.py   ls, inspect, history, du, tree
    names.py     tag, rm, prune
    archives.py  import, export, save, load
    checks.py    verify, diff
    signing.py   sign, keygen
    bootstrap.py bootstrap
    transfer.py  pull, push
    account.py   login, logout, search
    ../build.py  build
    short.py     docker's short names for some of these
    progress.py  bars, or lines
"""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["add_parser"]


def add_parser(subparsers: Subparsers) -> None:
    """Register `image` and its sub-commands; each sets `run`, a function of the arguments to the exit code."""
    from minirt.cli import build
    from minirt.cli.image import archives, bootstrap, checks, listing, names, signing, transfer

    parser = subparsers.add_parser("image", help="import, list, inspect, tag, verify, remove and prune images")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for module in (archives, bootstrap, listing, names, checks, signing, transfer):
        module.add(verbs)
    build.add_parser(verbs)
