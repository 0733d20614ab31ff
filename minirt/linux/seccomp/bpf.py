"""Classic BPF: the instruction set that a seccomp filter is written in, and an assembler for it.

A filter sees one `struct seccomp_data` (linux/seccomp.h) and returns a 32-bit verdict:

    offset 0   u32 nr                    the call's number
    offset 4   u32 arch                  AUDIT_ARCH_*: which calling convention the number belongs to
    offset 8   u64 instruction_pointer
    offset 16  u64 args[6]               as they are in the registers; a pointer is only a number here

The machine has one 32-bit register (A) and jumps only forward, at most 255 instructions for a
conditional one. `Assembler` writes a program from its last instruction to its first: whatever is
jumped to exists already, so no jump needs patching, and a jump that would be too long gets a
stepping stone in front of it at once.

Sources: man 2 seccomp, man 7 bpf, linux/filter.h, linux/bpf_common.h, kernel Documentation
networking/filter.rst.
"""

from __future__ import annotations

import struct

from minirt.errors import MinirtError

__all__ = ["MAX_INSTRUCTIONS", "Assembler", "TooLong", "unpack"]

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS, linux/bpf_common.h: the kernel refuses a longer program with EINVAL
REACH = 255  # the farthest that the u8 jt and jf of a conditional jump lead

LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS: A = the word at offset k of seccomp_data
AND = 0x54  # BPF_ALU | BPF_AND | BPF_K: A &= k
ALWAYS = 0x05  # BPF_JMP | BPF_JA: skip k instructions
EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K: A == k
GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K: A > k, unsigned
AT_LEAST = 0x35  # BPF_JMP | BPF_JGE | BPF_K: A >= k, unsigned
RETURN = 0x06  # BPF_RET | BPF_K

NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets into struct seccomp_data


class TooLong(MinirtError):
    """The program has more instructions than the kernel takes."""


class Assembler:
    """A program that grows from its end.

    A label is an instruction's distance from the end of the program, so that it stays true
    while instructions are put in front. Each method writes one instruction (or none) and returns the
    label of the place where execution should enter.
    """

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []  # code, jt, jf, k; the last instruction first
        self._returns: dict[int, int] = {}  # verdict -> label of the newest instruction that returns it
        self._verdicts: dict[int, int] = {}  # label -> verdict, for each instruction that returns

    def __len__(self) -> int:
        return len(self._code)

    def _put(self, code: int, jt: int, jf: int, k: int) -> int:
        if len(self._code) >= MAX_INSTRUCTIONS:
            raise TooLong
        self._code.append((code, jt, jf, k))
        return len(self._code) - 1

    def verdict(self, value: int) -> int:
        """Return the label of an instruction that returns `value` (u32), near enough to jump to."""
        label = self._returns.get(value)
        if label is None or len(self._code) - label > REACH:
            label = self._returns[value] = self._put(RETURN, 0, 0, value)
            self._verdicts[label] = value
        return label

    def load(self, offset: int, then: int) -> int:
        """Load the u32 at `offset` of seccomp_data, then go on at `then`."""
        return self._fall(LOAD, offset, then)

    def mask(self, bits: int, then: int) -> int:
        """Keep only `bits` (u32) of A, then go on at `then`."""
        return self._fall(AND, bits, then)

    def test(self, code: int, k: int, yes: int, no: int) -> int:
        """Compare A with `k` (u32) and go on at `yes` or at `no`; no instruction where these are one."""
        if yes == no:
            return yes
        # A stepping stone moves this instruction one farther from the other target: look again.
        while len(self._code) - 1 - min(yes, no) > REACH:
            if len(self._code) - 1 - yes > REACH:
                yes = self._stone(yes)
            else:
                no = self._stone(no)
        here = len(self._code)
        return self._put(code, here - 1 - yes, here - 1 - no, k)

    def _fall(self, code: int, k: int, then: int) -> int:
        """Write an instruction that cannot jump: what follows it must stand right behind it."""
        self._adjoin(then)
        return self._put(code, 0, 0, k)

    def _adjoin(self, target: int) -> None:
        """Make what comes next on falling through be `target`."""
        if target != len(self._code) - 1:
            self._put(ALWAYS, 0, 0, len(self._code) - 1 - target)

    def _stone(self, target: int) -> int:
        """Return a near label that does as a far target: a copy of it if it returns, else a plain jump."""
        if target in self._verdicts:
            return self.verdict(self._verdicts[target])
        return self._put(ALWAYS, 0, 0, len(self._code) - 1 - target)

    def tree(self, starts: list[int], labels: list[int]) -> int:
        """Search for A among intervals and go on at its label: a balanced tree of comparisons.

        `starts` holds the intervals' first numbers (u32), rising from 0; an interval ends where the next begins.
        """

        def build(low: int, high: int) -> int:
            if high - low == 1:
                return labels[low]
            if high - low == 3 and labels[low] == labels[low + 2] and starts[low + 1] + 1 == starts[low + 2]:
                # One number that is treated otherwise than its neighbours: equality does it in one.
                return self.test(EQUAL, starts[low + 1], labels[low + 1], labels[low])
            middle = (low + high) // 2
            above = build(middle, high)
            return self.test(AT_LEAST, starts[middle], above, build(low, middle))

        return build(0, len(starts))

    def program(self, entry: int, order: str) -> bytes:
        """Return the whole as an array of struct sock_filter, 8 bytes each.

        entry: label where execution begins; order: "little" or "big", the byte order of the machine.
        """
        self._adjoin(entry)
        pack = struct.Struct("<HBBI" if order == "little" else ">HBBI").pack
        return b"".join([pack(*instruction) for instruction in reversed(self._code)])


def unpack(program: bytes, order: str = "little") -> list[tuple[int, int, int, int]]:
    """Return the instructions of an array of struct sock_filter as (code, jt, jf, k)."""
    return list(struct.iter_unpack("<HBBI" if order == "little" else ">HBBI", program))
