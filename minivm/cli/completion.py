"""`minivm completion`: a script that completes commands and flags, made from the parser by shtab."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "completion", help="print a completion script for bash or zsh",
        description="Print a completion script.", formatter_class=Help,
        epilog="examples:\n  source <(minivm completion bash)\n  minivm completion zsh > ~/.zfunc/_minivm",
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    parser.set_defaults(do=complete)


def complete(options: argparse.Namespace) -> int:
    """Print the script."""
    from minivm.cli.main import build_parser

    try:
        import shtab
    except ImportError:
        raise MinivmError("completion needs the package shtab: .venv/bin/pip install shtab") from None
    print(shtab.complete(build_parser(None), options.shell))
    return 0
