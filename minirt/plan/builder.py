"""The plan: an ordered list of system calls, each with the reason it is there.

    from minirt.plan import Plan
    from minirt.linux.constants import CLONE_NEWUTS
    Plan().unshare(CLONE_NEWUTS).sethostname("box").execve("/bin/sh").run()

Each method appends to the list, and calls nothing. Those that are named after system calls are in calls.py; here is what
orders them: steps and labels, the child that `clone3` makes, and barriers, where it waits until more has been decided.
"""

from __future__ import annotations

from minirt.linux import constants
from minirt.plan import common
from minirt.plan.calls import SystemCalls
from minirt.plan.record import END, Label, Late, Memory, Record, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable
    from typing import Any, Unpack

    from minirt.plan.kinds import CLONE, How
    from minirt.plan.record import Address, Argument

__all__ = ["Plan", "Step"]


class Step:
    """A named group of records: what it does for a learner, and which steps must stand before it."""

    __slots__ = ("name", "needs", "why")

    def __init__(self, name: str, needs: tuple[str, ...] = (), why: str = "") -> None:
        self.name = name
        self.needs = needs
        self.why = why


def message(data: bytes, control: Memory, size: int) -> Words:
    """Return a struct msghdr of one piece of data, and ancillary data of `size` bytes (man 2 sendmsg)."""
    return Words(0, 0, Words(Memory(data), len(data)), 1, control, size, 0)


class Plan(SystemCalls):
    """A list of records, grouped into steps.

    Args:
        preserve_fds: descriptors 3 .. 3+N-1 of the caller that the program keeps (runc's --preserve-fds).
    """

    def __init__(self, preserve_fds: int = 0) -> None:
        super().__init__()
        self.steps: dict[str, Step] = {}
        self.late: dict[str, Late | Slot] = {}
        self.notes: list[str] = []  # what was decided while building, worth telling
        self.preserve_fds = preserve_fds
        self.control = 3 + preserve_fds  # the number of the control socket in the executor and the child
        self.pid: Slot | None = None  # where clone3 puts the child's pid; None: the executor becomes the program
        self.barriers: list[tuple[str, str]] = []  # name, side

    # -- building --------------------------------------------------------------------------------------------

    def step(self, name: str, needs: tuple[str, ...] = (), why: str = "") -> Plan:
        """Begin a step: what is appended from now on belongs to it."""
        self.current = name
        if name not in self.steps:
            self.steps[name] = Step(name, needs, why)
        return self

    def label(self, name: str) -> Plan:
        """Mark this place, to go on at from an earlier record."""
        self.items.append(Label(name, self.current, self.side))
        return self

    def common(self, key: Hashable, write: Callable[[], Any]) -> Any:
        """Append a passage that many plans have: what `write` appended when this key was met for the first time (common.py).

        Args:
            key: all that the passage depends on.
            write: appends it.

        Returns: what `write` returned: what else follows from the key.
        """
        passage = common.passages.get((self.side, key))
        if passage is None:
            begin, steps = len(self.items), len(self.steps)
            value = write()
            common.keep((self.side, key), self.items[begin:], list(self.steps.values())[steps:], self.current, value)
            return value
        self.items += passage.records
        for step in passage.steps:
            self.steps.setdefault(step.name, step)
        self.current = passage.current
        return passage.value

    def check(self, have: Memory | Address, want: bytes, mask: bytes, error: int, why: str = "") -> Plan:
        """Compare memory under a mask; where it differs, fail as a system call with this errno would."""
        kinds = {"have": "Pointer", "want": "Data", "mask": "Data", "size": "Size", "errno": "Number"}
        args = (have, want, mask, len(want), error)
        return self.append("check", kinds, args, {"why": why})

    def extend(self, steps: Iterable[Callable[[Plan, Any], None]], context: Any) -> Plan:
        """Let each function append its records. Returns the plan."""
        for function in steps:
            function(self, context)
        return self

    @property
    def records(self) -> list[Record]:
        """The records alone, in order."""
        return [item for item in self.items if isinstance(item, Record)]

    # -- the child, and waiting ------------------------------------------------------------------------------

    def clone3(self, flags: CLONE, cgroup: Slot | None = None, **how: Unpack[How]) -> Plan:
        """Make the child: the records that follow are its own; the executor has done its part (man 2 clone3).

        struct clone_args is made here: CLONE_PARENT makes the child Python's own (and so has Python's
        exit signal, which is why exit_signal must be 0); `cgroup` is the fd for CLONE_INTO_CGROUP.
        """
        fd: Argument = 0
        if cgroup is not None:
            assert isinstance(flags, int)
            flags |= constants.CLONE_INTO_CGROUP
            fd = cgroup
        self.pid = self.pid or Slot("child's pid")
        kinds = {"args": "Clone", "size": "Size"}
        #            flags  pidfd child parent exit stack size tls set_tid size cgroup
        args = Words(flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, fd)  # fd is word CGROUP
        self.append("clone3", kinds, (args, 88), {"store": self.pid, "positive": END, **how})
        self.side = "container"
        return self

    def at_barrier(self, name: str, room: int = 0, data: bytes = b"") -> Any:
        """Declare something that is decided at a barrier: a number, or `room` bytes (at first: data).

        Returns its memory, for the argument that it is.
        """
        memory = Late(name, room, data) if room else Slot(name)
        self.late[name] = memory
        return memory

    def barrier(self, name: str, why: str = "", give: Slot | None = None, take: Memory | None = None) -> Plan:
        """Wait here until Python, having looked, lets go on: a message, then its answer (`Birth.barriers`).

        Args:
            name: what Python is told.
            why: what it decides there.
            give: a descriptor to send along (a pty's master).
            take: a `struct cmsghdr` that the descriptors in the answer are put into.
        """
        self.barriers.append((name, self.side))
        number = len(self.barriers).to_bytes(2, "little")
        if give is None:
            self.write(self.control, number, 2, why=why, barrier=name)
        else:
            rights = Words(20, constants.SOL_SOCKET | constants.SCM_RIGHTS << 32, give)
            self.sendmsg(self.control, message(number, rights, 24), why=why, barrier=name)
        dead = "0 bytes: the parent has died"
        if take is None:
            return self.read(self.control, Memory(bytes(8)), 1, at_least=1, barrier=name, why=dead)
        cloexec = constants.MSG_CMSG_CLOEXEC
        return self.recvmsg(self.control, message(bytes(1), take, take.size), cloexec, at_least=1, barrier=name, why=dead)

    def await_rest(self) -> Plan:
        """Wait until the rest of the plan is written, which minirt has been making since it started the executor.

        Not after a barrier, which would take the message for its answer: `Birth` writes such a plan as a whole.
        """
        if self.barriers:
            return self
        return self.read(self.control, Memory(bytes(8)), 1, at_least=1,
                         why="the rest of this plan, which minirt wrote meanwhile; 0 bytes: it has died")  # fmt: skip

    # -- running ---------------------------------------------------------------------------------------------

    def run(self, **options: Any) -> int:
        """Run the plan and wait; see `minirt.plan.birth.run`. Returns the exit status, 128+n for signal n."""
        from minirt.plan.birth import run

        return run(self, **options)

    def __str__(self) -> str:
        from minirt.plan.decode import describe

        return "\n".join(describe(self))
