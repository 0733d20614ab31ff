"""What gdb's packets ask, one method each; gdb manual, E.2 "Packets", names them.

The answers: "" is "I do not know that", "OK" is success, E01 is a failure that gdb shows as such. A packet that lets the
machine go has no answer now: its answer is the next stop (None here).
"""

from __future__ import annotations

from minivm import kvm
from minivm.errors import KvmError
from minivm.inspect.gdb.packets import escape, unescape
from minivm.inspect.gdb.registers import Registers, target_xml
from minivm.inspect.paging import Modes, walk

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minivm.inspect.gdb.breakpoints import Breakpoints
    from minivm.inspect.gdb.halt import Halt
    from minivm.inspect.gdb.memory import Bytes, GuestView

    Answer = bytes | None

__all__ = ["Commands", "Goodbye"]

PACKET = 0x4000  # the longest payload that we take
STATES = {"KVM_MP_STATE_RUNNABLE": "running", "KVM_MP_STATE_HALTED": "in hlt", "KVM_MP_STATE_UNINITIALIZED": "not started",
          "KVM_MP_STATE_INIT_RECEIVED": "waits for its start-up interrupt"}  # fmt: skip
MONITOR = """\
monitor walk ADDRESS       draw the walk through the page tables
monitor registers          control registers, tables and segments of this processor
monitor physical on|off    take addresses as guest-physical ones
monitor log                how breakpoints are made on this KVM
"""


class Goodbye(Exception):
    """gdb leaves: `kill` says whether the machine is to end."""

    def __init__(self, kill: bool) -> None:
        self.kill = kill


def hex_number(text: bytes) -> int:
    """Return a number as packets have them: hex digits without a sign, of 64 bits at most. Raises ValueError."""
    if not 0 < len(text) <= 16 or text.strip(b"0123456789abcdefABCDEF"):
        raise ValueError(text)
    return int(text, 16)


class Commands:
    """Answers packets while the machine stands.

    Args:
        vcpus: the machine's processors.
        halt, breakpoints, memory: of the machine.
        bytes_at: gives guest-physical memory.
        ram: (address, bytes) of each range of the guest's memory.
    """

    def __init__(
        self, vcpus: Sequence[kvm.Vcpu], halt: Halt, breakpoints: Breakpoints, memory: GuestView, bytes_at: Bytes,
        ram: Callable[[], list[tuple[int, int]]],
    ) -> None:  # fmt: skip
        self._vcpus, self._halt, self._breakpoints, self._memory = vcpus, halt, breakpoints, memory
        self._bytes_at, self._ram = bytes_at, ram
        self._current = 0  # processor that registers and memory are asked of (Hg)
        self._stepped = 0  # the one that `s` and `c` mean (Hc)
        self.acknowledge = True
        self._queries: dict[bytes, Callable[[bytes], Answer]] = {
            b"qSupported": lambda _: b"PacketSize=%x;qXfer:features:read+;qXfer:memory-map:read+;vContSupported+;swbreak+;"
            b"hwbreak+;QStartNoAckMode+" % PACKET,
            b"QStartNoAckMode": self._quiet,
            b"qAttached": lambda _: b"1",  # leaving without a word detaches
            b"qC": lambda _: b"QC%x" % (self._current + 1),
            b"qfThreadInfo": lambda _: b"m" + b",".join(b"%x" % (n + 1) for n in range(len(self._vcpus))),
            b"qsThreadInfo": lambda _: b"l",
            b"qThreadExtraInfo": self._extra,
            b"qXfer": self._transfer,
            b"qRcmd": self._monitor,
            b"qSymbol": lambda _: b"OK",
            b"vCont?": lambda _: b"vCont;c;C;s;S",
            b"vCont": self._continue,
            b"vKill": self._kill,
        }
        self._letters: dict[str, Callable[[bytes], Answer]] = {
            "?": lambda _: self.stopped(), "g": self._get_all, "G": self._set_all, "p": self._get, "P": self._set,
            "m": self._read, "M": self._write, "X": self._write_binary, "H": self._choose, "T": self._alive,
            "Z": self._insert, "z": self._remove,
            "c": lambda rest: self._go(rest, set()), "C": lambda rest: self._go(b"", set()),
            "s": lambda rest: self._go(rest, {self._stepped}), "S": lambda rest: self._go(b"", {self._stepped}),
            "k": self._kill, "D": self._detach,
        }  # fmt: skip

    def answer(self, packet: bytes) -> Answer:
        """Answer one packet. Returns the payload to send, None where the machine goes. Raises Goodbye."""
        try:
            for separator in b":;,":
                name, _, rest = packet.partition(bytes((separator,)))
                if name in self._queries:
                    return self._queries[name](rest)
            method = self._letters.get(chr(packet[0])) if packet else None
            return method(packet[1:]) if method else b""
        except (IndexError, ValueError, KvmError, OverflowError):
            return b"E01"

    def stopped(self) -> bytes:
        """Return the stop reply: why the machine stands, and which processor is to be looked at."""
        why = self._halt.why
        if why is None:
            return b"S05"
        self._current = self._stepped = why.number
        return b"T%02x%bthread:%x;" % (why.signal, why.words.encode(), why.number + 1)

    # --- queries ---

    def _quiet(self, _: bytes) -> bytes:
        self.acknowledge = False
        return b"OK"

    def _extra(self, rest: bytes) -> bytes:
        """What `info threads` shows of a processor."""
        number = int(rest, 16) - 1
        state = kvm.get_mp_state(self._vcpus[number].fd)
        words = next((text for name, text in STATES.items() if getattr(kvm.lib, name) == state), f"state {state}")
        return f"vCPU {number}: {words}".encode().hex().encode()

    def _transfer(self, rest: bytes) -> bytes:
        """qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH: a document, in pieces."""
        kind, _, annex, place = rest.split(b":")
        if kind == b"features" and annex == b"target.xml":
            text = target_xml()
        elif kind == b"memory-map":
            regions = "".join(f'<memory type="ram" start="{at:#x}" length="{size:#x}"/>' for at, size in self._virtual())
            text = f'<?xml version="1.0"?><memory-map>{regions}</memory-map>'
        else:
            return b"E00" if kind == b"features" else b""
        offset, length = (hex_number(text) for text in place.split(b","))
        data = text.encode()
        part = data[offset : offset + min(length, PACKET // 2)]
        return (b"m" if offset + len(part) < len(data) else b"l") + escape(part)

    def _virtual(self) -> list[tuple[int, int]]:
        """Return what gdb may touch: all of it, since addresses are virtual; only with `monitor physical on` it is the RAM."""
        return self._ram() if self._memory.physical else [(0, 1 << 63), (1 << 63, (1 << 63) - 1)]

    def _monitor(self, rest: bytes) -> bytes:
        """`monitor WORDS`, in hex."""
        words = bytes.fromhex(rest.decode()).decode().split()
        fd = self._vcpus[self._current].fd
        if words[:1] == ["walk"] and len(words) == 2:
            text = walk(int(words[1], 0), Modes.of(kvm.get_sregs(fd)), self._bytes_at).draw()
        elif words == ["registers"]:
            from minivm.inspect.registers import as_text

            text = as_text(kvm.get_regs(fd), kvm.get_sregs(fd))
        elif words[:1] == ["physical"] and words[1:] in (["on"], ["off"]):
            self._memory.physical = words[1] == "on"
            text = f"addresses are {'guest-physical' if self._memory.physical else 'virtual'}"
        elif words == ["log"]:
            text = self._breakpoints.describe()
        else:
            text = MONITOR
        return (text.rstrip("\n") + "\n").encode().hex().encode()

    # --- registers and memory ---

    def _registers(self) -> Registers:
        return Registers(self._vcpus[self._current].fd)

    def _get_all(self, _: bytes) -> bytes:
        return self._registers().read_all().hex().encode()

    def _set_all(self, rest: bytes) -> bytes:
        registers = self._registers()
        registers.write_all(bytes.fromhex(rest.decode()))
        registers.store()
        return b"OK"

    def _get(self, rest: bytes) -> bytes:
        return self._registers().read(hex_number(rest)).hex().encode()

    def _set(self, rest: bytes) -> bytes:
        which, _, value = rest.partition(b"=")
        registers = self._registers()
        registers.write(hex_number(which), bytes.fromhex(value.decode()))
        registers.store()
        return b"OK"

    def _read(self, rest: bytes) -> bytes:
        address, length = (hex_number(text) for text in rest.split(b","))
        return self._memory.read(self._vcpus[self._current].fd, address, min(length, PACKET // 2)).hex().encode()

    def _write(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._put(where, bytes.fromhex(data.decode()))

    def _write_binary(self, rest: bytes) -> bytes:
        where, _, data = rest.partition(b":")
        return self._put(where, unescape(data))

    def _put(self, where: bytes, data: bytes) -> bytes:
        address, length = (hex_number(text) for text in where.split(b","))
        if len(data) != length:
            raise ValueError(f"{len(data)} bytes, and {length} were announced")
        self._memory.write(self._vcpus[self._current].fd, address, data)
        return b"OK"

    # --- threads ---

    def _processor(self, text: bytes) -> int:
        """Return the processor that a thread's number means; 0 and -1 are any. Raises IndexError."""
        number = int(text, 16) - 1
        if number in (-1, -2):
            return self._current
        if not 0 <= number < len(self._vcpus):
            raise IndexError(number)
        return number

    def _choose(self, rest: bytes) -> bytes:
        if rest[:1] == b"g":
            self._current = self._processor(rest[1:])
        else:
            self._stepped = self._processor(rest[1:])
        return b"OK"

    def _alive(self, rest: bytes) -> bytes:
        self._processor(rest)
        return b"OK"

    # --- stopping and going ---

    def _insert(self, rest: bytes) -> bytes:
        kind, address, size = (hex_number(text) for text in rest.split(b";")[0].split(b","))
        return b"OK" if self._breakpoints.add(self._vcpus[self._current].fd, kind, address, size) else b""

    def _remove(self, rest: bytes) -> bytes:
        kind, address, size = (hex_number(text) for text in rest.split(b";")[0].split(b","))
        self._breakpoints.remove(kind, address, size)
        return b"OK"

    def _go(self, rest: bytes, steps: set[int]) -> None:
        """c and s, of a gdb that does without vCont; an address in it is where to go on."""
        if rest:
            registers = Registers(self._vcpus[self._stepped].fd)
            registers.regs.rip = hex_number(rest)
            registers.store()
        self._halt.go(steps, set())

    def _continue(self, rest: bytes) -> None:
        """vCont;ACTION[:THREAD];...: the leftmost action that names a processor, or all, is its own."""
        todo: dict[int, str] = {}
        for item in rest.split(b";"):
            action, _, thread = item.partition(b":")
            which = [self._processor(thread)] if thread not in (b"", b"-1") else list(range(len(self._vcpus)))
            for number in which:
                todo.setdefault(number, chr(action[0]).lower())
        if not todo or set(todo.values()) - {"c", "s"}:
            raise ValueError(rest)
        self._halt.go(
            {number for number, action in todo.items() if action == "s"}, set(range(len(self._vcpus))) - set(todo)
        )

    def _kill(self, _: bytes) -> bytes:
        raise Goodbye(True)

    def _detach(self, _: bytes) -> bytes:
        raise Goodbye(False)
