"""`minirt events`: what happens to containers, images, networks and volumes."""

from __future__ import annotations

import argparse
import json
import sys
import time

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.state.events import Event

__all__ = ["add_parser", "line"]

EPILOG = """\
examples:
  minirt events
  minirt events --since 10m --until 0s          what has happened in the last ten minutes
  minirt events --filter type=container --filter event=die
  minirt events --filter container=web --format '{{.Time}} {{.Action}} {{.Actor.Attributes.exitCode}}'
  minirt events --since 1h --until 0s --format json | jq .Action

of --filter: type, event, container, image, network, volume, label; several of one: any of them.
"""


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "events", help="tell what happens, as it happens",
        description="Print what happens to containers, images, networks and volumes, until it is stopped. The last ten thousand"
        " events are kept.", epilog=EPILOG, formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("--since", default="", metavar="TIME", help="from then on: 2026-11-25T12:00:00Z, or 10m ago (now)")
    parser.add_argument("--until", default="", metavar="TIME", help="until then, and no longer")
    parser.add_argument("-f", "--filter", action="append", default=[], metavar="KEY=VALUE", help="only these")
    parser.add_argument("--format", default="", metavar="FORMAT", help="json, or a template as '{{.Action}} {{.ID}}'")
    parser.set_defaults(run=print_events)


def print_events(args: argparse.Namespace) -> int:
    """Print them."""
    from minirt.engine.events import events
    from minirt.engine.filters import Filters
    from minirt.engine.moments import seconds
    from minirt.template import Template

    since, until = (seconds(text) if text else None for text in (args.since, args.until))
    template = Template(args.format) if args.format not in ("", "json") else None
    for event in events(since, until, Filters(args.filter)):
        if template is not None:
            print(template.run(fields(event)))
        else:
            print(json.dumps(event.as_dict(), ensure_ascii=False) if args.format == "json" else line(event))
        sys.stdout.flush()
    return 0


def line(event: Event) -> str:
    """Return an event as docker prints it, in the time of the place."""
    local = time.localtime(event.time // 10**9)
    zone = time.strftime("%z", local)
    zone = "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}"
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{event.time % 10**9:09d}{zone}"
    attributes = ", ".join(f"{key}={value}" for key, value in sorted(event.attributes.items()))
    return f"{when} {event.type} {event.action} {event.id}" + (f" ({attributes})" if attributes else "")


def fields(event: Event) -> dict[str, Any]:
    """Return what a template may name."""
    told = event.as_dict()
    return {
        **told, "Status": event.action, "ID": event.id, "From": event.attributes.get("image", ""), "Scope": told["scope"],
        "Time": told["time"], "TimeNano": told["timeNano"],
    }  # fmt: skip
