"""`minirt ps` and `minirt rm`."""

from __future__ import annotations

import argparse

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the commands."""
    raw = Help
    ps = commands.add_parser(
        "ps", help="list containers", description="List the containers that run; with -a those that have ended too.",
        epilog="examples:\n  minirt ps\n  minirt ps -a --format json\n  minirt rm $(minirt ps -aq)",
        formatter_class=raw,
    )  # fmt: skip
    ps.add_argument("-a", "--all", action="store_true", help="those that have ended too")
    ps.add_argument("-q", "--quiet", action="store_true", help="ids only")
    ps.add_argument("--no-trunc", action="store_true", help="whole ids and commands")
    ps.add_argument("--format", choices=("table", "json"), default="table", help="how to print (table)")
    ps.set_defaults(run=list_containers)
    rm = commands.add_parser(
        "rm", help="remove containers", description="Remove containers that have ended, with what they changed.",
        epilog="examples:\n  minirt rm box\n  minirt rm 3f2a9c\n  minirt rm -f box     (kill it first)", formatter_class=raw,
    )  # fmt: skip
    rm.add_argument("-v", "--volumes", action="store_true", help="and the volumes that were made for them alone")
    rm.add_argument("-f", "--force", action="store_true", help="kill those that still run")
    rm.add_argument("containers", nargs="+", metavar="CONTAINER", help="name, or the beginning of an id")
    rm.set_defaults(run=remove)


def status_of(container: Container) -> str:
    """Return docker's words for a container's state."""
    from minirt.engine.inspect import status_of as word

    status, health = word(container), container.state["health"]
    if status == "running" and health:
        return f"running ({'health: ' if health == 'starting' else ''}{health})"
    if status != "exited":
        return "ending" if status == "creating" else status
    code = container.state.get("exit_code")
    return f"exited ({code})" if code is not None else "exited (minirt was killed before it saw how)"


def list_containers(args: argparse.Namespace) -> int:
    """Print the containers."""
    from minirt.engine.container import containers
    from minirt.engine.gc import mend

    shown = [c for c in containers() if mend(c) and (args.all or c.running)]
    if args.format == "json":
        import json

        print(json.dumps([{**c.state, "status": status_of(c)} for c in reversed(shown)], indent=2))
        return 0
    rows = [] if args.quiet else [("CONTAINER ID", "IMAGE", "COMMAND", "STATUS", "NAME")]
    for c in reversed(shown):
        command = " ".join(c.state.get("command") or ())
        if not args.no_trunc and len(command) > 30:
            command = command[:29] + "…"
        id = c.id if args.no_trunc else c.id[:12]
        rows.append((id, str(c.state.get("image")), command, status_of(c), str(c.state.get("name") or "")))
    if args.quiet:
        for row in rows:
            print(row[0])
        return 0
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    for row in rows:
        print("   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def remove(args: argparse.Namespace) -> int:
    """Remove each; go on after one that cannot be."""
    import sys

    from minirt.engine.container import ContainerError, find
    from minirt.engine.removal import remove as drop

    failed = 0
    for text in args.containers:
        try:
            drop(find(text), args.force, args.volumes)
            print(text)
        except ContainerError as error:
            print(f"minirt: {error}", file=sys.stderr)
            failed = 1
    return failed
