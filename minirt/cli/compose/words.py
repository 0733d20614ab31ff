"""exec and run: one more command, in a container of a service or in one of its own."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.compose.project import chosen, project_of
from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add"]


def add(verbs: Any) -> None:
    """Add exec and run."""
    run = verbs.add_parser("exec", help="run one more command in a service's container", formatter_class=Help,
                           usage="minirt compose exec [OPTIONS] SERVICE COMMAND [ARG...]")  # fmt: skip
    run.add_argument("-d", "--detach", action="store_true", help="do not wait for its end")
    run.add_argument("-T", "--no-tty", action="store_true", help="no terminal (there is one if we have one)")
    run.add_argument("-u", "--user", default="", metavar="USER", help="names in the image, or numbers")
    run.add_argument("-w", "--workdir", default="", metavar="DIR", help="working directory")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    run.add_argument("--privileged", action="store_true", help="with all capabilities")
    run.add_argument("--index", type=int, default=1, metavar="N", help="in which of its containers (1)")
    run.add_argument("service", metavar="SERVICE")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    run.set_defaults(run=execute, services=[])
    add_run(verbs)


def add_run(verbs: Any) -> None:
    """Add run."""
    run = verbs.add_parser(
        "run", help="run a command in a container of its own, made as a service's are", formatter_class=Help,
        usage="minirt compose run [OPTIONS] SERVICE [COMMAND] [ARG...]",
        description="Run a command in a container of its own, made as a service's are, beside what that depends on. It has\n"
                    "no port of the host and is not found by the service's name, unless asked for.",
        epilog="examples:\n  minirt compose run --rm web sh\n  minirt compose run --rm --no-deps -T web env\n"
               "  minirt compose run -d --name task web ./work",
    )  # fmt: skip
    many = {"action": "append", "default": []}
    run.add_argument("-d", "--detach", action="store_true", help="do not stay with it; print its id")
    run.add_argument("--rm", action="store_true", help="remove it at its end")
    run.add_argument("--name", default="", metavar="NAME", help="instead of PROJECT-SERVICE-run-...")
    run.add_argument("-T", "--no-TTY", "--no-tty", dest="no_tty", action="store_true", help="no terminal (one if we have one)")
    run.add_argument("-i", "--interactive", action="store_true", default=True, help="give it our standard input (it has that)")
    run.add_argument("--entrypoint", default=None, metavar="COMMAND", help="in place of the image's, or the file's")
    run.add_argument("-e", "--env", metavar="NAME[=VALUE]", help="set a variable", **many)
    run.add_argument("-l", "--label", metavar="NAME=VALUE", help="add a label", **many)
    run.add_argument("-v", "--volume", metavar="SOURCE:PATH", help="mount this too", **many)
    run.add_argument("-u", "--user", default="", metavar="USER", help="names in the image, or numbers")
    run.add_argument("-w", "--workdir", default="", metavar="DIR", help="working directory")
    run.add_argument("-p", "--publish", metavar="PORT", help="publish a port, as minirt run does", **many)
    run.add_argument("-P", "--service-ports", action="store_true", help="publish the service's ports")
    run.add_argument("--use-aliases", action="store_true", help="be found by the service's names")
    run.add_argument("--no-deps", action="store_true", help="start nothing that the service depends on")
    run.add_argument("--build", action="store_true", help="build images first")
    run.add_argument("--pull", default="", choices=("always", "missing", "never"), help="fetch images (missing)")
    run.add_argument("-q", "--quiet-pull", action="store_true", help="no progress of that")
    run.add_argument("service", metavar="SERVICE")
    words = run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="instead of the service's own")
    words.required = False
    run.set_defaults(run=run_once, scale=[])


def execute(args: argparse.Namespace) -> int:
    """Run a command in a service's container."""
    from minirt.compose.ready import number_of
    from minirt.compose.text import ComposeError
    from minirt.engine.exec import execute as run
    from minirt.engine.options import RunOptions
    from minirt.errors import UsageError

    if not args.words:
        raise UsageError("compose exec: name a command after the service, as in minirt compose exec web ls")
    args.services = [args.service]
    _, found = chosen(args)
    container = next((c for c in found if number_of(c) == args.index), None)
    if container is None:
        raise ComposeError(f"service {args.service} has no container {args.index}: minirt compose up -d {args.service}")
    terminal = not args.no_tty and not args.detach and sys.stdin.isatty()
    options = RunOptions(str(container.state.get("image")), args.words, user=args.user, workdir=args.workdir, env=args.env,
                         privileged=args.privileged, detach=args.detach, tty=terminal, interactive=not args.detach)  # fmt: skip
    return run(container, options)


def run_once(args: argparse.Namespace) -> int:
    """Run a command in a container of its own."""
    from minirt.cli.compose.made import prepare
    from minirt.compose.oneoff import Asked, oneoff_options
    from minirt.compose.up import made
    from minirt.engine.start import run_detached

    args.services = [args.service]
    project = project_of(args)
    names = project.order(args.services, alone=args.no_deps)
    work = prepare(project, names, args)
    work.run([name for name in names if name != args.service])
    if not args.no_deps:
        work.await_dependencies(args.service, work.crew.say)
    terminal = not args.no_tty and not args.detach and sys.stdin.isatty()
    words = {key: getattr(args, key) for key in ("name", "rm", "entrypoint", "env", "label", "volume", "publish", "user", "workdir",
                                                  "service_ports", "use_aliases")}  # fmt: skip
    asked = Asked(args.service, args.words, tty=terminal, interactive=not args.detach, **words)
    image = work.images[args.service]
    container = made(project, args.service, oneoff_options(project, asked, image.id), image)
    if args.detach:
        print(run_detached(container).id)
        return 0
    from minirt.engine.attach import start_attached
    from minirt.engine.control import settle

    status = start_attached(container, True, begin=run_detached)
    if not container.running:
        settle(container)  # with --rm it is gone when we are
    return status
