"""`minirt ps` and `minirt rm`."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["add_parser", "add_ps"]

EPILOG = """\
examples:
  minirt ps
  minirt ps -a --filter status=exited
  minirt ps --format '{{.Names}}: {{.Status}}'
  minirt ps --format 'table {{.ID}}\\t{{.Label "com.docker.compose.service"}}'
  minirt rm $(minirt ps -aq)
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    raw = Help
    add_ps(commands.add_parser(
        "ps", help="list containers", description="List the containers that run; with -a those that have ended too.",
        epilog=EPILOG, formatter_class=raw,
    ))  # fmt: skip
    rm = commands.add_parser(
        "rm", help="remove containers", description="Remove containers that have ended, with what they changed.",
        epilog="examples:\n  minirt rm box\n  minirt rm 3f2a9c\n  minirt rm -f box     (kill it first)", formatter_class=raw,
    )  # fmt: skip
    rm.add_argument("-v", "--volumes", action="store_true", help="and the volumes that were made for them alone")
    rm.add_argument("-f", "--force", action="store_true", help="kill those that still run")
    rm.add_argument("containers", nargs="+", metavar="CONTAINER", help="name, or the beginning of an id")
    rm.set_defaults(run=remove)


def add_ps(ps: argparse.ArgumentParser) -> None:
    """Add the options of ps."""
    from minirt.cli.formats import HELP

    ps.add_argument("-a", "--all", action="store_true", help="those that have ended too")
    ps.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE",
                    help="id, name, label, status, exited, ancestor, before, since, volume, network, publish, health")  # fmt: skip
    ps.add_argument("-n", "--last", type=int, default=0, metavar="N", help="the newest N, whatever they do")
    ps.add_argument("-l", "--latest", action="store_true", help="the newest, whatever it does")
    ps.add_argument("-s", "--size", action="store_true", help="what they have written, and all of their files")
    ps.add_argument("-q", "--quiet", action="store_true", help="ids only")
    ps.add_argument("--no-trunc", action="store_true", help="whole ids and commands")
    ps.add_argument("--format", default="table", metavar="FORMAT", help=HELP)
    ps.set_defaults(run=list_containers)


def list_containers(args: argparse.Namespace) -> int:
    """Print the containers."""
    from minirt.cli.formats import Column, show
    from minirt.engine.container_view import chosen

    found = chosen(args.filter, args.all, 1 if args.latest else args.last)
    if args.quiet:
        print("".join(f"{c.id if args.no_trunc else c.id[:12]}\n" for c in found), end="")
        return 0
    wants_size = args.size or ".Size" in args.format
    rows = [row(container, args.no_trunc, wants_size) for container in found]
    columns = [Column(head, field) for head, field in (
        ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "RunningFor"), ("STATUS", "Status"),
        ("PORTS", "Ports"), ("NAMES", "Names"))]  # fmt: skip
    show(args.format, rows, [*columns, Column("SIZE", "Size")] if args.size else columns, {"CreatedAt": "CREATED AT"})
    if args.format == "table":
        for container in found:
            warn_if_alone(container)
    return 0


def warn_if_alone(container: Container) -> None:
    """Say it where nobody stays with a container that runs."""
    import sys

    from minirt.engine.container import ALONE
    from minirt.engine.gc import is_alone

    if is_alone(container):
        label = container.label
        print(f"minirt: {label}: {ALONE}: `minirt restart {label}` begins it anew with another", file=sys.stderr)


def row(container: Container, whole: bool, size: bool) -> dict[str, Any]:
    """Return a container as a row, in docker's fields."""
    import time

    from minirt.cli.formats import ago
    from minirt.cli.formats import size as as_size
    from minirt.engine.container_view import listed
    from minirt.template.show import quoted

    seen = listed(container, size)
    labels, command = seen["Labels"], seen["Command"]
    if not whole and len(command) > 20:
        command = command[:19] + "…"
    mounts = [mount.get("Name") or mount["Source"] for mount in seen["Mounts"]]
    written = f"{as_size(seen['SizeRw'])} (virtual {as_size(seen['SizeRootFs'])})" if size else "0B"
    return {
        "ID": container.id if whole else container.id[:12],
        "Names": container.label,
        "Image": seen["Image"],
        "Command": quoted(command, '"'),
        "CreatedAt": time.strftime("%Y-%m-%d %H:%M:%S +0000 UTC", time.gmtime(seen["Created"])),
        "RunningFor": ago(seen["Created"]),
        "Ports": ports(seen["Ports"]),
        "State": seen["State"],
        "Status": seen["Status"],
        "Size": written,
        "Labels": ",".join(f"{key}={value}" for key, value in sorted(labels.items())),
        "Label": lambda key: labels.get(key, ""),
        "Mounts": ",".join(name if whole or len(name) < 16 else name[:15] + "…" for name in mounts),
        "LocalVolumes": str(sum(mount["Type"] == "volume" for mount in seen["Mounts"])),
        "Networks": ",".join(seen["NetworkSettings"]["Networks"]),
        "Platform": None,
    }


def ports(found: list[dict[str, Any]]) -> str:
    """Return ports as docker lists them: 0.0.0.0:8080->80/tcp, 443/tcp."""
    texts = []
    for port in found:
        inside = f"{port['PrivatePort']}/{port['Type']}"
        address = port.get("IP") or "0.0.0.0"
        address = f"[{address}]" if ":" in address else address
        texts.append(f"{address}:{port['PublicPort']}->{inside}" if "PublicPort" in port else inside)
    return ", ".join(dict.fromkeys(texts))


def remove(args: argparse.Namespace) -> int:
    """Remove each; go on after one that cannot be."""
    from minirt.cli.lifecycle import AT_ONCE, for_each
    from minirt.engine.removal import remove as drop

    return for_each(args, lambda container: drop(container, args.force, args.volumes), AT_ONCE, lenient=args.force)
