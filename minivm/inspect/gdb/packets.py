"""What goes over the wire: packets, acknowledgements, and the byte that interrupts.

    $ payload # checksum     checksum: two hex digits, the sum of the payload's bytes modulo 256
    + / -                    "well received" / "send it again"; both sides stop this after QStartNoAckMode
    0x03                     ctrl-C: stop the machine

In a payload `}` says that the next byte is meant with bit 5 turned over: so `#`, `$`, `}` and, in answers, `*` get through.
gdb manual, E.1 "Overview", E.14 "Notification Packets" (`%`, which gdb does not send us).
"""

from __future__ import annotations

__all__ = ["INTERRUPT", "Reader", "escape", "frame", "unescape"]

INTERRUPT = None  # in the list that Reader.feed returns: ctrl-C
ESCAPE, FLIP = 0x7D, 0x20
SPECIAL = frozenset(b"#$}*")
LONGEST = 1 << 16  # bytes of a payload; we tell gdb 0x4000, so more is not gdb


class Reader:
    """Takes bytes in whatever pieces they come, and gives back packets."""

    def __init__(self) -> None:
        self.quiet = False  # no more acknowledgements
        self.replies = bytearray()  # acknowledgements to be sent
        self.again = False  # the other side asks for our last packet again
        self._payload: bytearray | None = None  # of the packet that has begun
        self._sum = b""  # its checksum's digits so far
        self._ends = False  # its `#` has come

    def feed(self, data: bytes) -> list[bytes | None]:
        """Take bytes. Returns the packets that are complete now, as payloads still escaped, and INTERRUPT for each ctrl-C.

        Raises ValueError where a packet is longer than any that gdb sends.
        """
        found: list[bytes | None] = []
        for byte in data:
            if self._payload is None:
                self._outside(byte, found)
            elif self._ends:
                self._checksum(byte, found)
            elif byte == ord("#"):
                self._ends = True
            elif byte == ord("$"):
                self._payload.clear()  # the rest of the one before was lost
            else:
                self._payload.append(byte)
                if len(self._payload) > LONGEST:
                    raise ValueError("a packet without end: this is not gdb")
        return found

    def _outside(self, byte: int, found: list[bytes | None]) -> None:
        if byte == 0x03:
            found.append(INTERRUPT)
        elif byte == ord("$"):
            self._payload = bytearray()
        elif byte == ord("-"):
            self.again = True

    def _checksum(self, byte: int, found: list[bytes | None]) -> None:
        """Take a digit of the checksum; after the second the packet is over, well received or not."""
        self._sum += bytes((byte,))
        if len(self._sum) < 2:
            return
        assert self._payload is not None
        payload, digits = bytes(self._payload), self._sum
        self._payload, self._sum, self._ends = None, b"", False
        good = digits.lower() == b"%02x" % (sum(payload) & 0xFF)
        if not self.quiet:
            self.replies += b"+" if good else b"-"
        if good:
            found.append(payload)


def frame(payload: bytes) -> bytes:
    """Return a payload (escaped already) as a packet."""
    return b"$%b#%02x" % (payload, sum(payload) & 0xFF)


def escape(data: bytes) -> bytes:
    """Return binary data as a payload may hold it."""
    return b"".join(bytes((ESCAPE, byte ^ FLIP)) if byte in SPECIAL else bytes((byte,)) for byte in data)


def unescape(payload: bytes) -> bytes:
    """Return the binary data of a payload; a `}` at its end stands for nothing."""
    out, flip = bytearray(), False
    for byte in payload:
        if flip:
            out.append(byte ^ FLIP)
            flip = False
        elif byte == ESCAPE:
            flip = True
        else:
            out.append(byte)
    return bytes(out)
