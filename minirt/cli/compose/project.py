"""Which project is meant, and how its user is told what is done."""

from __future__ import annotations

import argparse
import sys
from contextlib import contextmanager

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from minirt.compose.crew import Crew
    from minirt.compose.images import Fetch
    from minirt.compose.project import Project
    from minirt.engine.container import Container
    from minirt.image.store import Image

__all__ = ["by_labels", "chosen", "crew_of", "fetcher", "project_of", "teller", "verb"]


def verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Add a verb, for services of the project."""
    described = f"{text[0].upper()}{text[1:]}."
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=described, formatter_class=Help)
    parser.set_defaults(run=run)
    parser.add_argument("services", nargs="*", metavar="SERVICE", help="by default all")
    return parser


def project_of(args: argparse.Namespace) -> Project:
    """Return the project that is meant. Raises: ComposeError."""
    from minirt.compose.project import load

    return load(args.files, args.project_name, args.project_directory, args.env_files, args.profiles, args.services)


def by_labels(args: argparse.Namespace) -> Project | None:
    """Return the project, None where -p names one that has no file here. Raises: ComposeError."""
    from minirt.compose.project import find_files
    from minirt.compose.text import ComposeError

    if args.project_name and not args.files:
        try:
            find_files(args.project_directory or ".")
        except ComposeError:
            return None
    args.profiles = [*args.profiles, "*"]  # what is there is meant, whatever its profile
    return project_of(args)


def chosen(args: argparse.Namespace, oneoff: bool = False) -> tuple[Project | None, list[Container]]:
    """Return the project, and its containers of the services that are named. Raises: ComposeError.

    Args: oneoff, those of `run` too.
    """
    from minirt.compose.ready import of_project
    from minirt.compose.service import SERVICE

    project = by_labels(args)
    found = of_project(project.name if project is not None else args.project_name, oneoff=oneoff)
    return project, [c for c in found if not args.services or c.state["labels"].get(SERVICE) in args.services]


def teller(args: argparse.Namespace) -> Callable[[str, str], None]:
    """Return what tells of each thing that is done."""

    def say(what: str, done: str) -> None:
        if args.progress != "quiet":
            print(f" {what}  {done}", file=sys.stderr, flush=True)

    return say


def crew_of(args: argparse.Namespace) -> Crew:
    """Return what does several things at the same time, and tells of them. Raises: UsageError."""
    import os

    from minirt.compose.crew import Crew
    from minirt.errors import UsageError

    text = os.environ.get("COMPOSE_PARALLEL_LIMIT", "") if args.parallel is None else str(args.parallel)
    if text and not text.removeprefix("-").isdecimal():
        raise UsageError(f"COMPOSE_PARALLEL_LIMIT={text}: how many things at the same time; -1: any number")
    return Crew(teller(args), int(text or -1))


@contextmanager
def fetcher(quiet: bool) -> Iterator[Fetch]:
    """Give what finds images by name and policy, several at a time; how far they are is shown together, from the first on."""
    import threading
    from contextlib import ExitStack

    from minirt.cli.image.progress import Transfer

    lock, begun = threading.Lock(), list[Transfer]()
    with ExitStack() as undo:

        def whole() -> Transfer:
            with lock:
                if not begun:
                    begun.append(undo.enter_context(Transfer(quiet)))
                return begun[0]

        def fetch(name: str, policy: str, wanted: Callable[[], bool]) -> Image:
            from minirt.cli.run import image_for
            from minirt.engine.options import RunOptions

            return image_for(RunOptions(name, pull=policy, quiet=quiet), lambda: whole().of(name), wanted)

        yield fetch
