"""`minirt completion`: a script that completes commands and flags, made from the parser by shtab."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["NEEDS", "add_parser", "command", "print_script"]

NEEDS = "completion needs the package shtab: .venv/bin/pip install shtab"


def add_parser(commands: Any) -> None:
    """Add the command."""
    command(commands, "minirt").set_defaults(run=complete)


def command(commands: Any, program: str) -> argparse.ArgumentParser:
    """Return the command `completion` of a program (minirt, minivm, tutor), added to its others."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion", help="print a completion script for bash, zsh or tcsh",
        description="Print a completion script.", formatter_class=Help,
        epilog=f"examples:\n  source <({program} completion bash)\n  {program} completion zsh > ~/.zfunc/_{program}",
    )  # fmt: skip
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose script")
    return parser


def complete(args: argparse.Namespace) -> int:
    """Print the script."""
    from minirt.cli.main import build_parser

    try:
        return print_script(build_parser(None), args.shell)
    except ImportError:
        raise MinirtError(NEEDS) from None


def print_script(parser: argparse.ArgumentParser, shell: str) -> int:
    """Print the script that completes a program's words. Raises: ImportError where shtab is missing."""
    import shtab

    _know_help(parser)
    print(shtab.complete(parser, shell))
    return 0


def _know_help(parser: argparse.ArgumentParser) -> None:
    """Add `help COMMAND`, which is no command to the parser (help.asked)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            known = list(action.choices)
            action.add_parser("help", help="show a command's help").add_argument("of", metavar="COMMAND", choices=known)
