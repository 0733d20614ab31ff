"""What is done to the image, or to the containers, of each service."""

from __future__ import annotations

import argparse

from minirt.cli.compose.project import chosen, crew_of, fetcher, project_of, teller, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.compose.crew import Say
    from minirt.engine.container import Container

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Add build, pull, and those that do one thing to each container."""
    build = verb(verbs, "build", build_all, "build the images of services that have build")
    build.add_argument("--no-cache", action="store_true", help="do every step again")
    build.add_argument("--pull", action="store_true", help="fetch base images")
    build.add_argument("-q", "--quiet", action="store_true", help="no progress")
    pull = verb(verbs, "pull", pull_all, "fetch the images of services")
    pull.add_argument("-q", "--quiet", action="store_true", help="no progress")
    verb(verbs, "start", each, "start containers that are there").set_defaults(do="start")
    for name, text in (("stop", "stop containers"), ("restart", "stop and start containers")):
        parser = verb(verbs, name, each, text)
        parser.set_defaults(do=name)
        parser.add_argument("-t", "--timeout", type=float, default=None, metavar="SECONDS", help="before KILL (10)")
    kill = verb(verbs, "kill", each, "send containers a signal")
    kill.set_defaults(do="kill")
    kill.add_argument("-s", "--signal", default="KILL", metavar="SIGNAL", help="name or number (KILL)")
    for name, text in (("pause", "hold containers still"), ("unpause", "let paused containers go on")):
        verb(verbs, name, each, text).set_defaults(do=name)
    rm = verb(verbs, "rm", remove_ended, "remove containers that do not run")
    rm.add_argument("-f", "--force", action="store_true", help="do not ask")
    rm.add_argument("-s", "--stop", action="store_true", help="stop them first")
    rm.add_argument("-v", "--volumes", action="store_true", help="and the volumes that were made for them alone")


def build_all(args: argparse.Namespace) -> int:
    """Build images."""
    from minirt.compose.images import build_services

    project = project_of(args)
    build_services(project, args.services or list(project.services), teller(args), args.no_cache, args.pull, args.quiet)
    return 0


def pull_all(args: argparse.Namespace) -> int:
    """Fetch images."""
    from minirt.compose.images import fetch_all
    from minirt.compose.service import image_name

    project, say = project_of(args), teller(args)
    names = [name for name in args.services or project.services if not project.everything[name].get("build")]
    with fetcher(args.quiet) as fetch:
        fetch_all({image_name(project, name): "always" for name in names}, fetch, say, "Pulled")
    return 0


def each(args: argparse.Namespace) -> int:
    """Do one thing to each container, in the order of their dependencies."""
    from minirt.compose.down import each_of, stop_all
    from minirt.engine import control
    from minirt.engine.start import start

    project, found = chosen(args)
    if args.do == "restart" and args.services and project is not None:
        args.services = list(project.restarted_with(args.services))
        project, found = chosen(args)
    crew = crew_of(args)
    if args.do in ("stop", "restart"):
        stop_all(found, project, args.timeout, crew)
    if args.do == "stop":
        return 0
    signal = control.signal_number(args.signal) if args.do == "kill" else 0
    do: dict[str, tuple[Callable[[Container], object], str]] = {
        "start": (start, "Started"), "restart": (start, "Started"), "pause": (control.pause, "Paused"),
        "unpause": (control.unpause, "Unpaused"), "kill": (lambda container: control.kill(container, signal), "Killed"),
    }  # fmt: skip
    call, word = do[args.do]

    def one(container: Container, say: Say) -> None:
        if args.do in ("start", "restart") or container.running:
            call(container)
            say(f"Container {container.label}", word)

    each_of(found, project, crew, one)
    return 0


def remove_ended(args: argparse.Namespace) -> int:
    """Remove containers that do not run."""
    from minirt.cli.ask import agreed
    from minirt.compose.down import stop_all
    from minirt.engine.removal import remove

    project, found = chosen(args, oneoff=True)
    if args.stop:
        stop_all(found, project, None, crew_of(args))
    ended = [container for container in found if not container.running]
    if ended and not agreed(args.force, f"This removes {', '.join(container.label for container in ended)}."):
        return 0
    for container in ended:
        remove(container, volumes=args.volumes)
        teller(args)(f"Container {container.label}", "Removed")
    return 0
