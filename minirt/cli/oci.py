"""`minirt oci`: hands its words to minirt.runtime.command, which reads them by runc's rules and not argparse's."""

from __future__ import annotations

import argparse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the `oci` command, for `minirt --help` and shell completion."""
    parser = commands.add_parser("oci", help="the OCI runtime's commands, as runc has them")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.set_defaults(run=hand_over)


def hand_over(args: argparse.Namespace) -> int:
    """Run the OCI runtime's command line."""
    from minirt.runtime.command import main

    return main(args.words)
