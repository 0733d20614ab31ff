"""From records to the memory that csrc/plan/executor.c runs: numbers, and pointers that are plain numbers.

The layout is csrc/plan/plan.h's (layout.py): the ring, a header, the records, the arena that their arguments point into. The
same file is mapped by the executor at PLAN_BASE and read and written here by offset, so nothing is shared but a
descriptor.

A plan may come in two parts: the executor begins with the first while the second is being made (`Lowered.add`).
"""

from __future__ import annotations

from struct import Struct

from minirt.linux import constants
from minirt.plan.layout import CAPACITY, EXTENT, HEADER, RECORD
from minirt.plan.record import END, Address, Label, Load, Memory, Record, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.builder import Plan
    from minirt.plan.record import Argument

__all__ = ["Lowered", "lower"]

ERRNOS = 4
WORD = (1 << 64) - 1
ZEROS = (0,) * 6
NO_ERRNOS = (0,) * (2 * ERRNOS)


class Lowered:
    """A plan as bytes, with what is needed to write into it later and to read its ring.

    Attributes:
        image: the header and the first part, which belong at HEADER_AT.
        records: in their order, as the ring counts them.
    """

    __slots__ = ("arena", "end", "image", "items", "packed", "records")

    def __init__(self) -> None:
        self.image = b""
        self.records: list[Record] = []
        self.items = 0  # of the plan, that are lowered
        self.packed = bytearray()
        self.end = constants.PLAN_HEADER + HEADER.size  # address of the next part
        self.arena = Arena()

    def offset(self, memory: Memory) -> int:
        """Return where in the file a piece of memory lies."""
        return self.arena.addresses[id(memory)] - constants.PLAN_BASE

    def add(self, plan: Plan) -> tuple[int, bytes, bytes]:
        """Lower what has been appended to the plan since the last time.

        Returns: where in the file it belongs, the bytes, and what is to be at EXTENT_AT once they are there.
        Raises: ValueError for a jump to a label that is missing or lies behind, too many tolerated errnos, too many records.
        """
        items = plan.items[self.items :] if self.items else plan.items
        self.items = len(plan.items)
        begin, first = self.end, len(self.records)
        records: list[Record] = []
        labels: dict[str, int] = {END: constants.PLAN_END}
        for item in items:
            if isinstance(item, Label):
                labels[item.name] = first + len(records)
            else:
                records.append(item)
        count = first + len(records)
        if 2 * count > CAPACITY:
            raise ValueError(f"{count} system calls are more than a plan can have ({CAPACITY // 2})")
        self.records += records
        self.arena.begin(begin + RECORD.size * count)
        # Structures first: a slot that lies inside one has its address from there.
        for words in [arg for record in records for arg in record.args if arg.__class__ is Words]:
            self.arena.memory(words)
        self.packed += pack(records, first, labels, self.arena)
        for late in plan.late.values():
            self.arena.memory(late)
        self.arena.put(b"")
        self.end = self.arena.base + len(self.arena.bytes)
        return begin - constants.PLAN_BASE, bytes(self.packed + self.arena.bytes), EXTENT.pack(begin, count)


class Arena:
    """Hands out addresses for what arguments point to; equal text is kept once."""

    __slots__ = ("addresses", "base", "bytes", "keep", "texts")

    def __init__(self) -> None:
        self.base = 0
        self.bytes = bytearray()
        self.texts: dict[str | bytes, int] = {}
        self.addresses: dict[int, int] = {}
        self.keep: list[Memory] = []  # so that no id is used twice

    def begin(self, base: int) -> None:
        """Begin a part at an address; what the parts before it hold stays where it is."""
        self.base = base
        self.bytes = bytearray()

    def put(self, data: bytes) -> int:
        """Copy bytes in, aligned to 8, and return their address."""
        place = self.bytes
        gap = -len(place) % 8
        if gap:
            place += bytes(gap)
        address = self.base + len(place)
        place += data
        return address

    def text(self, data: str | bytes) -> int:
        """Return the address of text (NUL-terminated) or of bytes that nothing writes to."""
        address = self.texts.get(data)
        if address is None:
            if isinstance(data, bytes):
                address = self.put(data)
            else:
                address = self.put(data.encode(errors="surrogateescape") + b"\0")
            self.texts[data] = address
        return address

    def memory(self, memory: Memory) -> int:
        """Return the address of a piece of memory, placing it the first time."""
        address = self.addresses.get(id(memory))
        if address is None:
            if isinstance(memory, Words):
                values = [self.value(item) for item in memory.items]
                address = self.put(Struct(f"<{len(values)}Q").pack(*values))
                # A slot inside a structure is stored to in place: the word's address is the slot's.
                for i, item in enumerate(memory.items):
                    if isinstance(item, Slot) and id(item) not in self.addresses:
                        self.addresses[id(item)] = address + 8 * i
                        self.keep.append(item)
            else:
                address = self.put(memory.data)
            self.addresses[id(memory)] = address
            self.keep.append(memory)
        return address

    def value(self, item: Argument) -> int:
        """Return the 64-bit number that stands for an item in a structure."""
        if item is None:
            return 0
        if isinstance(item, int):
            return item & WORD
        if isinstance(item, (str, bytes)):
            return self.text(item)
        if isinstance(item, Slot):
            return int.from_bytes(item.data, "little") if id(item) not in self.addresses else self.misplaced(item)
        if isinstance(item, Memory):
            return self.memory(item)
        if isinstance(item, Address):
            return self.memory(item.memory) + item.offset
        return self.memory(Words(*item, None))  # argv, envp: an array of pointers that ends with a null pointer

    def misplaced(self, slot: Slot) -> int:
        raise ValueError(f"slot {slot.name!r} is used before the structure that must hold it")


def lower(plan: Plan) -> Lowered:
    """Turn a plan into the bytes that the executor maps.

    Args:
        plan: what to lower; it is not changed.

    Returns: the bytes, and where things lie in them.
    Raises: ValueError for a jump to a label that is missing or lies behind, too many tolerated errnos, too many records.
    """
    lowered = Lowered()
    _, part, extent = lowered.add(plan)
    header = HEADER.pack(constants.PLAN_MAGIC, *EXTENT.unpack(extent), 0, constants.PLAN_BASE, CAPACITY, 0)
    lowered.image = header + part
    return lowered


def pack(records: list[Record], first: int, labels: dict[str, int], arena: Arena) -> bytearray:
    """Return records as struct record, the first of them having this number; what they point to goes into the arena."""
    packed = bytearray(RECORD.size * len(records))
    into, text, known, numbers = RECORD.pack_into, arena.text, arena.texts.get, _numbers.get
    # One pass over every argument of every record: what is common is asked first, and not through `Arena.value`.
    for at, record in enumerate(records, first):
        args = []
        loads = 0
        for arg in record.args:
            if arg.__class__ is int:
                args.append(arg & WORD)
            elif arg.__class__ is str:
                args.append(known(arg) or text(arg))
            elif arg is None:
                args.append(0)
            elif arg.__class__ is Slot:
                loads |= 1 << 2 * len(args)
                args.append(arena.memory(arg))
            elif isinstance(arg, Load):
                loads |= 1 << 2 * len(args)
                args.append(arena.memory(arg.memory) + arg.offset)
            else:
                args.append(arena.value(arg))
        store = 0
        if record.store is not None:
            store = arena.value(record.store) if isinstance(record.store, Address) else arena.memory(record.store)
        into(
            packed, RECORD.size * (at - first), numbers(record.call) or number(record.call), loads,
            forward(labels, record.positive, at, record) if record.positive else 0,
            *args, *ZEROS[len(args) :], store, record.at_least, 0, record.inject,
            *(tolerated(record, labels, at) if record.otherwise else NO_ERRNOS),
        )  # fmt: skip
    return packed


def tolerated(record: Record, labels: dict[str, int], at: int) -> list[int]:
    """Return the errnos that a record goes on after, each with where; 0 is the next record, or no errno."""
    pairs = []
    for errno, label in record.otherwise.items():
        pairs += [errno, 0 if label is None else forward(labels, label, at, record)]
    if len(pairs) > 2 * ERRNOS:
        raise ValueError(f"{record.call}: more than {ERRNOS} tolerated errnos")
    return pairs + [0] * (2 * ERRNOS - len(pairs))


def forward(labels: dict[str, int], label: str, at: int, record: Record) -> int:
    """Return the record that a label stands before; it must lie ahead."""
    target = labels.get(label)
    if target is None or target <= at:
        raise ValueError(f"{record.call} in step {record.step}: no label {label!r} ahead of it")
    return target


_numbers = {"check": constants.PLAN_CHECK}


def number(call: str) -> int:
    """Return a system call's number on this machine (asm/unistd.h)."""
    value = _numbers.get(call)
    if value is None:
        value = _numbers[call] = getattr(constants, f"SYS_{call}")
    return value
