"""Machines by name: create, start, stop, pause, resume, wait, inspect, logs, ps, rm, console."""

from __future__ import annotations

import argparse
import os
import sys

from minirt.cli.help import Help
from minivm.cli.table import add_format, print_json, print_rows
from minivm.cli.words import add_machine
from minivm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.manager.machines import NamedMachine

__all__ = ["add_parser"]

CREATE_EPILOG = """\
examples:
  minivm create box -f box.toml
  minivm create box --kernel debian-cloud --rootfs root.ext4 -m 512m -c 2
  minivm create guest && minivm start guest && minivm console guest

a machine file (JSON, or TOML by the name .toml) has the shape of Firecracker's --config-file:
  [boot-source]
  kernel_image_path = "debian-cloud"
  boot_args = "quiet"
  [[drives]]
  drive_id = "root"
  path_on_host = "/var/lib/box.ext4"
  is_root_device = true
  [machine-config]
  vcpu_count = 2
  mem_size_mib = 512
  [minivm]
  console = "virtio"
"""


def add_parser(commands: Any) -> None:
    """Add the commands."""
    create = _command(commands, "create", _create, CREATE_EPILOG, "Make a machine with a name, from a file or from flags.")
    create.add_argument("name", metavar="NAME", help="letters, digits, _ . -")
    create.add_argument("kernel", nargs="?", metavar="KERNEL", help="file to boot, or a name of `minivm kernel ls`")
    create.add_argument("-f", "--file", metavar="FILE", help="the machine file, instead of flags")
    add_machine(create)
    create.add_argument("--jail", action="store_true", help="once it is built, its process gives up all rights (minivm run --jail)")
    start = _command(commands, "start", _start, "examples:\n  minivm start box\n  minivm start -a box", "Start machines.")
    start.add_argument("-a", "--attach", action="store_true", help="stay at the console, and end with the machine's status")
    _add_keys(start)
    stop = _command(
        commands, "stop", _stop, "examples:\n  minivm stop box\n  minivm stop --time 0 box    (at once)",
        "Press the power button of machines, wait until they are off, and end what is not off by then.",
    )  # fmt: skip
    stop.add_argument("-t", "--time", "--timeout", type=float, default=10.0, metavar="SECONDS",
                      help="to wait (default: 10); 0: do not ask")  # fmt: skip
    _command(commands, "pause", _each("pause"), "example:\n  minivm pause box", "Let machines stand still.")
    _command(commands, "resume", _each("resume"), "example:\n  minivm resume box", "Let paused machines go on.")
    _command(commands, "wait", _wait, "example:\n  minivm wait box", "Wait for machines to end, and print their exit statuses.")
    remove = _command(commands, "rm", _remove, "examples:\n  minivm rm box\n  minivm rm -f box", "Remove machines.")
    remove.add_argument("-f", "--force", action="store_true", help="end those that run")
    for parser in (start, stop, remove):
        parser.add_argument("names", nargs="+", metavar="NAME")
    _add_looking(commands)


def _add_looking(commands: Any) -> None:
    """Add the commands that change nothing."""
    inspect = _command(commands, "inspect", _inspect, "example:\n  minivm inspect box", "Print all about machines, as JSON.")
    inspect.add_argument("names", nargs="+", metavar="NAME")
    inspect.add_argument("--format", choices=("json",), default="json", help="JSON it is")
    logs = _command(
        commands, "logs", _logs, "examples:\n  minivm logs --tail 20 box\n  minivm logs -f box", "Print what a console has said."
    )
    logs.add_argument("name", metavar="NAME")
    logs.add_argument("-f", "--follow", action="store_true", help="go on as it says more: all since the start, until it ends")
    logs.add_argument("-n", "--tail", type=int, metavar="LINES", help="only the last lines")
    ps = _command(commands, "ps", _ps, "examples:\n  minivm ps\n  minivm ps -a --format json", "List machines that run.")
    ps.add_argument("-a", "--all", action="store_true", help="those that do not run too")
    ps.add_argument("-q", "--quiet", action="store_true", help="names only")
    add_format(ps)
    console = _command(
        commands, "console", _console, "examples:\n  minivm console box\n  minivm console --detach-keys ctrl-] box",
        "Join this terminal to a machine's console. The detach keys leave it; the machine runs on.",
    )  # fmt: skip
    console.add_argument("name", metavar="NAME")
    console.add_argument("--replay", action="store_true", help="begin with all that it has said since its start")
    _add_keys(console)


def _command(commands: Any, name: str, do: Callable[..., int], epilog: str, description: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=description.partition(".")[0].lower(), description=description, epilog=epilog, formatter_class=Help
    )
    if name in ("pause", "resume", "wait"):
        parser.add_argument("names", nargs="+", metavar="NAME")
    parser.set_defaults(do=do)
    return parser


def _add_keys(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach-keys", default="ctrl-p,ctrl-q", metavar="KEYS", help="what leaves it (default: ctrl-p,ctrl-q)")


def _for_all(names: list[str], do: Callable[[NamedMachine], None], lenient: bool = False) -> int:
    """Do something with each machine; go on after one with which it cannot be done. Returns the exit status.

    Args: lenient, one that is not there is told of, and no failure.
    """
    from minivm.errors import MinivmError
    from minivm.manager.machines import NoMachine, find

    status = 0
    for name in names:
        try:
            do(find(name))
            print(name)
        except MinivmError as error:
            print(f"minivm: {error}", file=sys.stderr)
            if not (lenient and isinstance(error, NoMachine)):
                status = error.status
    return status


def _create(options: argparse.Namespace) -> int:
    from minivm.manager.document import check, read
    from minivm.manager.machines import create
    from minivm.manager.settings import absolute, config_of, document_of

    if options.file:
        untouched = vars(build_defaults())
        given = [name for name, value in untouched.items() if getattr(options, name) != value] + ["jail"] * options.jail
        if given:
            raise UsageError(f"--file and {', '.join(sorted(given))}: the file says what the machine is to be")
        document = check(absolute(read(options.file), os.path.dirname(os.path.abspath(options.file))))
        config_of(document)
    else:
        from minivm.cli.config import config_of as from_words
        from minivm.cli.config import kernel_name

        config = from_words(options)
        name = kernel_name(options)
        document = document_of(config, name if name and name != config.kernel else None)
    print(create(options.name, document).name)
    return 0


def build_defaults() -> argparse.Namespace:
    """Return what add_machine's flags are where none is given."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel", nargs="?")
    add_machine(parser)
    return parser.parse_args([])


def _start(options: argparse.Namespace) -> int:
    from minirt.terminal.detach_keys import parse_detach_keys
    from minivm.manager.life import start
    from minivm.manager.machines import find

    if not options.attach:
        return _for_all(options.names, start)
    if len(options.names) > 1:
        raise UsageError("--attach: there is one console here")
    keys, machine = parse_detach_keys(options.detach_keys), find(options.names[0])
    start(machine)
    return _stay(machine, keys, replay=True)


def _console(options: argparse.Namespace) -> int:
    from minirt.terminal.detach_keys import parse_detach_keys
    from minivm.manager.machines import find

    return _stay(find(options.name), parse_detach_keys(options.detach_keys), options.replay)


def _stay(machine: NamedMachine, keys: bytes, replay: bool) -> int:
    """Stay at a console. Returns the machine's exit status, or 0 where it was left."""
    from minivm.manager.console import attach

    if attach(machine, 0, 1, keys, replay):
        print(f"\r\nminivm: {machine.name} runs on; minivm console {machine.name} returns", file=sys.stderr)
        return 0
    machine.wait(None)
    status = machine.state().get("exit_status")
    return 125 if status is None else int(status)


def _stop(options: argparse.Namespace) -> int:
    from minivm.manager.life import stop

    if not options.time >= 0:  # nan neither
        raise UsageError(f"--time {options.time:g}: must not be less than 0; 0 ends it at once")

    def one(machine: NamedMachine) -> None:
        if not stop(machine, options.time) and options.time > 0:
            print(f"minivm: {machine.name} did not switch off within {options.time:g} s and was ended", file=sys.stderr)

    return _for_all(options.names, one)


def _each(verb: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from minivm.manager import life

        return _for_all(options.names, getattr(life, verb))

    return run


def _wait(options: argparse.Namespace) -> int:
    from minivm.manager.machines import MachineError, find

    for name in options.names:
        machine = find(name)
        machine.wait(None)
        state = machine.state()
        if state["status"] == "created":
            raise MachineError(f"machine {name} was never started: minivm start {name}")
        status = state.get("exit_status")
        print("killed" if status is None else status)
    return 0


def _remove(options: argparse.Namespace) -> int:
    from contextlib import suppress

    from minivm.manager.life import stop
    from minivm.manager.machines import MachineError, remove

    def one(machine: NamedMachine) -> None:
        if options.force:
            with suppress(MachineError):  # it does not run, or no longer
                stop(machine, 0)
        remove(machine)

    return _for_all(options.names, one, lenient=options.force)


def _inspect(options: argparse.Namespace) -> int:
    from minivm.manager.machines import find

    print_json([_described(find(name)) for name in options.names])
    return 0


def _logs(options: argparse.Namespace) -> int:
    from minivm.manager.log import tail
    from minivm.manager.machines import find

    if options.tail is not None and options.tail < 0:
        raise UsageError(f"--tail {options.tail}: must not be less than 0")
    machine = find(options.name)
    if options.follow and machine.runs():
        from minivm.manager.console import follow

        follow(machine, 1)
        return 0
    sys.stdout.buffer.write(tail(machine.file("console.log"), options.tail))
    return 0


def _ps(options: argparse.Namespace) -> int:
    from minivm.manager.machines import machines

    found = [_described(machine) for machine in machines()]
    shown = [row for row in found if options.all or row["status"] not in ("created", "stopped")]
    if options.quiet:
        print("".join(f"{row['name']}\n" for row in shown), end="")
    elif options.format == "json":
        print_json(shown)
    else:
        print_rows(("NAME", "STATUS", "PID", "VCPUS", "MEMORY", "KERNEL"), [_row(row) for row in shown])
    return 0


def _described(machine: NamedMachine) -> dict[str, Any]:
    """Return all that is known of a machine."""
    from minivm.errors import MinivmError
    from minivm.manager.client import request

    state = machine.state()
    try:
        config: dict[str, Any] | None = machine.document()
    except MinivmError:
        config = None  # damaged, or of another version
    if state["status"] == "running":
        try:
            state["status"] = request(machine, "GET", "/")["state"].lower()
        except MinivmError:
            state = machine.state()  # it ends just now, or does not answer
    return {"name": machine.name, **state, "directory": machine.path, "config": config}


def _row(about: dict[str, Any]) -> tuple[str, ...]:
    config = about["config"] or {}
    machine = config.get("machine-config") or {}
    kernel = (config.get("boot-source") or {}).get("kernel_image_path") or "in-tree guest"
    status = about["status"]
    if status == "stopped":
        status += f" ({about['exit_status']})" if about["exit_status"] is not None else " (killed)"
    memory = f"{machine.get('mem_size_mib', '?')}m"
    pid = str(about.get("pid", "")) if about["status"] in ("running", "paused") else ""
    return about["name"], status, pid, str(machine.get("vcpu_count", "?")), memory, os.path.basename(kernel)
