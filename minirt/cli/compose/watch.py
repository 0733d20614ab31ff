"""watch: a project's containers follow what changes on the host."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.compose.made import prepare
from minirt.cli.compose.project import project_of, teller, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.compose.project import Project
    from minirt.compose.watch import Rule

__all__ = ["add", "bring"]


def add(verbs: Any) -> None:
    """Add watch."""
    parser = verb(verbs, "watch", watch, "bring what changes on the host into services, or build or start them again")
    parser.description = (
        "Bring what changes on the host into services, or build or start them again, as the file says of each:\n"
        "develop: {watch: [{path: ./src, action: sync, target: /app}]}; sync, rebuild, restart, sync+restart, sync+exec."
    )
    parser.epilog = "examples:\n  minirt compose watch\n  minirt compose watch --no-up web"
    parser.add_argument("--no-up", action="store_true", help="do not build and start the services first")
    parser.add_argument("--prune", nargs="?", const="true", default="true", choices=("true", "false"),
                        help="remove the image that a rebuild replaces (true)")  # fmt: skip
    parser.add_argument("--quiet", action="store_true", help="do not show what a build does")
    parser.set_defaults(build=True, pull="", quiet_pull=True, no_deps=False, scale=[])


def watch(args: argparse.Namespace) -> int:
    """Watch until Ctrl-C."""
    from minirt.compose.watch import rules_of

    project = project_of(args)
    rules = rules_of(project, args.services or list(project.services))
    if not args.no_up:
        names = project.order(args.services)
        prepare(project, names, args).run(names)
    bring(project, rules, args)
    return 0


def bring(project: Project, rules: list[Rule], args: argparse.Namespace, look: Callable[[], object] = lambda: None) -> None:
    """Do what rules say of what changes, until Ctrl-C. Args: look, called now and then, and after each change."""
    from minirt.compose.watch import Watch, changes
    from minirt.errors import MinirtError

    say = teller(args)
    work = Watch(project, rules, lambda service: rebuild(project, service, args), say)
    work.begin()
    told = False
    for paths in changes(rules):
        if not told:
            for service in dict.fromkeys(rule.service for rule in rules):
                say(f"Service {service}", "Watched")
            told = True
        try:
            work.changed(paths)
        except MinirtError as error:  # such as a step that fails: the next change may mend it
            print(f"minirt: {error}", file=sys.stderr)
        look()


def rebuild(project: Project, service: str, args: argparse.Namespace) -> None:
    """Build a service's image, and make its containers of it. Raises: MinirtError."""
    from minirt.compose.service import image_name
    from minirt.engine.container import Conflict
    from minirt.engine.disk import open_store
    from minirt.engine.images import drop
    from minirt.image.errors import ImageError

    store = open_store()
    try:
        before = store.resolve(image_name(project, service))
    except ImageError:
        before = None
    prepare(project, [service], args, build=True).run([service])
    if before is not None and args.prune == "true":
        try:
            left = store.resolve(before.digest)
            if not left.name:
                drop(store, left, left.digest)
        except (ImageError, Conflict):
            pass  # it is gone, or a container of somebody else's stands on it
