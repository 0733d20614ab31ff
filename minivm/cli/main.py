"""`minivm`: the words on the command line.

Exit status: the guest's own; or 125 where minivm or the host failed, 2 where the command line is wrong, 124 after
--timeout, 134 where the guest crashed, 128 + N after signal N.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

__all__ = ["main"]

EPILOG = """\
examples:
  minivm run                        boot the in-tree guest; ctrl-a x ends it
  minivm run --explain              the same, telling every ioctl and every exit
  minivm run --plan                 only list the ioctls that would build the machine
  minivm doctor                     what this host's /dev/kvm offers
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after `minivm`; by default those of the process.

    Returns the exit status.
    """
    from minivm.errors import MinivmError

    options = _parser().parse_args(argv)
    try:
        return _command(options)
    except MinivmError as error:
        if options.debug:
            raise
        return _complain(str(error), error.status)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        if options.debug:
            raise
        return _complain(str(error), MinivmError.status)
    except Exception as error:
        if options.debug:
            raise
        if isinstance(error, ImportError) and "_kvm" in str(error):
            return _complain("the part in C is not built (minivm.kvm._kvm is missing): run `make build`", 125)
        return _complain(f"{type(error).__name__}: {error} (a bug; --debug shows where)", MinivmError.status)


def _command(options: argparse.Namespace) -> int:
    if options.command == "doctor":
        from minivm.cli.doctor import doctor

        return doctor(options)
    from minivm.cli.run import run

    return run(options)


def _complain(text: str, status: int) -> int:
    print(f"minivm: {text}", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="minivm",
        description="A hypervisor made of KVM ioctls, to read and to use.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    from minivm.cli.words import add_doctor, add_run

    add_run(commands)
    add_doctor(commands)
    return parser
