"""ps, logs and config: a project is looked at."""

from __future__ import annotations

import argparse

from minirt.cli.compose.lines import follow
from minirt.cli.compose.project import chosen, project_of, verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add"]


def add(verbs: Any) -> None:
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


def list_all(args: argparse.Namespace) -> int:
    """Print the containers."""
    from minirt.cli.containers import row
    from minirt.cli.formats import Column, show
    from minirt.compose.service import PROJECT, SERVICE

    _, found = chosen(args, oneoff=args.all)
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
    from minirt.engine.moments import moment
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
