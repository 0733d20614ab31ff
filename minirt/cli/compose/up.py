"""up and create: a project is made to be as its file says; and down."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.compose.lines import Lines, follow
from minirt.cli.compose.made import prepare
from minirt.cli.compose.project import by_labels, crew_of, project_of, teller, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.compose.project import Project
    from minirt.compose.watch import Rule
    from minirt.engine.container import Container

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Add up, create and down."""
    for name, text in (("up", "make and start what the file says"), ("create", "make what the file says, and start nothing")):
        parser = verb(verbs, name, up, text)
        parser.add_argument("--build", action="store_true", help="build images first")
        parser.add_argument("--pull", default="", choices=("always", "missing", "never"), help="fetch images (missing)")
        parser.add_argument("--quiet-pull", action="store_true", help="no progress of that")
        parser.add_argument("--force-recreate", action="store_true", help="make all containers anew")
        parser.add_argument("--no-recreate", action="store_true", help="keep containers as they are, whatever the file says")
        parser.add_argument("--remove-orphans", action="store_true", help="remove containers of services that are not in the file")
        parser.add_argument("--scale", action="append", default=[], metavar="SERVICE=N", help="so many containers of a service")
        parser.set_defaults(detach=True, wait=False, no_deps=False, no_start=name == "create", timeout=None, wait_timeout=None,
                            watch=False, prune="true")  # fmt: skip
        if name == "create":
            continue
        parser.set_defaults(detach=False)
        parser.add_argument("-d", "--detach", action="store_true", help="do not stay with them")
        parser.add_argument("-w", "--watch", action="store_true", help="stay, and bring in what changes on the host, as watch does")
        parser.add_argument("--wait", action="store_true", help="until they run, or are healthy; and do not stay with them")
        parser.add_argument("--wait-timeout", type=float, default=None, metavar="SECONDS", help="the longest to wait")
        parser.add_argument("--no-deps", action="store_true", help="without the services that they depend on")
        parser.add_argument("--no-start", action="store_true", help="start nothing")
        parser.add_argument("-t", "--timeout", type=float, default=None, metavar="SECONDS", help="for a container to end (10)")
        parser.add_argument("--no-log-prefix", action="store_true", help="lines without the container's name")
    add_down(verbs)


def add_down(verbs: Any) -> None:
    """Add down."""
    parser = verb(verbs, "down", take_down, "stop and remove containers and networks")
    parser.add_argument("-v", "--volumes", action="store_true", help="named volumes of the file, and anonymous ones, too")
    parser.add_argument("--rmi", default="", choices=("local", "all"), help="images too: those that were built, or all")
    parser.add_argument("--remove-orphans", action="store_true", help="containers of services that are not in the file, too")
    parser.add_argument("-t", "--timeout", type=float, default=None, metavar="SECONDS", help="for a container to end (10)")


def up(args: argparse.Namespace) -> int:
    """Make a project to be as its file says."""
    import time

    from minirt.compose.ready import orphans, wait_ready

    project, say = project_of(args), teller(args)
    names = project.order(args.services, alone=args.no_deps)
    rules = watched(args, project, names)
    work = prepare(project, names, args)
    work.again = "all" if args.force_recreate else "none" if args.no_recreate else "changed"
    work.start, work.timeout = not args.no_start, args.timeout
    work.until = None if args.wait_timeout is None else time.monotonic() + args.wait_timeout
    left = orphans(project)
    if left and args.remove_orphans:
        work.remove_all(left)
    elif left:
        listed = ", ".join(container.label for container in left)
        print(f"minirt: {listed}: of services that are not in the file: --remove-orphans removes them", file=sys.stderr)
    work.run(names)
    if args.wait:
        for name in names:
            wait_ready(project, name, condition_of(project, name), work.until, say)
    if args.detach or args.wait or args.no_start:
        return 0
    return stay(args, project, names, rules)


def watched(args: argparse.Namespace, project: Project, names: list[str]) -> list[Rule]:
    """Return what --watch looks at. Raises: UsageError, ComposeError where that is nothing."""
    from minirt.compose.watch import rules_of
    from minirt.errors import UsageError

    if not args.watch:
        return []
    for other in ("detach", "wait", "no_start"):
        if getattr(args, other):
            raise UsageError(f"--watch stays with the containers, and --{other.replace('_', '-')} does not: give one of them")
    return rules_of(project, names)


def condition_of(project: Project, name: str) -> str:
    """Return when a service is ready: when it has ended if that is what another waits for, healthy if it is checked, or running."""
    from minirt.compose.ready import of_project

    ended = "service_completed_successfully"
    if any(project.depends(other).get(name, {}).get("condition") == ended for other in project.services):
        return ended
    checked = any(container.state.get("health") for container in of_project(project.name, name))
    return "service_healthy" if checked else "service_started"


def stay(args: argparse.Namespace, project: Project, names: list[str], rules: list[Rule]) -> int:
    """Show what the containers write until all have ended, or watch until Ctrl-C, which stops them."""
    from minirt.compose.down import stop_all
    from minirt.compose.ready import of_project

    def containers() -> list[Container]:
        return [container for name in names for container in of_project(project.name, name)]

    try:
        if rules:
            show_and_watch(args, project, rules, containers)
        else:
            follow(containers(), prefix=not args.no_log_prefix)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        stop_all(containers(), project, args.timeout, crew_of(args))
        return 130
    return 0


def show_and_watch(
    args: argparse.Namespace, project: Project, rules: list[Rule], containers: Callable[[], list[Container]]
) -> None:
    """Show what the containers write, those too that are made or started again meanwhile, and do what changes ask for."""
    from minirt.cli.compose.watch import bring

    lines = Lines(prefix=not args.no_log_prefix)
    lines.show_beside()

    def look() -> None:
        if lines.broken:
            raise BrokenPipeError
        lines.add(containers())

    look()
    bring(project, rules, args, look)


def take_down(args: argparse.Namespace) -> int:
    """Remove what up made."""
    from minirt.compose.down import down

    project = by_labels(args)
    name = project.name if project is not None else args.project_name
    down(name, project, crew_of(args), services=args.services, volumes=args.volumes, images=args.rmi, orphans=args.remove_orphans,
         seconds=args.timeout)  # fmt: skip
    return 0
