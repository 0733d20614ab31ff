"""The data that a plan is made of: records, and the memory that their arguments point into.

    Record   one system call: its name, its arguments, why; what it may fail with; where its result goes
    Memory   bytes in the plan's arena, at an address that is known when the plan is lowered
    Words    memory made of 64-bit words, each a number or a pointer: argv, struct clone_args, struct msghdr
    Slot     memory for one result: as an argument it means "what is stored there by then"
    Late     memory that Python fills in while the child waits at a barrier

Nothing here calls the kernel.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    # str: NUL-terminated text; bytes: as they are; None: a null pointer; a list: argv or words
    Argument: TypeAlias = int | str | bytes | "Memory" | "Address" | Sequence["Argument"] | None

END = "end"  # the label of no record: who goes on there has done its part
CGROUP = 10  # which word of struct clone_args is the descriptor of the child's cgroup (man 2 clone3)

__all__ = ["CGROUP", "END", "Address", "Label", "Late", "Load", "Memory", "Record", "Slot", "Words"]


class Memory:
    """Bytes in the plan's arena; as an argument, their address."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def at(self, offset: int) -> Address:
        """Return the address of a byte of it, for `store=` or for a pointer into it."""
        return Address(self, offset)

    def load(self, offset: int) -> Load:
        """Return, as an argument, the 32-bit number that is at this offset by then."""
        return Load(self, offset)

    @property
    def size(self) -> int:
        """Return its length in bytes."""
        return len(self.data)


class Late(Memory):
    """Room for `capacity` bytes that are decided while the child waits at a barrier (`Birth.fill`)."""

    __slots__ = ("name",)

    def __init__(self, name: str, capacity: int, data: bytes = b"") -> None:
        super().__init__(data.ljust(capacity, b"\0"))
        self.name = name


class Slot(Memory):
    """Room for a result of 4 bytes (an fd, a pid, a uid); as an argument, the value in it at that time."""

    __slots__ = ("name",)

    def __init__(self, name: str, value: int = -1) -> None:
        super().__init__((value & 0xFFFFFFFF).to_bytes(4, "little"))
        self.name = name


class Words(Memory):
    """A C structure or array of 64-bit words: numbers, strings (as pointers) and other memory (as pointers)."""

    __slots__ = ("items",)

    def __init__(self, *items: Argument) -> None:
        self.items = items

    @property
    def size(self) -> int:
        return 8 * len(self.items)


class Address:
    """A byte inside a piece of memory."""

    __slots__ = ("memory", "offset")

    def __init__(self, memory: Memory, offset: int) -> None:
        self.memory = memory
        self.offset = offset


class Load(Address):
    """As an argument: the signed 32-bit number stored there by then (an fd in a received message)."""

    __slots__ = ()


class Label:
    """A place in the list of records to go forward to: the next record that is there when it is lowered."""

    __slots__ = ("name", "side", "step")

    def __init__(self, name: str, step: str, side: str) -> None:
        self.name = name
        self.step = step
        self.side = side


class Record:
    """One system call of a plan.

    `call` and `kinds` come from the method of `Plan` that made it; `kinds` are the names of its parameters'
    types, which say how to print them.
    """

    __slots__ = (
        "args", "at_least", "barrier", "call", "inject", "kinds", "otherwise", "packed", "pool", "positive", "side", "step",
        "store", "why",
    )  # fmt: skip

    def __init__(
        self,
        call: str,
        kinds: Mapping[str, str] | Callable[..., object],
        args: tuple[Argument, ...],
        step: str,
        side: str,
        why: str = "",
        tolerate: tuple[int, ...] = (),
        otherwise: Mapping[int, str] | None = None,
        at_least: int = 0,
        store: Slot | Address | None = None,
        positive: str | None = None,
        barrier: str = "",
    ) -> None:
        self.call = call
        self.kinds = kinds  # parameter name -> kind, in the man page's order; or the method that has them as its annotations
        self.args = args
        self.step = step
        self.side = side  # executor: before clone3, and its parent's side; container: the child
        self.why = why
        self.otherwise: dict[int, str | None] = dict.fromkeys(tolerate) if tolerate else {}
        if otherwise:  # errno -> label; None: the next record
            self.otherwise.update(otherwise)
        self.at_least = at_least
        self.store = store
        self.positive = positive
        self.barrier = barrier  # the name of the barrier that this is half of
        self.inject = 0  # errno to pretend
        self.packed = b""  # of a passage that plans have in common: as struct record, where the pool has so many bytes
        self.pool = 0
