"""Run a plan: start the executor, stand at its barriers, read what came of each record.

    Python ──clone, execveat──▶ executor ──clone3(CLONE_PARENT)──▶ child ──execve──▶ the program
       │                            │ ends                          │
       └── control socket: a barrier is a message each way; its end is closed by the execve, or by death

The kernel loads the executor while Python makes the plan, and the child is being made while Python makes the rest of it: each
part that is there is told by a message. The ring in the plan's memory holds each outcome (ring.py), so a failure is known
with its record, even from a process that may no longer write.
"""

from __future__ import annotations

import os

from minirt.errors import KernelError
from minirt.linux import constants
from minirt.linux.direct import receive, send, syscall
from minirt.plan import ring
from minirt.plan.builder import Plan
from minirt.plan.executor import Parent
from minirt.plan.layout import EXTENT_AT, HEADER_AT, PENDING
from minirt.plan.lower import Lowered, lower
from minirt.plan.ring import PlanFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from minirt.plan.record import Memory
    from minirt.trace import Event, Sink

__all__ = ["Birth", "PlanFailed", "run"]

LOOK = "look:"  # begins the names of barriers that explain and step put in; they are not told


class Birth:
    """One run of a plan, from the executor's start to the program's.

    Args:
        plan: what to run; or what makes it, which is called while the executor starts.
        fds: the program's descriptors 0, 1, 2, then the preserved ones; numbers in this process.
        sink: gets each event as soon as it is known.
        memory: descriptor of a file to hold the plan and its ring (a created container keeps one in its state
            directory); by default a memfd.
        rest: appends the rest of a plan that ends with `Plan.await_rest`, while the executor runs what there is; or several
            of these, each the next part, made while the child runs the one before.
        parent: who starts the executor; by default this process.

    Use it as a context manager: what it started and nobody took over is killed and reaped at the end.
    """

    def __init__(
        self,
        plan: Plan | Callable[[], Plan],
        fds: Sequence[int] = (0, 1, 2),
        sink: Sink | None = None,
        memory: int = -1,
        rest: Callable[[Plan], Any] | Sequence[Callable[[Plan], Any]] = (),
        parent: Parent | None = None,
    ) -> None:
        self.parent = parent or Parent()
        self.sink = sink
        self.plan, self.lowered = Plan(), Lowered()  # until it is made
        self.pid = 0  # the child, or the executor itself where the plan has no clone3
        self.pidfd = -1
        self.received = -1  # the descriptor that came with a barrier's message (a pty's master); the caller takes it
        self.to_send: list[int] = []  # descriptors for the barrier's answer; closed when they are sent
        self.seen = 0  # outcomes that the sink got
        self.held: list[Event] = []  # events that wait for what changed (`flush`)
        self.hold = False
        self.meanwhile: Callable[[], Any] | None = None  # to be done once, while the child goes on from the next barrier
        self.over = False  # the program has started, or all is dead
        self.executor = -1
        self.memory = memory if memory >= 0 else os.memfd_create("minirt-plan", os.MFD_CLOEXEC)
        self.started = _clock() if sink is not None else (0, 0)
        pair, kind = bytearray(8), constants.SOCK_SEQPACKET | constants.SOCK_CLOEXEC
        _must("socketpair", syscall(constants.SYS_socketpair, constants.AF_UNIX, kind, 0, pair))
        self.control, theirs = (int.from_bytes(half, "little") for half in (pair[:4], pair[4:]))
        try:
            numbers = [*fds, theirs, self.memory]
            try:
                self.executor = _must("clone", self.parent.spawn(numbers, len(numbers) - 1))
            finally:
                os.close(theirs)
            self._begin(plan() if callable(plan) else plan, len(fds), (rest,) if callable(rest) else rest)
        except BaseException:
            self.close()
            raise

    def _begin(self, plan: Plan, fds: int, rest: Sequence[Callable[[Plan], Any]]) -> None:
        """Write the plan, or its first part, tell the executor, and go on to the rest."""
        if fds != 3 + plan.preserve_fds:
            raise ValueError(f"{fds} descriptors for {3 + plan.preserve_fds} places")
        rest = make_all(plan, rest)
        self.lowered = lower(plan)
        self.plan = plan
        os.pwrite(self.memory, self.lowered.image, HEADER_AT)
        send(self.control, [])
        while rest:
            rest[0](plan)
            rest = make_all(plan, rest[1:])
            if rest:
                plan.await_rest()
            self._add()

    def _add(self) -> None:
        """Write what the plan has more, and tell the child, which waits for that or will."""
        offset, part, extent = self.lowered.add(self.plan)
        os.pwrite(self.memory, part, offset)
        os.pwrite(self.memory, extent, EXTENT_AT)
        send(self.control, [])

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
            send(self.control, self.to_send)  # a dead child is found at the next read
            self._close_sent()
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
        self._finish()

    def leave(self) -> int:
        """Let the child that waits at the last barrier go on, and leave it: it is the caller's. Returns its pid."""
        send(self.control, self.to_send)
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
        # EINTR: here Python's own handlers run, and may raise. ECONNRESET, told once: the other side died with something of
        # ours unread; what it said before comes after that.
        while (told := receive(self.control))[0] in (-constants.EINTR, -constants.ECONNRESET):
            pass
        message, fd = told
        if fd >= 0:
            self.received = fd
        if isinstance(message, int):
            return b""
        if len(message) == 4:  # a barrier's number has 2 bytes: see csrc/plan/spawn.c
            _must("the executor could not be started: execveat", int.from_bytes(message, "little", signed=True))
        return message

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
        failure = ring.failure(self)
        if failure is not None:
            raise failure

    # -- what happened ---------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Give the sink what has happened since it was last asked."""
        if self.sink is None:
            return
        from minirt.plan.decode import event_of

        outcomes = ring.outcomes(self, self.seen)
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
    plan: Plan | Callable[[], Plan],
    fds: Sequence[int] = (0, 1, 2),
    sink: Sink | None = None,
    at: Callable[[str, Birth], Any] | None = None,
    explain: bool = False,
    rest: Callable[[Plan], Any] | Sequence[Callable[[Plan], Any]] = (),
) -> int:
    """Run a plan whose program is waited for.

    Args:
        plan: what to run, or what makes it (see `Birth`).
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


def make_all(plan: Plan, rest: Sequence[Callable[[Plan], Any]]) -> Sequence[Callable[[Plan], Any]]:
    """Make all parts of a plan that has a barrier, where the child has time to wait (`Plan.await_rest`). Returns those to come."""
    if not plan.barriers:
        return rest
    for part in rest:
        part(plan)
    return ()


def _must(call: str, result: int) -> int:
    if result < 0:
        raise KernelError(-result, f"{call}: {os.strerror(-result)}")
    return result


def _clock() -> tuple[int, int]:
    from minirt.linux._sys import ffi, lib

    nanoseconds, ticks = ffi.new("uint64_t *"), ffi.new("uint64_t *")
    lib.plan_clock(nanoseconds, ticks)
    return nanoseconds[0], ticks[0]


def _scale(first: tuple[int, int], last: tuple[int, int]) -> Callable[[int], int]:
    """Return a function from TSC ticks to nanoseconds of CLOCK_MONOTONIC, from two moments known in both."""
    rate = (last[0] - first[0]) / max(last[1] - first[1], 1)
    return lambda ticks: first[0] + int((ticks - first[1]) * rate)
