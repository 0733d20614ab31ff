"""lab/run [options] [COMMAND...]: the words on the command line, and one call into session."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from lab import doctor, session
from lab.image import LabError, cache_directory, find, find_or_build
from lab.payload import REPOSITORY, Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

FAILED, TIMED_OUT = 125, 124  # as docker and timeout(1) have them


class Parser(argparse.ArgumentParser):
    """argparse's, which says in one line what is wrong, as our other commands' does (minirt/cli/help.py; not to be had here)."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        """As argparse's, but nothing is left over."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"no option {unknown[0].partition('=')[0]}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        """Say what is wrong with the words, and end."""
        self.exit(FAILED, f"{self.prog}: {message} (see {self.prog} --help)\n")


def parser() -> argparse.ArgumentParser:
    words = Parser(
        prog="lab/run",
        description="Run a command in a disposable machine with cgroup v2 and /dev/kvm, in a copy of the"
        " repository; a shell without one. Its output, exit status and nothing else come back.",
    )
    words.add_argument("--check", action="store_true", help="say what this host lacks for the lab, and run nothing")
    words.add_argument("--build", action="store_true", help="build the machine where it is not yet, and run nothing")
    words.add_argument("--timeout", type=float, default=None, metavar="SECONDS", help="default 900; none for a shell")
    words.add_argument("-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="set or pass on")
    words.add_argument("-T", "--no-tty", action="store_true", help="no terminal, even where this is one")
    words.add_argument("--console", metavar="FILE", help="save what the machine's console said")
    words.add_argument(
        "--again", type=int, default=0, metavar="N", help="begin again, N times, where the emulator failed the machine"
    )
    words.add_argument("--with", dest="more", action="append", default=[], metavar="PACKAGE", help="a machine that has it too")
    words.add_argument("--disk", action="append", default=[], metavar="FILE", help="a disk, /dev/vdb and on; FILE stays as it is")
    words.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    return words


def main() -> int:
    os.environ.pop("PYTHONPATH", None)  # lab/run set it, for this process alone
    for fd in (0, 1, 2):
        try:
            os.fstat(fd)
        except OSError:  # closed: else a socket of ours would get the number, and be taken for the stream
            os.open("/dev/null", os.O_RDWR)
    options = parser().parse_args()
    argv = options.command[1:] if options.command[:1] == ["--"] else options.command
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        image = find(options.more)
        if options.check:
            print("\n".join(doctor.report(cache_directory(), image)))
            return 1 if doctor.missing(image is not None) else 0
        lacks = doctor.missing(image is not None)
        if lacks:
            raise LabError("\nlab: ".join(lacks))
        image = image or find_or_build(options.more)
        if options.build:
            return 0
        timeout = options.timeout or (900.0 if argv else float("inf"))
        return session.run(image, job(argv, options), timeout, options.console, options.again)
    except session.TimedOut as error:
        print(f"lab: {error}", file=sys.stderr)
        return TIMED_OUT
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 128 + signal.SIGPIPE


def job(argv: list[str], options: argparse.Namespace) -> Job:
    """Return the job: in the same directory of the repository as here, or at its top."""
    environment = {name: os.environ[name] for name in ("TERM", "NO_COLOR") if name in os.environ}
    for setting in options.env:
        name, given, value = setting.partition("=")
        if given or name in os.environ:
            environment[name] = value if given else os.environ[name]
    here = Path.cwd()
    cwd = here if here.is_relative_to(REPOSITORY) else REPOSITORY
    terminal = not options.no_tty and all(os.isatty(fd) for fd in (0, 1, 2))
    size = os.get_terminal_size(0) if terminal else os.terminal_size((80, 24))
    return Job(argv, str(cwd), environment, terminal, (size.lines or 24, size.columns or 80), options.disk)


if __name__ == "__main__":
    sys.exit(main())
