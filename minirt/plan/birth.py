"""Run a plan: start the executor, stand at its barriers, read what came of each record.

    Python ──vfork, execveat──▶ executor ──clone3(CLONE_PARENT)──▶ child ──execve──▶ the program
       │                            │ ends                          │
       └── control socket: a barrier is a message each way; its end is closed by the execve, or by death

The ring in the plan's memory holds each outcome, so a failure is known with its record, even from a process that
may no longer write.
"""

from __future__ import annotations

import os
from itertools import chain

from minirt.errors import KernelError, MinirtError
from minirt.linux import constants
from minirt.linux._sys import ffi, lib
from minirt.plan.layout import EXTENT_AT, HEADER_AT, OUTCOME, PENDING, USED_AT
from minirt.plan.lower import lower

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from minirt.plan.builder import Plan
    from minirt.plan.events import Event, Sink
    from minirt.plan.record import Memory, Record

__all__ = ["Birth", "Parent", "PlanFailed", "executor", "run"]

LOOK = "look:"  # begins the names of barriers that explain and step put in; they are not told
LAST = 4  # outcomes, among which is mostly the one that tells how it ended
_executor = -1


def executor() -> int:
    """Return a descriptor of the executor program: a memfd, sealed so that nobody can change it (man 2 memfd_create).

    One for the life of this process; the file in the package is read once.
    """
    global _executor
    if _executor < 0:
        from fcntl import F_ADD_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

        path = os.path.join(os.path.dirname(__file__), "executor.elf")
        try:
            with open(path, "rb") as file:
                program = file.read()
        except FileNotFoundError:
            raise MinirtError(f"{path} is missing: build it with `make` in the source tree") from None
        mfd_exec = 0x10  # MFD_EXEC, Linux 6.3: says that it will be executed, where a sysctl asks for that
        try:
            fd = os.memfd_create("minirt-executor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | mfd_exec)
        except OSError:
            fd = os.memfd_create("minirt-executor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, program)
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
        _executor = fd
    return _executor


class Parent:
    """Who starts the executor, and so is the parent of it and of the child: this process; or another (minirt.engine.monitor)."""

    def spawn(self, fds: list[int], plan: int) -> int:
        """Start the executor with these descriptors as its 0, 1, ...; `plan` of them is the plan's. Returns its pid, or -errno."""
        pid: int = lib.plan_spawn(executor(), fds, len(fds), plan)
        return pid

    def reap(self, pid: int) -> None:
        """Wait for the end of one of the two."""
        os.waitpid(pid, 0)


class PlanFailed(KernelError):
    """A record of the plan failed: which, in which step, and with what.

    Attributes: record, step, errno (0 where the process died or the other side was gone).
    """

    def __init__(self, record: Record, errno: int, text: str) -> None:
        super().__init__(errno, text)
        self.record = record
        self.step = record.step


class Birth:
    """One run of a plan, from the executor's start to the program's.

    Args:
        plan: what to run.
        fds: the program's descriptors 0, 1, 2, then the preserved ones; numbers in this process.
        sink: gets each event as soon as it is known.
        memory: descriptor of a file to hold the plan and its ring (a created container keeps one in its state
            directory); by default a memfd.
        rest: appends the rest of a plan that ends with `Plan.await_rest`, while the executor runs what there is.
        parent: who starts the executor; by default this process.

    Use it as a context manager: what it started and nobody took over is killed and reaped at the end.
    """

    def __init__(
        self,
        plan: Plan,
        fds: Sequence[int] = (0, 1, 2),
        sink: Sink | None = None,
        memory: int = -1,
        rest: Callable[[Plan], Any] | None = None,
        parent: Parent | None = None,
    ) -> None:
        if rest is not None and plan.barriers:
            rest(plan)  # the executor stands at a barrier, and there has time to wait (`Plan.await_rest`)
            rest = None
        self.plan = plan
        self.parent = parent or Parent()
        self.sink = sink
        self.lowered = lower(plan)
        self.pid = 0  # the child, or the executor itself where the plan has no clone3
        self.pidfd = -1
        self.received = -1  # the descriptor that came with a barrier's message (a pty's master); the caller takes it
        self.to_send: list[int] = []  # descriptors for the barrier's answer; closed when they are sent
        self.seen = 0  # outcomes that the sink got
        self.held: list[Event] = []  # events that wait for what changed (`flush`)
        self.hold = False
        self.over = False  # the program has started, or all is dead
        self.memory = memory if memory >= 0 else os.memfd_create("minirt-plan", os.MFD_CLOEXEC)
        os.pwrite(self.memory, self.lowered.image, HEADER_AT)
        pair = ffi.new("int[2]")
        kind = constants.SOCK_SEQPACKET | constants.SOCK_CLOEXEC
        _must("socketpair", lib.plan_syscall(
            constants.SYS_socketpair, constants.AF_UNIX, kind, 0, int(ffi.cast("uintptr_t", pair)), 0, 0))  # fmt: skip
        self.control, theirs = pair
        if len(fds) != 3 + plan.preserve_fds:
            raise ValueError(f"{len(fds)} descriptors for {3 + plan.preserve_fds} places")
        self.started = _clock() if sink is not None else (0, 0)
        self.executor = -1
        try:
            numbers = [*fds, theirs, self.memory]
            self.executor = _must("vfork", self.parent.spawn(numbers, len(numbers) - 1))
            if rest is not None:
                self._add(rest)
        except BaseException:
            self.close()
            raise
        finally:
            os.close(theirs)

    def _add(self, rest: Callable[[Plan], Any]) -> None:
        """Write the rest of the plan, and tell the child, which waits for that or will."""
        rest(self.plan)
        offset, part, extent = self.lowered.add(self.plan)
        os.pwrite(self.memory, part, offset)
        os.pwrite(self.memory, extent, EXTENT_AT)
        lib.plan_send_fds(self.control, [], 0)

    def __enter__(self) -> Birth:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- talking to the waiting child ------------------------------------------------------------------------

    def peek(self, memory: Memory, size: int = 4) -> int:
        """Return the number that a result left in a slot."""
        return int.from_bytes(os.pread(self.memory, size, self.lowered.offset(memory)), "little", signed=True)

    def fill(self, name: str, value: int | bytes | str) -> None:
        """Decide something that the plan left to a barrier (`Plan.at_barrier`).

        Raises: ValueError where it does not fit the room that was declared.
        """
        memory = self.plan.late[name]
        if isinstance(value, int):
            data = (value & 0xFFFFFFFF).to_bytes(4, "little")
        else:
            data = value.encode(errors="surrogateescape") + b"\0" if isinstance(value, str) else value
        if len(data) > memory.size:
            raise ValueError(f"{name}: {len(data)} bytes do not fit into {memory.size}")
        os.pwrite(self.memory, data, self.lowered.offset(memory))

    def barriers(self) -> Iterator[str]:
        """Yield the name of each barrier while the child waits there; going on to the next lets it go on.

        Ends when the program has started. Raises: PlanFailed if it has not.
        """
        while message := self._receive():
            name, side = self.plan.barriers[int.from_bytes(message, "little") - 1]
            if side == "container" or self.plan.pid is None:
                self._find_child()
            self.drain()
            yield name
            lib.plan_send_fds(self.control, self.to_send, len(self.to_send))  # a dead child is found at the next read
            self._close_sent()
        self._finish()

    def leave(self) -> int:
        """Let the child that waits at the last barrier go on, and leave it: it is the caller's. Returns its pid."""
        lib.plan_send_fds(self.control, self.to_send, len(self.to_send))
        self._close_sent()
        pid, self.over = self.pid, True
        self.reaped()
        return pid

    def _close_sent(self) -> None:
        while self.to_send:
            os.close(self.to_send.pop())

    def _receive(self) -> bytes:
        """Wait for a message or the end; print what happens meanwhile, in case a call hangs."""
        if self.sink is not None:
            import select

            poll = select.poll()
            poll.register(self.control, select.POLLIN)
            while not poll.poll(50):
                self.drain()
        buffer, fd = ffi.new("char[16]"), ffi.new("int *")
        size = lib.plan_receive(self.control, buffer, 16, fd)
        if fd[0] >= 0:
            self.received = fd[0]
        return bytes(ffi.buffer(buffer, size)) if size > 0 else b""  # ECONNRESET: it died with our answer unread

    def _find_child(self) -> None:
        if self.pid:
            return
        if self.plan.pid is not None and self.executor > 0:
            self.parent.reap(self.executor)  # it ends as soon as it has stored the child's pid
            self.executor = -1
        self.pid = self.executor if self.plan.pid is None else max(self.peek(self.plan.pid), 0)
        if self.pid:
            # It is our child and not yet waited for, so its pid cannot be another process's.
            self.pidfd = os.pidfd_open(self.pid)

    def _finish(self) -> None:
        """The control socket has ended: the program runs, or a record failed."""
        self._find_child()
        self.over = True
        self.drain()
        failure = self.failure()
        if failure is not None:
            raise failure

    # -- what happened ---------------------------------------------------------------------------------------

    def outcomes(self, start: int = 0, used: int = -1) -> list[tuple[Record, int, int, int]]:
        """Return (record, result, began, ended) of each record that was begun; times in TSC ticks.

        Args:
            start: without so many of the first.
            used: how many there are, where that is known.
        """
        records = self.lowered.records
        if used < 0:
            used = self.used()
        ring = os.pread(self.memory, OUTCOME.size * (used - start), OUTCOME.size * start)
        return [
            (records[at], result, began, ended) for at, _, result, began, ended in OUTCOME.iter_unpack(ring)
        ]  # fmt: skip

    def used(self) -> int:
        """Return how many records were begun."""
        return int.from_bytes(os.pread(self.memory, 4, USED_AT), "little")

    def earlier(self, used: int) -> Iterator[tuple[Record, int, int, int]]:
        """Yield the outcomes before the last few, backward; read only if somebody asks."""
        yield from reversed(self.outcomes(0, max(used - LAST, 0)))

    def failure(self) -> PlanFailed | None:
        """Return the failure that ended the plan, or None if the program was started (or the plan ended well)."""
        used = self.used()
        known = self.outcomes(max(used - LAST, 0), used)  # mostly enough
        for record, result, _, _ in chain(reversed(known), self.earlier(used)):
            if result == PENDING:
                if record.call in ("execve", "execveat", "exit_group"):
                    return None
                return PlanFailed(record, 0, f"{self._where(record)}: the process died in this call")
            errno = -result if -4096 < result < 0 else 0
            if errno and errno not in record.otherwise:
                return PlanFailed(record, errno, self._explain(record, errno))
            if not errno and result < record.at_least:
                return PlanFailed(record, 0, f"{self._where(record)}: returned {result}: the other side has gone")
            if record.side == "container" or self.plan.pid is None:
                return None
        return PlanFailed(self.lowered.records[0], 0, "the executor died before the first record")

    def _where(self, record: Record) -> str:
        from minirt.plan.decode import call_text

        return f"step {record.step}: {call_text(record, self)}" if record.step else call_text(record, self)

    def _explain(self, record: Record, errno: int) -> str:
        from errno import errorcode

        from minirt.plan.causes import usual_cause

        text = f"{self._where(record)}: {errorcode.get(errno, errno)} ({os.strerror(errno)})"
        cause = usual_cause(record.call, errno)
        return f"{text}: {cause}" if cause else text

    def drain(self) -> None:
        """Give the sink what has happened since it was last asked."""
        if self.sink is None:
            return
        from minirt.plan.decode import event_of

        outcomes = self.outcomes(self.seen)
        clock = _scale(self.started, _clock())
        for record, result, began, ended in outcomes:
            if result == PENDING and not self.over and record.call != "exit_group":
                return  # a call under way is told when it has returned
            self.seen += 1
            if record.barrier.startswith(LOOK):
                continue
            event = event_of(record, result, clock(began), clock(ended) - clock(began) if ended else 0, self)
            if self.hold:
                self.held.append(event)
            else:
                self.sink(event)

    def flush(self, change: tuple[str, ...] = ()) -> None:
        """Give the sink the events that were held back, the last with what they changed."""
        if self.held and self.sink is not None:
            self.held[-1].change = change
            for event in self.held:
                self.sink(event)
            self.held.clear()

    # -- the end ---------------------------------------------------------------------------------------------

    def wait(self) -> int:
        """Wait for the program and return its exit status: its own, or 128+n where signal n ended it."""
        _, status = os.waitpid(self.pid, 0)
        self.reaped()
        code = os.waitstatus_to_exitcode(status)
        return code if code >= 0 else 128 - code

    def reaped(self) -> None:
        """Note that the child has been waited for."""
        if self.executor == self.pid:
            self.executor = -1
        self.pid = 0

    def close(self) -> None:
        """Kill and reap what is left, and close the descriptors. May be called twice."""
        if not self.pid and not self.over and self.plan.pid is not None and self.control >= 0:
            # The executor may still be making it: closing the socket ends both at their next barrier.
            os.close(self.control)
            self.control = -1
            if self.executor > 0:
                self.parent.reap(self.executor)
                self.executor = -1
            self.pid = max(self.peek(self.plan.pid), 0)
        for pid in {self.pid, self.executor}:
            if pid > 0:
                os.kill(pid, constants.SIGKILL)
                self.parent.reap(pid)
        self.pid, self.executor = 0, -1
        self._close_sent()
        for name in ("control", "pidfd", "memory", "received"):
            fd = getattr(self, name)
            if fd >= 0:
                os.close(fd)
                setattr(self, name, -1)


def run(
    plan: Plan,
    fds: Sequence[int] = (0, 1, 2),
    sink: Sink | None = None,
    at: Callable[[str, Birth], Any] | None = None,
    explain: bool = False,
    rest: Callable[[Plan], Any] | None = None,
) -> int:
    """Run a plan whose program is waited for.

    Args:
        plan: what to run.
        fds: the program's standard descriptors.
        sink: gets each event.
        at: called with a barrier's name and the birth while the child waits there.
        explain: print each event to standard error.
        rest: appends the rest of the plan meanwhile (see `Birth`).

    Returns: the program's exit status; 128+n where signal n ended it.
    Raises: PlanFailed.
    """
    if explain and sink is None:
        import sys

        from minirt.plan.explain import Explainer

        sink = Explainer(sys.stderr)
    with Birth(plan, fds, sink, rest=rest) as birth:
        for name in birth.barriers():
            if at is not None:
                at(name, birth)
        birth.flush()
        return birth.wait()


def _must(call: str, result: int) -> int:
    if result < 0:
        raise KernelError(-result, f"{call}: {os.strerror(-result)}")
    return result


def _clock() -> tuple[int, int]:
    nanoseconds, ticks = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    lib.plan_clock(nanoseconds, ticks)
    return nanoseconds[0], ticks[0]


def _scale(first: tuple[int, int], last: tuple[int, int]) -> Callable[[int], int]:
    """Return a function from TSC ticks to nanoseconds of CLOCK_MONOTONIC, from two moments known in both."""
    rate = (last[0] - first[0]) / max(last[1] - first[1], 1)
    return lambda ticks: first[0] + int((ticks - first[1]) * rate)
