"""`minirt man`: manual pages, made from the parsers that read the commands, by argparse-manpage."""

from __future__ import annotations

import argparse
import os

from minirt import __version__
from minirt.cli.help import Help
from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["add_parser", "page", "parsers"]

Words = tuple[str, ...]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "man", help="show a command's manual page, or write all pages to a directory", formatter_class=Help,
        description="Show the manual page of a command; or write the pages of all commands, for man(1) to find.",
        epilog="examples:\n  minirt man run\n  minirt man volume create\n  minirt man --dir ~/.local/share/man/man1",
    )  # fmt: skip
    parser.add_argument("--dir", default="", metavar="DIR", help="write minirt.1, minirt-run.1, ... there")
    parser.add_argument("--roff", action="store_true", help="print the page's source, not the page")
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="by default minirt itself")
    parser.set_defaults(run=show)


def parsers(parser: argparse.ArgumentParser, words: Words = ()) -> Iterator[tuple[Words, argparse.ArgumentParser, str]]:
    """Yield (words, parser, one line about it) of a parser and of all commands below it; an alias is no command of its own."""
    yield words, parser, ""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            told = {choice.dest: choice.help or "" for choice in action._choices_actions}
            seen = set()
            for name, inner in action.choices.items():
                if id(inner) not in seen:
                    seen.add(id(inner))
                    below = parsers(inner, (*words, name))
                    next(below)
                    yield (*words, name), inner, told.get(name, "")
                    yield from below


def everything() -> dict[Words, tuple[argparse.ArgumentParser, str]]:
    """Return all parsers with a line about each, by their words."""
    from minirt.cli.main import build_parser

    whole = build_parser(None)
    return {words: (parser, text or "containers made of system calls") for words, parser, text in parsers(whole)}


def page(words: Words, parser: argparse.ArgumentParser, text: str) -> str:
    """Return a manual page's source (man 7 man). Raises: MinirtError."""
    try:
        from argparse_manpage.manpage import Manpage
    except ImportError:
        raise MinirtError("manual pages need the package argparse-manpage: .venv/bin/pip install argparse-manpage") from None
    parser.man_short_description = text  # type: ignore[attr-defined]
    epilog, parser.epilog = parser.epilog, None
    try:
        made = Manpage(parser, format="single-commands-section")
    finally:
        parser.epilog = epilog
    made.date, made.source, made.manual = "2026-11-26", f"minirt {__version__}", "minirt"
    made.prog = "-".join(["minirt", *words])
    if epilog:
        title, _, rest = epilog.strip().partition("\n")
        made.add_section(title.rstrip(":").upper(), ">", ".nf\n" + escape(rest) + "\n.fi")
    return str(made)


def escape(text: str) -> str:
    """Return text that roff prints as it is: no backslash of its own, no line that begins a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(f"\\&{line}" if line[:1] in (".", "'") else line for line in plain.splitlines())


def show(args: argparse.Namespace) -> int:
    """Show a page, or write all."""
    known = everything()
    if args.dir:
        os.makedirs(args.dir, exist_ok=True)
        for words, (parser, text) in known.items():
            with open(os.path.join(args.dir, "-".join(["minirt", *words]) + ".1"), "w", encoding="utf-8") as file:
                file.write(page(words, parser, text))
        print(f"{len(known)} pages in {args.dir}")
        return 0
    chosen = tuple(args.words)
    if chosen not in known:
        raise UsageError(f"man: no command {' '.join(chosen)!r}: `minirt --help` lists them")
    text = page(chosen, *known[chosen])
    if args.roff:
        print(text, end="")
        return 0
    return read(text)


def read(text: str) -> int:
    """Let man(1) show a page; where it is not installed, print its source."""
    import shutil
    import subprocess
    import sys

    if not shutil.which("man"):
        print(text, end="")
        return 0
    sys.stdout.flush()
    return subprocess.run(["man", "-l", "-"], input=text.encode(), check=False).returncode
