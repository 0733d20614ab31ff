"""The memory that arguments of records point into: strings, structures, room for results, each at an address of its own."""

from __future__ import annotations

from struct import Struct

from minirt.plan.record import Address, Memory, Slot, Words

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.record import Argument

__all__ = ["WORD", "Arena"]

WORD = (1 << 64) - 1


class Arena:
    """Hands out addresses for what arguments point to; equal text is kept once."""

    __slots__ = ("addresses", "base", "bytes", "keep", "texts")

    def __init__(self, base: int = 0) -> None:
        self.base = base
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
