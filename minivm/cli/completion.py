"""`minivm completion`: as minirt's."""

from __future__ import annotations

import argparse

from minirt.cli.completion import NEEDS, command, print_script
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    command(commands, "minivm").set_defaults(do=complete)


def complete(options: argparse.Namespace) -> int:
    """Print the script."""
    from minivm.cli.main import build_parser

    try:
        return print_script(build_parser(None), options.shell)
    except ImportError:
        raise MinivmError(NEEDS) from None
