"""`minirt completion`: a script that completes commands and flags, made from the parser by shtab."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion", help="print a completion script for bash or zsh",
        description="Print a completion script.", formatter_class=Help,
        epilog="examples:\n  source <(minirt completion bash)\n  minirt completion zsh > ~/.zfunc/_minirt",
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(run=complete)


def complete(args: argparse.Namespace) -> int:
    """Print the script."""
    from minirt.cli.main import build_parser

    try:
        import shtab
    except ImportError:
        raise MinirtError("completion needs the package shtab: .venv/bin/pip install shtab") from None
    print(shtab.complete(build_parser(None), args.shell))
    return 0
