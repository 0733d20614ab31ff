"""`minivm run --gdb`: a server for gdb around the run of a machine."""

from __future__ import annotations

import contextlib

from minivm.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from minivm.inspect.gdb.server import Server
    from minivm.machine.config import Config
    from minivm.machine.machine import Machine

__all__ = ["serve"]

KILLED = 137  # 128 + SIGKILL, as a shell shows it


@contextlib.contextmanager
def serve(options: argparse.Namespace, machine: Machine) -> Iterator[Server]:
    """Have a server for gdb until the machine has ended; its begin() is still to be called. Raises UsageError, MinivmError."""
    from minivm.inspect.gdb.server import Server
    from minivm.machine.machine import Outcome

    if machine.recorder.watches("KVM_RUN"):
        raise UsageError("--gdb does not go together with --explain, --trace or --fail KVM_RUN")
    where, comma, word = options.gdb.partition(",")
    if comma and word != "nowait":
        raise UsageError(f"--gdb {options.gdb!r}: after the comma only `nowait` may stand")
    server = Server(
        machine, where, lambda: machine.stop(Outcome(KILLED, "killed by gdb")), segments(machine.config), waiting=not comma
    )
    machine.debugger = server.halt
    with server:
        yield server


def segments(config: Config) -> list[tuple[int, int, int]]:
    """Return where the kernel's segments are linked and loaded; none where it moves itself (a bzImage started as such)."""
    from minivm.boot import bzimage, elf, formats

    image = formats.read_kernel(config.kernel or formats.default_kernel())
    if config.boot == "pvh" and bzimage.is_bzimage(image):
        from minivm.boot.extract import extract

        image = extract(image)
    return elf.linked_addresses(image)
