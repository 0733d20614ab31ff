"""create, start, stop, restart, kill, pause, unpause, wait, rename: one call into the engine each."""

from __future__ import annotations

import argparse
import sys

from minirt.cli.help import Help

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["add_parser"]


def add_parser(commands: Any) -> None:
    """Add the commands."""

    def add(
        name: str, run: Callable[[argparse.Namespace], int], help: str, description: str, *examples: str
    ) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = commands.add_parser(
            name, help=help, description=description, epilog="\n  ".join(["examples:", *examples]), formatter_class=Help
        )
        parser.set_defaults(run=run)
        return parser

    def containers(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("containers", nargs="+", metavar="CONTAINER", help="name, or the beginning of an id")

    start = add("start", start_all, "start containers that were created, or have ended",
                "Start containers; what they changed before is still there.", "minirt start web",
                "minirt start -ai shell")  # fmt: skip
    start.add_argument("-a", "--attach", action="store_true", help="stay with it: its output is ours, its exit status too")
    start.add_argument("-i", "--interactive", action="store_true", help="and our standard input is its own")
    start.add_argument("--detach-keys", default="", metavar="KEYS", help="leave it with these")
    containers(start)

    stop = add("stop", stop_all, "end containers: TERM, and KILL after a while",
               "Send each its stop signal, and SIGKILL if it has not ended in time; it is not started again by --restart.",
               "minirt stop web", "minirt stop -t 1 $(minirt ps -q)")  # fmt: skip
    stop.add_argument("-t", "--time", "--timeout", type=float, default=None, metavar="SECONDS",
                      help="before KILL (10); -1: for ever")
    stop.add_argument("-s", "--signal", default="", metavar="SIGNAL", help="in place of its stop signal")
    containers(stop)

    restart = add("restart", restart_all, "stop and start containers", "Stop each, and start it.", "minirt restart web")
    restart.add_argument("-t", "--time", "--timeout", type=float, default=None, metavar="SECONDS",
                         help="before KILL (10)")
    restart.add_argument("-s", "--signal", default="", metavar="SIGNAL", help="in place of its stop signal")
    containers(restart)

    kill = add("kill", kill_all, "send containers a signal", "Send the first process of each a signal, KILL by default.",
               "minirt kill web", "minirt kill -s HUP web")  # fmt: skip
    kill.add_argument("-s", "--signal", default="KILL", metavar="SIGNAL", help="name or number (KILL)")
    containers(kill)

    containers(add("pause", pause_all, "hold containers still", "Stop all processes of each where they are (cgroup v2's freezer).",
                   "minirt pause web"))  # fmt: skip
    containers(add("unpause", unpause_all, "let paused containers go on", "Let the processes of each go on.",
                   "minirt unpause web"))  # fmt: skip
    containers(add("wait", wait_all, "wait until containers have ended", "Wait for the end of each, and print its exit code.",
                   "minirt wait job"))  # fmt: skip
    rename = add("rename", rename_one, "give a container another name", "Give a container another name.",
                 "minirt rename web old-web")  # fmt: skip
    rename.add_argument("container", metavar="CONTAINER", help="name, or the beginning of an id")
    rename.add_argument("name", metavar="NAME", help="the new one")


AT_ONCE = 8  # containers, where a command waits for each


def for_each(args: argparse.Namespace, do: Callable[[Container], object], at_once: int = 1, lenient: bool = False) -> int:
    """Do something for each container, and print its name; go on after one that cannot be.

    Args: at_once, for how many containers at a time; lenient, one that is not there is told of, and no failure.
    """
    from minirt.engine.container import NoContainer, find
    from minirt.errors import MinirtError

    def one(text: str) -> object:
        try:
            return do(find(text))
        except MinirtError as error:
            return error

    failed = False
    for text, answer in zip(args.containers, answers(args.containers, one, at_once), strict=True):
        if isinstance(answer, MinirtError):
            print(f"minirt: {answer}", file=sys.stderr)
            failed |= not (lenient and isinstance(answer, NoContainer))
        else:
            print(text if answer is None else answer, flush=True)
    return int(failed)


def answers(texts: list[str], one: Callable[[str], object], at_once: int) -> Iterable[object]:
    """Return what a function says to each text, in their order; it is called in threads where that is of use."""
    if at_once == 1 or len(texts) == 1:
        return map(one, texts)
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(at_once).map(one, texts)


def start_all(args: argparse.Namespace) -> int:
    """Start each; with -a stay with the one."""
    from minirt.engine.start import start

    if not (args.attach or args.interactive):
        return for_each(args, lambda container: start(container) and None)
    from minirt.engine.attach import start_attached
    from minirt.engine.container import find
    from minirt.errors import UsageError

    if len(args.containers) > 1:
        raise UsageError("start -a: one container at a time")
    return start_attached(find(args.containers[0]), args.interactive, args.detach_keys)


def stop_all(args: argparse.Namespace) -> int:
    """Stop each."""
    from minirt.engine.control import signal_number, stop

    number = signal_number(args.signal) if args.signal else None
    return for_each(args, lambda container: stop(container, args.time, number), AT_ONCE)


def restart_all(args: argparse.Namespace) -> int:
    """Stop and start each."""
    from minirt.engine.control import restart, signal_number

    number = signal_number(args.signal) if args.signal else None
    return for_each(args, lambda container: restart(container, args.time, number), AT_ONCE)


def kill_all(args: argparse.Namespace) -> int:
    """Send each a signal."""
    from minirt.engine.control import kill, signal_number

    number = signal_number(args.signal)
    return for_each(args, lambda container: kill(container, number))


def pause_all(args: argparse.Namespace) -> int:
    """Hold each still."""
    from minirt.engine.control import pause

    return for_each(args, pause)


def unpause_all(args: argparse.Namespace) -> int:
    """Let each go on."""
    from minirt.engine.control import unpause

    return for_each(args, unpause)


def wait_all(args: argparse.Namespace) -> int:
    """Wait for each, and print exit codes."""
    from minirt.engine.control import wait

    return for_each(args, wait)


def rename_one(args: argparse.Namespace) -> int:
    """Rename it."""
    from minirt.engine.container import find
    from minirt.engine.control import rename

    rename(find(args.container), args.name)
    return 0
