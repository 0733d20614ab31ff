"""`minirt oci`: the OCI runtime's command line."""

from __future__ import annotations

import argparse

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the `oci` command."""
    parser = commands.add_parser("oci", help="the OCI runtime's commands, as runc has them (not implemented)")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    parser.set_defaults(run=refuse)


def refuse(args: argparse.Namespace) -> int:
    """Say that it is not there yet."""
    error = MinirtError(f"oci {' '.join(args.words[:1])}: not implemented".replace("  ", " "))
    error.exit_code = 1
    raise error
