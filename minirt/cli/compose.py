"""`minirt compose`: words to one call into minirt.compose."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.compose.project import Project
    from minirt.engine.container import Container
    from minirt.image.store import Image

__all__ = ["add_parser"]

EPILOG = """\
examples:
  minirt compose up -d --wait
  minirt compose ps
  minirt compose logs -f web
  minirt compose exec db psql -U postgres
  minirt compose up -d --scale worker=3
  minirt compose config --format json
  minirt compose down --volumes
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compose", help="services of a compose file: up, down, ps, logs, exec ...", epilog=EPILOG, formatter_class=Help,
        usage="minirt compose [-f FILE]... [-p NAME] VERB ...",
        description="Make the services of a compose file run together, with their networks and volumes.",
    )  # fmt: skip
    many = {"action": "append", "default": []}
    parser.add_argument("-f", "--file", dest="files", metavar="FILE", help="compose file; the later change the first", **many)
    parser.add_argument("-p", "--project-name", default="", metavar="NAME", help="instead of the directory's name")
    parser.add_argument("--project-directory", default="", metavar="DIR", help="what relative paths count from")
    parser.add_argument("--profile", dest="profiles", metavar="NAME", help="services of this profile, too; * for all", **many)
    parser.add_argument("--env-file", dest="env_files", metavar="FILE", help="variables for the compose file (.env)", **many)
    parser.add_argument("--progress", default="auto", choices=("auto", "plain", "quiet"), help="how it tells what it does")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, prog="minirt compose")
    add_up(verbs)
    add_down(verbs)
    add_looks(verbs)
    add_others(verbs)


def verb(verbs: Any, name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
    """Add a verb, for services of the project."""
    described = f"{text[0].upper()}{text[1:]}."
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=described, formatter_class=Help)
    parser.set_defaults(run=run)
    parser.add_argument("services", nargs="*", metavar="SERVICE", help="by default all")
    return parser


def add_up(verbs: Any) -> None:
    """Add up, create and start of it."""
    for name, text in (("up", "make and start what the file says"), ("create", "make what the file says, and start nothing")):
        parser = verb(verbs, name, up, text)
        parser.add_argument("--build", action="store_true", help="build images first")
        parser.add_argument("--pull", default="", choices=("always", "missing", "never"), help="fetch images (missing)")
        parser.add_argument("--quiet-pull", action="store_true", help="no progress of that")
        parser.add_argument("--force-recreate", action="store_true", help="make all containers anew")
        parser.add_argument("--no-recreate", action="store_true", help="keep containers as they are, whatever the file says")
        parser.add_argument("--remove-orphans", action="store_true", help="remove containers of services that are not in the file")
        parser.add_argument("--scale", action="append", default=[], metavar="SERVICE=N", help="so many containers of a service")
        parser.set_defaults(detach=True, wait=False, no_deps=False, no_start=name == "create", timeout=None, wait_timeout=None)
        if name == "create":
            continue
        parser.set_defaults(detach=False)
        parser.add_argument("-d", "--detach", action="store_true", help="do not stay with them")
        parser.add_argument("--wait", action="store_true", help="until they run, or are healthy; and do not stay with them")
        parser.add_argument("--wait-timeout", type=float, default=None, metavar="SECONDS", help="the longest to wait")
        parser.add_argument("--no-deps", action="store_true", help="without the services that they depend on")
        parser.add_argument("--no-start", action="store_true", help="start nothing")
        parser.add_argument("-t", "--timeout", type=float, default=None, metavar="SECONDS", help="for a container to end (10)")
        parser.add_argument("--no-log-prefix", action="store_true", help="lines without the container's name")


def add_down(verbs: Any) -> None:
    """Add down."""
    parser = verb(verbs, "down", take_down, "stop and remove containers and networks")
    parser.add_argument("-v", "--volumes", action="store_true", help="named volumes of the file, and anonymous ones, too")
    parser.add_argument("--rmi", default="", choices=("local", "all"), help="images too: those that were built, or all")
    parser.add_argument("--remove-orphans", action="store_true", help="containers of services that are not in the file, too")
    parser.add_argument("-t", "--timeout", type=float, default=None, metavar="SECONDS", help="for a container to end (10)")


def add_looks(verbs: Any) -> None:
    """Add ps, logs, config."""
    from minirt.cli.formats import HELP

    ps = verb(verbs, "ps", list_all, "list the project's containers")
    ps.add_argument("-a", "--all", action="store_true", help="those that have ended too")
    ps.add_argument("-q", "--quiet", action="store_true", help="ids only")
    ps.add_argument("--format", default="table", metavar="FORMAT", help=HELP)
    ps.set_defaults(services_only=False)
    ps.add_argument("--services", dest="services_only", action="store_true", help="services' names only")
    logs = verb(verbs, "logs", print_logs, "print what the services wrote")
    logs.add_argument("-f", "--follow", action="store_true", help="and what they write")
    logs.add_argument("-n", "--tail", default="all", metavar="N", help="the last N lines of each")
    logs.add_argument("-t", "--timestamps", action="store_true", help="when each line was written")
    logs.add_argument("--since", default="", metavar="TIME", help="only from then on")
    logs.add_argument("--until", default="", metavar="TIME", help="only before then")
    logs.add_argument("--no-log-prefix", action="store_true", help="lines without the container's name")
    config = verb(verbs, "config", print_config, "print the file as it is understood")
    config.add_argument("--format", default="yaml", choices=("yaml", "json"), help="how to print (yaml)")
    config.add_argument("-q", "--quiet", action="store_true", help="only say whether it can be")
    for name in ("services", "volumes", "networks", "profiles", "images"):
        config.add_argument(f"--{name}", dest=f"only_{name}", action="store_true", help=f"names of {name} only")
    config.add_argument("--hash", default="", metavar="SERVICE|*", help="the digest of a service's configuration")


def add_others(verbs: Any) -> None:
    """Add exec, build, pull, and those that do one thing to each container."""
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


def project_of(args: argparse.Namespace) -> Project:
    """Return the project that is meant. Raises: ComposeError."""
    from minirt.compose.project import load

    return load(args.files, args.project_name, args.project_directory, args.env_files, args.profiles, args.services)


def teller(args: argparse.Namespace) -> Callable[[str, str], None]:
    """Return what tells of each thing that is done."""

    def say(what: str, done: str) -> None:
        if args.progress != "quiet":
            print(f" {what}  {done}", file=sys.stderr, flush=True)

    return say


def fetcher(quiet: bool) -> Callable[[str, str], Image]:
    """Return what finds an image by name and policy."""

    def fetch(name: str, policy: str) -> Image:
        from minirt.cli.run import image_for
        from minirt.engine.options import RunOptions

        return image_for(RunOptions(name, pull=policy, quiet=quiet))

    return fetch


def up(args: argparse.Namespace) -> int:
    """Make a project to be as its file says."""
    import time

    from minirt.compose.images import images_for
    from minirt.compose.ready import orphans, wait_ready
    from minirt.compose.resources import ensure_networks, ensure_volumes
    from minirt.compose.up import Up

    project, say = project_of(args), teller(args)
    names = project.order(args.services, alone=args.no_deps)
    quiet = args.quiet_pull
    images = images_for(project, names, say, build=args.build, fetch=fetcher(quiet), pull=args.pull, quiet=quiet)
    ensure_networks(project, names, say)
    ensure_volumes(project, names, say)
    work = Up(project, images, say)
    work.scale = scales(project, args.scale)
    work.again = "all" if args.force_recreate else "none" if args.no_recreate else "changed"
    work.start, work.timeout = not args.no_start, args.timeout
    work.until = None if args.wait_timeout is None else time.monotonic() + args.wait_timeout
    left = orphans(project)
    if left and args.remove_orphans:
        for container in left:
            work.remove(container)
    elif left:
        listed = ", ".join(container.label for container in left)
        print(f"minirt: {listed}: of services that are not in the file: --remove-orphans removes them", file=sys.stderr)
    work.run(names)
    if args.wait:
        for name in names:
            wait_ready(project, name, condition_of(project, name), work.until, say)
    if args.detach or args.wait or args.no_start:
        return 0
    return stay(args, project, names)


def condition_of(project: Project, name: str) -> str:
    """Return when a service is ready: when it has ended if that is what another waits for, healthy if it is checked, or running."""
    from minirt.compose.ready import of_project

    ended = "service_completed_successfully"
    if any(project.depends(other).get(name, {}).get("condition") == ended for other in project.services):
        return ended
    checked = any(container.state.get("health") for container in of_project(project.name, name))
    return "service_healthy" if checked else "service_started"


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


def stay(args: argparse.Namespace, project: Project, names: list[str]) -> int:
    """Show what the containers write until all have ended; Ctrl-C stops them."""
    from minirt.compose.down import stop_all
    from minirt.compose.ready import of_project

    try:
        follow([c for name in names for c in of_project(project.name, name)], prefix=not args.no_log_prefix)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        stop_all([c for name in names for c in of_project(project.name, name)], project, args.timeout, teller(args))
        return 130
    return 0


def follow(
    found: list[Container], *, prefix: bool = True, tail: int | None = None, since: str = "", until: str = "", more: bool = True,
    timestamps: bool = False,
) -> None:  # fmt: skip
    """Print the lines of several containers as they come, each with its container's name."""
    import queue
    import threading

    from minirt.engine.logs import lines

    width = max((len(container.label) for container in found), default=0)
    waiting: queue.Queue[tuple[str, str] | None] = queue.Queue(1000)

    def read(container: Container) -> None:
        try:
            for line in lines(container, tail, since, until, more):
                waiting.put((container.label, f"{line.time} {line.text}" if timestamps else line.text))
        finally:
            waiting.put(None)

    for container in found:
        threading.Thread(target=read, args=(container,), daemon=True).start()
    left = len(found)
    while left:
        line = waiting.get()
        if line is None:
            left -= 1
            continue
        text = line[1] if line[1].endswith("\n") else f"{line[1]}\n"
        sys.stdout.write(f"{line[0].ljust(width)}  | {text}" if prefix else text)
        sys.stdout.flush()


def take_down(args: argparse.Namespace) -> int:
    """Remove what up made."""
    from minirt.compose.down import down

    project = by_labels(args)
    name = project.name if project is not None else args.project_name
    down(name, project, teller(args), services=args.services, volumes=args.volumes, images=args.rmi, orphans=args.remove_orphans,
         seconds=args.timeout)  # fmt: skip
    return 0


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


def chosen(args: argparse.Namespace) -> tuple[Project | None, list[Container]]:
    """Return the project, and its containers of the services that are named. Raises: ComposeError."""
    from minirt.compose.ready import of_project
    from minirt.compose.service import SERVICE

    project = by_labels(args)
    found = of_project(project.name if project is not None else args.project_name)
    return project, [c for c in found if not args.services or c.state["labels"].get(SERVICE) in args.services]


def list_all(args: argparse.Namespace) -> int:
    """Print the containers."""
    from minirt.cli.containers import row
    from minirt.cli.formats import Column, show
    from minirt.compose.service import PROJECT, SERVICE

    _, found = chosen(args)
    found = [c for c in found if args.all or c.running or c.state.get("status") == "restarting"]
    if args.quiet or args.services_only:
        names = [c.state["labels"][SERVICE] if args.services_only else c.id for c in found]
        print("".join(f"{name}\n" for name in dict.fromkeys(names)), end="")
        return 0
    rows = []
    for container in found:
        labels = container.state["labels"]
        one = row(container, False, False)
        health = container.state.get("health") or ""
        rows.append({**one, "Name": container.label, "Service": labels[SERVICE], "Project": labels[PROJECT], "Health": health,
                     "ExitCode": container.state.get("exit_code") or 0})  # fmt: skip
    heads = (("NAME", "Name"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("SERVICE", "Service"), ("CREATED", "RunningFor"),
             ("STATUS", "Status"), ("PORTS", "Ports"))  # fmt: skip
    show(args.format, rows, [Column(*pair) for pair in heads])
    return 0


def print_logs(args: argparse.Namespace) -> int:
    """Print what was written."""
    from minirt.engine.logs import moment
    from minirt.errors import UsageError

    if args.tail != "all" and not args.tail.isdigit():
        raise UsageError(f"--tail {args.tail}: a number, or all")
    tail = None if args.tail == "all" else int(args.tail)
    _, found = chosen(args)
    follow(found, prefix=not args.no_log_prefix, tail=tail, since=moment(args.since), until=moment(args.until), more=args.follow,
           timestamps=args.timestamps)  # fmt: skip
    return 0


def print_config(args: argparse.Namespace) -> int:
    """Print the file as it is understood."""
    import json

    from minirt.compose.service import config_hash, image_name

    project = project_of(args)
    value = {"name": project.name, **{key: part for key, part in project.document.value.items() if key not in ("name", "version")}}
    value["services"] = {name: one for name, one in project.services.items() if not args.services or name in args.services}
    lists = {
        "services": list(value["services"]), "volumes": list(project.part("volumes")), "networks": list(project.part("networks")),
        "profiles": sorted({str(p) for one in project.everything.values() for p in one.get("profiles") or ()}),
        "images": [image_name(project, name) for name in value["services"]],
    }  # fmt: skip
    for key, names in lists.items():
        if getattr(args, f"only_{key}"):
            print("".join(f"{name}\n" for name in names), end="")
            return 0
    if args.hash:
        for name in project.services if args.hash == "*" else args.hash.split(","):
            if name not in project.services:
                raise project.fail(f"no service {name!r}", "services")
            print(f"{name} {config_hash(project, name)}")
    elif not args.quiet and args.format == "json":
        print(json.dumps(value, indent=2, default=str))
    elif not args.quiet:
        import yaml

        print(yaml.safe_dump(value, sort_keys=False, default_flow_style=False), end="")
    return 0


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


def build_all(args: argparse.Namespace) -> int:
    """Build images."""
    from minirt.compose.images import build_services

    project = project_of(args)
    build_services(project, args.services or list(project.services), teller(args), args.no_cache, args.pull, args.quiet)
    return 0


def pull_all(args: argparse.Namespace) -> int:
    """Fetch images."""
    from minirt.compose.service import image_name

    project, fetch = project_of(args), fetcher(args.quiet)
    for name in args.services or project.services:
        if not project.everything[name].get("build"):
            fetch(image_name(project, name), "always")
            teller(args)(f"Image {image_name(project, name)}", "Pulled")
    return 0


def each(args: argparse.Namespace) -> int:
    """Do one thing to each container, in the order of their dependencies."""
    from minirt.compose.down import in_order, stop_all
    from minirt.engine import control
    from minirt.engine.start import start

    project, found = chosen(args)
    say = teller(args)
    if args.do in ("stop", "restart"):
        stop_all(found, project, args.timeout, say)
    if args.do == "stop":
        return 0
    signal = control.signal_number(args.signal) if args.do == "kill" else 0
    do: dict[str, tuple[Callable[[Container], object], str]] = {
        "start": (start, "Started"), "restart": (start, "Started"), "pause": (control.pause, "Paused"),
        "unpause": (control.unpause, "Unpaused"), "kill": (lambda container: control.kill(container, signal), "Killed"),
    }  # fmt: skip
    call, word = do[args.do]
    for container in reversed(in_order(found, project)):
        if args.do in ("start", "restart") or container.running:
            call(container)
            say(f"Container {container.label}", word)
    return 0


def remove_ended(args: argparse.Namespace) -> int:
    """Remove containers that do not run."""
    from minirt.cli.ask import agreed
    from minirt.compose.down import stop_all
    from minirt.engine.removal import remove

    project, found = chosen(args)
    if args.stop:
        stop_all(found, project, None, teller(args))
    ended = [container for container in found if not container.running]
    if ended and not agreed(args.force, f"This removes {', '.join(container.label for container in ended)}."):
        return 0
    for container in ended:
        remove(container, volumes=args.volumes)
        teller(args)(f"Container {container.label}", "Removed")
    return 0
