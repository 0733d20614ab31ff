"""`minivm`: the words on the command line.

Exit status: the guest's own; or 125 where minivm or the host failed, 2 where the command line is wrong, 124 after
--timeout, 134 where the guest crashed, 128 + N after signal N.
"""

from __future__ import annotations

import sys

from minirt.errors import complain, unread

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["build_parser", "main"]

# command -> (module with add_parser(commands), one line)
COMMANDS = {
    "run": ("words", "build a machine, run a guest in it, end with the guest's exit status"),
    "boot": ("boot", "run a container's image as a machine of its own"),
    "create": ("machines", "make a machine with a name, from a file or from flags"),
    "start": ("machines", "start machines"),
    "stop": ("machines", "press the power button of machines, wait, and end what is not off by then"),
    "pause": ("machines", "let machines stand still"),
    "resume": ("machines", "let paused machines go on"),
    "wait": ("machines", "wait for machines to end, and print their exit statuses"),
    "ps": ("machines", "list machines"),
    "inspect": ("machines", "print all about machines, as JSON"),
    "logs": ("machines", "print what a machine's console has said"),
    "console": ("machines", "join this terminal to a machine's console"),
    "rm": ("machines", "remove machines"),
    "balloon": ("memory", "take memory from a machine that runs, and give it back"),
    "hotplug": ("memory", "give a machine that runs memory, and take it back"),
    "kernel": ("kernel", "keep Debian's kernels, or take one out of a disk"),
    "symbols": ("look", "list a kernel's symbols, or write them to a file for gdb"),
    "exits": ("look", "count a trace's exits by place and guest function"),
    "dump": ("look", "write a running machine's memory and registers as an ELF core"),
    "walk": ("look", "draw the walk through a guest's page tables, from a dump"),
    "disk": ("disk", "make disks, and seeds for cloud-init"),
    "doctor": ("doctor", "say what this host's /dev/kvm offers, and what to do about what is missing"),
    "completion": ("completion", "print a completion script for bash, zsh or tcsh"),
}

EPILOG = """\
examples:
  minivm run                        boot the in-tree guest; ctrl-a x ends it
  minivm run --explain              the same, telling every ioctl and every exit
  minivm run --plan                 only list the ioctls that would build the machine
  minivm kernel fetch debian-cloud  take Debian's kernel out of its package
  minivm run debian-cloud --rootfs DIR --init 'uname -a'
  minivm boot busybox uname -a      an image of minirt's, with a kernel of its own
  minivm create box && minivm start box && minivm console box
  minivm doctor                     what this host's /dev/kvm offers

`minivm COMMAND --help` tells more.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `minivm`; by default those of the process.

    Returns the exit status.
    """
    from minivm.errors import MinivmError

    words = list(sys.argv[1:] if argv is None else argv)
    options = _plain(words) or _parsed(words)
    if not options.command:
        return 2
    try:
        status: int = options.do(options)
        sys.stdout.flush()
        return status
    except MinivmError as error:
        if options.debug:
            raise
        return _complain(str(error), error.status)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return unread()
    except OSError as error:
        if options.debug:
            raise
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error), MinivmError.status)
    except Exception as error:
        if options.debug:
            raise
        from minirt.errors import MinirtError, UsageError

        if isinstance(error, MinirtError):  # of what is minirt's here: images, keys, seccomp
            return _complain(str(error), 2 if isinstance(error, UsageError) else MinivmError.status)
        if isinstance(error, ImportError) and "_kvm" in str(error):
            return _complain("the part in C is not built (minivm.kvm._kvm is missing): run `make build`", 125)
        return _complain(f"{type(error).__name__}: {error} (a bug; --debug shows where)", MinivmError.status)


def _plain(words: list[str]) -> argparse.Namespace | None:
    """Read the words of the command that has to be quick, if they are plain ones."""
    if words[:1] != ["run"]:
        return None
    from minivm.cli.plain import read
    from minivm.cli.words import declare

    return read(declare, words[1:], command="run", debug=False)


def _parsed(words: list[str]) -> argparse.Namespace:
    """Read all other words; without a command, show help."""
    from minirt.cli.help import asked

    words = asked(words)
    chosen = next((word for word in words if not word.startswith("-")), "")
    parser = build_parser(chosen if chosen in COMMANDS else "", alone=words[:1] == [chosen])
    options = parser.parse_args(words)
    if not options.command:
        parser.print_help()
    return options


def _complain(text: str, status: int) -> int:
    complain(f"minivm: {text}")
    return status


def build_parser(chosen: str | None, alone: bool = False) -> argparse.ArgumentParser:
    """Return the parser; only the chosen command's own is complete (None: all are, for completion).

    Args:
        alone: it is the first word, so that nobody asks for the list of all: the others are left out.
    """
    from importlib import import_module

    from minirt import __version__
    from minirt.cli.help import Help, UsualParser

    parser = UsualParser(
        prog="minivm",
        description="A hypervisor made of KVM ioctls, to read and to use.",
        epilog=EPILOG,
        formatter_class=Help,
    )
    parser.add_argument("--version", action="version", version=f"minivm {__version__}", help="print the version")
    parser.add_argument("--debug", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    done = set()
    for name, (module, text) in COMMANDS.items():
        if chosen is None or name == chosen:
            if module not in done:
                done.add(module)
                import_module(f"minivm.cli.{module}").add_parser(commands)
        elif not (alone and chosen) and COMMANDS.get(chosen, ("",))[0] != module:
            commands.add_parser(name, help=text, add_help=False)
    return parser
