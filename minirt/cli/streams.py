"""attach, exec, logs: what a container reads and writes."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the commands."""
    logs = commands.add_parser(
        "logs", help="print what a container wrote", description="Print what a detached container wrote to its streams.",
        epilog="examples:\n  minirt logs web\n  minirt logs -f --tail 10 web\n  minirt logs -t --since 10m web",
        formatter_class=Help,
    )  # fmt: skip
    logs.add_argument("-f", "--follow", action="store_true", help="and what comes, until it has ended")
    logs.add_argument("-n", "--tail", default="all", metavar="N", help="only so many lines from the end (all)")
    logs.add_argument("--since", default="", metavar="TIME", help="only from then on: 2026-11-25T12:00:00Z, or 10m ago")
    logs.add_argument("--until", default="", metavar="TIME", help="only before then")
    logs.add_argument("-t", "--timestamps", action="store_true", help="when each line was written")
    logs.add_argument("--details", action="store_true", help="what --log-opt labels=NAMES and env=NAMES name, before each line")
    logs.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    logs.set_defaults(run=print_logs)

    attach = commands.add_parser(
        "attach", help="be at a container's streams or terminal",
        description="Stay with a detached container: its output is ours, our input its own; its exit status is ours in the end.",
        epilog="examples:\n  minirt attach shell        (ctrl-p ctrl-q leaves it)\n  minirt attach --no-stdin web",
        formatter_class=Help,
    )  # fmt: skip
    attach.add_argument("--no-stdin", action="store_true", help="only look")
    attach.add_argument("--detach-keys", default="", metavar="KEYS", help="leave it with these")
    attach.add_argument("--sig-proxy", choices=("true", "false"), default="true", help="pass signals on to it (true)")
    attach.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    attach.set_defaults(run=attach_to)

    run = commands.add_parser(
        "exec", help="run one more command in a container", description="Run one more command in a container that runs.",
        usage="minirt exec [OPTIONS] CONTAINER COMMAND [ARG...]",
        epilog="examples:\n  minirt exec web ls /\n  minirt exec -it web sh\n  minirt exec -u nobody -w /tmp web id\n\n"
               "exit status: the command's own; 126 and 127 as for run", formatter_class=Help,
    )  # fmt: skip
    run.add_argument("-i", "--interactive", action="store_true", help="give it our standard input")
    run.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    run.add_argument("-d", "--detach", action="store_true", help="do not wait for its end")
    run.add_argument("-u", "--user", default="", metavar="USER[:GROUP]", help="names in the image, or numbers")
    run.add_argument("-w", "--workdir", default="", metavar="DIR", help="working directory")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set a variable")
    run.add_argument("--env-file", action="append", default=[], metavar="FILE", help="set variables from a file")
    run.add_argument("--detach-keys", default="ctrl-p,ctrl-q", metavar="KEYS", help="leave it with these (ctrl-p,ctrl-q)")
    run.add_argument("--privileged", action="store_true", help="with all capabilities")
    run.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    run.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND", help="and its arguments")
    run.set_defaults(run=execute)


def print_logs(args: argparse.Namespace) -> int:
    """Print the lines, each to the stream that it was written to."""
    from minirt.cli.containers import warn_if_alone
    from minirt.engine.container import find
    from minirt.engine.logs import details, lines
    from minirt.engine.moments import moment
    from minirt.errors import UsageError

    if args.tail not in ("all", "-1") and not args.tail.isdigit():
        raise UsageError(f"--tail {args.tail}: a number, or all")
    tail, container = int(args.tail) if args.tail.isdigit() else None, find(args.container)
    warn_if_alone(container)
    more = f"{details(container)} " if args.details else ""
    for line in lines(container, tail, moment(args.since), moment(args.until), args.follow):
        stream = sys.stderr if line.stream == "stderr" else sys.stdout
        stream.write(f"{line.time} {more}{line.text}" if args.timestamps else more + line.text)
        stream.flush()
    return 0


def attach_to(args: argparse.Namespace) -> int:
    """Attach; the exit status is the container's, 0 after detaching."""
    from minirt.engine.attach import attach
    from minirt.engine.container import find

    status = attach(
        find(args.container), stdin=not args.no_stdin, keys=args.detach_keys, sig_proxy=args.sig_proxy == "true"
    )
    return status or 0


def execute(args: argparse.Namespace) -> int:
    """Run a command in a container."""
    from minirt.engine.container import find
    from minirt.engine.exec import execute as run
    from minirt.engine.options import RunOptions
    from minirt.errors import UsageError

    if not args.words:
        raise UsageError("exec: name a command after the container, as in minirt exec box ls")
    container = find(args.container)
    others = ("container", "words", "run", "command", "debug", "version")
    chosen = {key: value for key, value in vars(args).items() if key not in others}
    return run(container, RunOptions(str(container.state.get("image")), args.words, **chosen))
