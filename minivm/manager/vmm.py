"""The process of one machine that has a name: `python -m minivm.manager.vmm NAME LOCK READY`.

life.start makes it, in a session of its own, with two descriptors: LOCK holds vmm.lock, as long as this process lives;
READY wants one line, empty when the guest runs, else what went wrong. One thread runs each virtual processor; this one
sleeps in poll(2) for the console's output, for the control socket and for the end. Where the machine file says so
(minivm.jail), the process gives up its rights as `minivm run --jail` does, once the control socket listens.
"""

from __future__ import annotations

import os
import sys
import time

from minivm.errors import MinivmError
from minivm.machine import placement
from minivm.machine.foreground import Running
from minivm.machine.machine import Machine
from minivm.machine.prepare import prepare
from minivm.manager.control import Control
from minivm.manager.log import LONGEST, ConsoleLog
from minivm.manager.machines import OUTCOME, NamedMachine
from minivm.manager.serve import Server
from minivm.manager.settings import config_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["main"]


def main(argv: list[str]) -> int:
    """Build the machine, run it to its end, and write down how that was. Returns the exit status."""
    named, ready = NamedMachine(argv[0]), int(argv[2])
    os.set_inheritable(int(argv[1]), False)
    os.set_inheritable(ready, False)
    os.chdir("/")
    started = time.time()
    named.save(status="starting", pid=os.getpid(), started=started)
    try:
        status, reason = _run(named, ready, started)
    except (MinivmError, OSError) as error:
        status, reason = getattr(error, "status", MinivmError.status), str(error)
        _tell(ready, reason)
    _write_down(named, status="stopped", started=started, ended=time.time(), exit_status=status, reason=reason)
    return status


# The descriptor of the file that says how it ended where state.json cannot: in a jail it cannot be opened any more, and a disk
# may be full by then. So this one is open from the start, and its room is its own.
outcome = -1
ROOM = 4096  # bytes


def _write_down(named: NamedMachine, **state: Any) -> None:
    import json

    if outcome >= 0:
        state["reason"] = state["reason"][: ROOM // 8]
        os.pwrite(outcome, json.dumps(state).encode() + b"\n", 0)
    try:
        named.save(**state)
    except OSError:
        if outcome < 0:
            raise


def _run(named: NamedMachine, ready: int, started: float) -> tuple[int, str]:
    """Run the machine. Returns its exit status, and the reason where the guest did not end it itself."""
    document = named.document()
    config = config_of(document)
    console, output = os.pipe2(os.O_CLOEXEC)
    for cpus in config.affinity:  # each processor's thread says so itself, but only after the start
        placement.check(cpus)
    with Machine(config, prepare(config), console=output) as machine:
        machine.build()
        server = Server(machine, Control(named, document, machine), ConsoleLog(named.file("console.log")), console)
        try:
            server.listen(named.path)
            _open_outcome(named)
            named.save(status="running", pid=os.getpid(), started=started)
            if config.jail:
                _enter_jail(machine.connections)
            with Running(machine, server.take_output, last=True) as look:
                _tell(ready, "")
                server.serve(look)
            server.finish(output)
        finally:
            server.close()
    assert machine.outcome is not None
    if machine.outcome.error is not None and not isinstance(machine.outcome.error, MinivmError):
        import traceback

        traceback.print_exception(machine.outcome.error)  # into vmm.log: it is a bug
    return machine.outcome.status, machine.outcome.reason


def _open_outcome(named: NamedMachine) -> None:
    global outcome
    outcome = os.open(named.file(OUTCOME), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.posix_fallocate(outcome, 0, ROOM)


def _enter_jail(connections: int) -> None:
    """Give up all rights, now that everything is open; also what is imported later, by a request to the control socket."""
    from importlib import import_module

    from minivm.machine.jail import enter

    for name in ("minirt", "minivm.machine.dump", "minivm.inspect.core"):
        import_module(name)
    enter(connections=connections, longest=_longest_file() + LONGEST)


def _longest_file() -> int:
    """Return the size of the longest file that is open for writing: a disk's, which never grows, or a log's."""
    import stat
    from fcntl import F_GETFL, fcntl

    longest = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            made, flags = os.fstat(int(name)), fcntl(int(name), F_GETFL)
        except OSError:
            continue  # it was the directory itself
        if stat.S_ISREG(made.st_mode) and flags & os.O_ACCMODE != os.O_RDONLY:
            longest = max(longest, made.st_size)
    return longest


def _tell(ready: int, text: str) -> None:
    """Say how the start went, once; later there is nobody to tell."""
    try:
        os.write(ready, text.replace("\n", " ").encode() + b"\n")
        os.close(ready)
    except OSError:
        pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
