"""`minirt why`: each usual cause of the last failure, tried on this machine."""

from __future__ import annotations

import argparse
import json
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.plan.why import Failed

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "why", help="try the usual causes of a failed call, and say which one holds",
        description="Take the system call that made the last `minirt run` fail, or the last one that failed in a trace; try each\n"
                    "usual cause of its errno on this machine, and say which one holds.",
        epilog="examples:\n  minirt why\n  minirt why birth.jsonl\n  minirt why --format json\n\n"
               "exit status: 0 a cause holds, 1 none of them does, 2 there is no failure to explain",
        formatter_class=Help,
    )  # fmt: skip
    parser.add_argument("trace", nargs="?", metavar="TRACE", help="of minirt run --trace (default: the last failure here)")
    parser.add_argument("--format", choices=("text", "json"), default="text", help="(text)")
    parser.set_defaults(run=why)


def why(args: argparse.Namespace) -> int:
    """Print the causes."""
    from minirt.plan.causes import usual_cause
    from minirt.plan.why import causes, kept

    failed = last_of(args.trace) if args.trace else kept()
    if failed is None:
        print(f"minirt: {'no call failed in this trace' if args.trace else 'nothing has failed here yet'}", file=sys.stderr)
        return 2
    found = list(causes(failed))
    if args.format == "json":
        told = {"call": failed.call, "args": list(failed.args), "errno": failed.errno, "step": failed.step}
        print(json.dumps({**told, "causes": [cause.as_dict() for cause in found]}, indent=2))
    else:
        print(f"step {failed.step}: {failed}" if failed.step else str(failed))
        for cause in found:
            print(f"  {({True: 'yes', False: 'no', None: '?'})[cause.holds]:<4} {cause.what}\n         {cause.seen}")
        if not any(cause.holds for cause in found):
            known = usual_cause(failed.call, failed.errno)
            print(f"none of these holds now{f'; usually: {known}' if known else ''} (man 2 {failed.call}, ERRORS)")
    return 0 if any(cause.holds for cause in found) else 1


def last_of(name: str) -> Failed | None:
    """Return the last call of a trace that failed. Raises: UsageError."""
    from minirt.errors import UsageError
    from minirt.plan.why import Failed
    from minirt.trace import read_trace

    try:
        with open(name, encoding="utf-8") as file:
            _, events = read_trace(file)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None
    failures = [event for event in events if event.errno]
    return Failed(failures[-1].call, failures[-1].args, failures[-1].errno, failures[-1].step) if failures else None
