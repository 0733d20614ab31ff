"""From records to the memory that csrc/plan/executor.c runs: numbers, and pointers that are plain numbers.

The layout is csrc/plan/plan.h's: a header, the records, the arena that their arguments point into, the ring. The
same file is mapped by the executor at PLAN_BASE and read and written here by offset, so nothing is shared but a
descriptor.
"""

from __future__ import annotations

from struct import Struct

from minirt.linux import constants
from minirt.plan.record import Address, Label, Load, Memory, Record, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.builder import Plan
    from minirt.plan.record import Argument

__all__ = ["PENDING", "Lowered", "lower"]

HEADER = Struct("<QIIQII")  # struct plan: magic count used ring capacity reserved
RECORD = Struct("<IHH6QQiHH8H")  # struct record
OUTCOME = Struct("<IIqQQ")  # struct outcome
PENDING = -(1 << 63)  # the call has begun and has not returned
ERRNOS = 4
WORD = (1 << 64) - 1
ZEROS = (0,) * 6
NO_ERRNOS = (0,) * (2 * ERRNOS)


class Lowered:
    """A plan as bytes, with what is needed to write into it later and to read its ring."""

    __slots__ = ("addresses", "image", "records", "ring")

    def __init__(self, image: bytearray, records: list[Record], addresses: dict[int, int], ring: int) -> None:
        self.image = image
        self.records = records
        self.addresses = addresses  # id(memory) -> address
        self.ring = ring  # offset of the first outcome in the file

    def offset(self, memory: Memory) -> int:
        """Return where in the file a piece of memory lies."""
        return self.addresses[id(memory)] - constants.PLAN_BASE


class Arena:
    """Hands out addresses for what arguments point to; equal text is kept once."""

    __slots__ = ("addresses", "base", "bytes", "keep", "texts")

    def __init__(self, base: int) -> None:
        self.base = base
        self.bytes = bytearray()
        self.texts: dict[str | bytes, int] = {}
        self.addresses: dict[int, int] = {}
        self.keep: list[Memory] = []  # so that no id is used twice

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
    Raises: ValueError for a jump to a label that is missing or lies behind, or too many tolerated errnos.
    """
    records: list[Record] = []
    labels: dict[str, int] = {}
    for item in plan.items:
        if isinstance(item, Label):
            labels[item.name] = len(records)
        else:
            records.append(item)
    count = len(records)
    arena = Arena(constants.PLAN_BASE + HEADER.size + RECORD.size * count)
    # Structures first: a slot that lies inside one has its address from there.
    for words in [arg for record in records for arg in record.args if arg.__class__ is Words]:
        arena.memory(words)
    packed = bytearray(RECORD.size * count)
    pack, text, known, numbers = RECORD.pack_into, arena.text, arena.texts.get, _numbers.get
    # One pass over every argument of every record: what is common is asked first, and not through `Arena.value`.
    for at, record in enumerate(records):
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
        pack(
            packed, RECORD.size * at, numbers(record.call) or number(record.call), loads,
            forward(labels, record.positive, at, record) if record.positive else 0,
            *args, *ZEROS[len(args) :], store, record.at_least, 0, record.inject,
            *(tolerated(record, labels, at) if record.otherwise else NO_ERRNOS),
        )  # fmt: skip
    for late in plan.late.values():
        arena.memory(late)
    arena.put(b"")
    ring = arena.base + len(arena.bytes)
    capacity = 2 * count
    header = HEADER.pack(constants.PLAN_MAGIC, count, 0, ring, capacity, 0)
    image = bytearray(header) + packed + arena.bytes + bytes(OUTCOME.size * capacity)
    return Lowered(image, records, arena.addresses, ring - constants.PLAN_BASE)


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
