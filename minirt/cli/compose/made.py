"""What makes the containers of services, as the command line has it: images there, so many of each."""

from __future__ import annotations

import argparse

from minirt.cli.compose.project import crew_of, fetcher, teller

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.compose.project import Project
    from minirt.compose.up import Up

__all__ = ["prepare", "scales"]


def prepare(project: Project, names: list[str], args: argparse.Namespace, build: bool = False) -> Up:
    """Return what makes containers of services; their images, networks and volumes are there then.

    Args: build, build images whatever --build says.
    """
    from minirt.compose.images import images_for
    from minirt.compose.resources import ensure_networks, ensure_volumes
    from minirt.compose.up import Up

    say, quiet = teller(args), args.quiet_pull
    with fetcher(quiet) as fetch:
        images = images_for(project, names, say, build=build or args.build, fetch=fetch, pull=args.pull, quiet=quiet)
    ensure_networks(project, names, say)
    ensure_volumes(project, names, say)
    work = Up(project, images, crew_of(args))
    work.scale = scales(project, args.scale)
    return work


def scales(project: Project, given: list[str]) -> dict[str, int]:
    """Return --scale's numbers. Raises: UsageError."""
    from minirt.errors import UsageError

    found = {}
    for text in given:
        name, _, number = text.partition("=")
        if name not in project.services or not number.isdecimal():
            raise UsageError(f"--scale {text}: it is written SERVICE=N, for a service of the file")
        found[name] = int(number)
    return found
