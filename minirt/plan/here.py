"""Run a plan in this very process, a record after the other: for a program that confines itself.

A container's birth needs the executor, as no interpreter may run after clone3. A process that gives up its own rights runs
on as itself, so here each record becomes a call of syscall(2) with pointers into this process's memory. Nothing of a
plan is undone: what fails is raised, and the caller must then not go on.
"""

from __future__ import annotations

from time import monotonic_ns

from minirt.errors import KernelError
from minirt.linux import constants
from minirt.linux._sys import ffi, lib
from minirt.plan.decode import arguments, call_text
from minirt.plan.record import Address, Load, Memory, Record, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.plan.builder import Plan
    from minirt.plan.record import Argument
    from minirt.trace import Sink

__all__ = ["perform"]

OTHERS = ("clone3", "execve", "check")  # calls that only the executor makes


def perform(plan: Plan, sink: Sink | None = None) -> None:
    """Run it.

    Args:
        plan: without a child, barriers or jumps; a tolerated errno goes on at the next record.
        sink: told each call.

    Raises KernelError for a call that failed, ValueError for a plan that is none for this.
    """
    for item in plan.items:
        if not isinstance(item, Record) or item.call in OTHERS or item.barrier or item.positive or any(item.otherwise.values()):
            raise ValueError(f"{item.call if isinstance(item, Record) else 'a label'} needs the executor")
    arena = _Arena()
    for record in plan.records:
        _perform(record, arena, sink)


def _perform(record: Record, arena: _Arena, sink: Sink | None) -> None:
    args = [arena.value(arg) for arg in record.args]
    begin = monotonic_ns()
    result = -record.inject or lib.plan_syscall(getattr(constants, f"SYS_{record.call}"), *args, *[0] * (6 - len(args)))
    if sink is not None:
        _tell(record, result, begin, sink)
    if result < 0:
        if -result not in record.otherwise:
            raise _failed(record, -result)
    elif result < record.at_least:
        raise KernelError(0, f"{call_text(record)}: returned {result}, and at least {record.at_least} is wanted")
    elif record.store is not None:
        arena.store(record.store, result)


def _failed(record: Record, errno: int) -> KernelError:
    import os

    from minirt.plan.causes import usual_cause

    because = usual_cause(record.call, errno)
    return KernelError(errno, f"{call_text(record)}: {os.strerror(errno)}{': ' + because if because else ''}")


def _tell(record: Record, result: int, begin: int, sink: Sink) -> None:
    from minirt.trace import Event

    outcome: dict[str, Any] = {"result": result} if result >= 0 else {"result": -1, "errno": -result}
    outcome |= {"step": record.step, "why": record.why, "time": begin, "duration": monotonic_ns() - begin}
    sink(Event(record.call, arguments(record), side="minivm", **outcome))


class _Arena:
    """The memory that arguments point to; it lives as long as this does."""

    def __init__(self) -> None:
        self._kept: dict[int, Any] = {}  # id of a piece of memory -> its copy that the kernel sees
        self._others: list[Any] = []

    def value(self, argument: Argument) -> int:
        """Return the 64-bit number that an argument is."""
        if argument is None:
            return 0
        if isinstance(argument, int):
            return argument - (1 << 64) if argument >= 1 << 63 else argument
        if isinstance(argument, Slot):
            return int.from_bytes(bytes(ffi.buffer(self._memory(argument)))[:4], "little", signed=True)
        if isinstance(argument, Load):
            place = bytes(ffi.buffer(self._memory(argument.memory)))[argument.offset : argument.offset + 4]
            return int.from_bytes(place, "little", signed=True)
        if isinstance(argument, Address):
            return self._pointer(self._memory(argument.memory)) + argument.offset
        if isinstance(argument, Memory):
            return self._pointer(self._memory(argument))
        if isinstance(argument, str | bytes):
            data = argument.encode(errors="surrogateescape") + b"\0" if isinstance(argument, str) else argument
            self._others.append(ffi.new("char[]", data))
            return self._pointer(self._others[-1])
        return self._pointer(self._memory(Words(*argument, None)))

    def _memory(self, memory: Memory) -> Any:
        found = self._kept.get(id(memory))
        if found is None:
            if isinstance(memory, Words):
                data = b"".join((self.value(item) & (1 << 64) - 1).to_bytes(8, "little") for item in memory.items)
            else:
                data = memory.data
            found = self._kept[id(memory)] = ffi.new("char[]", data)
            self._others.append(memory)  # so that its id is not used again
        return found

    def _pointer(self, memory: Any) -> int:
        return int(ffi.cast("intptr_t", memory))

    def store(self, where: Memory | Address, result: int) -> None:
        """Keep a result of 4 bytes."""
        memory, offset = (where.memory, where.offset) if isinstance(where, Address) else (where, 0)
        ffi.buffer(self._memory(memory))[offset : offset + 4] = (result & 0xFFFF_FFFF).to_bytes(4, "little")
