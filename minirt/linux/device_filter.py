"""Which devices the processes of a group may use: linux.resources.devices, compiled to eBPF.

Version 2 has no devices controller with files. The kernel asks a program instead, at each open(2) and mknod(2) of a
device: 1 lets it happen, 0 is EPERM. Nothing of the process counts, only what is asked (linux/bpf.h):

    struct bpf_cgroup_dev_ctx {
        u32 access_type;     /* access << 16 | type; access: mknod 1, read 2, write 4; type: block 1, char 2 */
        u32 major, minor;
    };

What a list of rules means: they are applied in order, so of the rules that name a device and an access, the last one
decides; what none names is denied. A request for several accesses (O_RDWR) needs all of them.

So the program goes through the rules from the last to the first, with the accesses that are still open in w3. A rule
that denies one of them ends it with 0; one that allows some crosses them off, and when none is left, it ends with 1, as it
does at once for one that allows all:

       access 6 = read, write asked                               w3 = 6
       rule    allow c 1:*  r                                     w3 = 4
       rule    deny  c 1:11 w   (another device)                  w3 = 4
       rule    allow c *:*  w                                     w3 = 0: return 1

    rules = [{"allow": False, "access": "rwm"}, {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}]
    attach("/sys/fs/cgroup/minirt/0123abcd", rules)
    print("\\n".join(listing(parse(rules))))

runc also merges the rules first, and refuses to take one device out of an allowed range, as version 1 could not;
with this program the order is enough. Loading and attaching: cgroup_bpf.py.

Sources: runtime-spec config-linux.md#allowed-device-list; man 2 bpf; Documentation/bpf/standardization/instruction-set.rst
"""

from __future__ import annotations

import struct

from minirt.linux import constants as k
from minirt.linux.cgroup_files import DeviceFilterError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from minirt.trace import Sink


__all__ = ["DEFAULT", "DeviceFilterError", "Rule", "attach", "listing", "parse", "program"]

ANY = -1
TYPES = {"b": k.BPF_DEVCG_DEV_BLOCK, "c": k.BPF_DEVCG_DEV_CHAR, "a": ANY}
ACCESS = {"m": k.BPF_DEVCG_ACC_MKNOD, "r": k.BPF_DEVCG_ACC_READ, "w": k.BPF_DEVCG_ACC_WRITE}
ALL = 7  # mknod, read, write

# What every container may use, whatever its rules say, as these come last: the nodes of
# runtime-spec config-linux.md#default-devices, terminals, and mknod of anything, which makes a node and opens none.
DEFAULT: tuple[tuple[str, int, int, str], ...] = (
    ("c", ANY, ANY, "m"),
    ("b", ANY, ANY, "m"),
    ("c", 1, 3, "rwm"),  # /dev/null
    ("c", 1, 5, "rwm"),  # /dev/zero
    ("c", 1, 7, "rwm"),  # /dev/full
    ("c", 1, 8, "rwm"),  # /dev/random
    ("c", 1, 9, "rwm"),  # /dev/urandom
    ("c", 5, 0, "rwm"),  # /dev/tty
    ("c", 5, 2, "rwm"),  # /dev/ptmx
    ("c", 136, ANY, "rwm"),  # /dev/pts/*, and /dev/console, which is one of them
    ("c", 10, 200, "rwm"),  # /dev/net/tun
)

LOAD, EQUAL, OTHER, ANY_BIT = (
    k.BPF_LDX | k.BPF_MEM | k.BPF_W,  # w = *(u32 *)(r + offset)
    k.BPF_JMP32 | k.BPF_JEQ | k.BPF_K,  # if w == number goto; of the low 32 bits, as all that is compared here
    k.BPF_JMP32 | k.BPF_JNE | k.BPF_K,
    k.BPF_JMP32 | k.BPF_JSET | k.BPF_K,  # if w & number goto
)
COPY, SET, MASK, SHIFT = (k.BPF_ALU | k.BPF_MOV | k.BPF_X, k.BPF_ALU | k.BPF_MOV | k.BPF_K,
                          k.BPF_ALU | k.BPF_AND | k.BPF_K, k.BPF_ALU | k.BPF_RSH | k.BPF_K)  # fmt: skip
GO = k.BPF_JMP | k.BPF_JA  # goto
EXIT = k.BPF_JMP | k.BPF_EXIT
RESULT, CONTEXT, TYPE, OPEN, MAJOR, MINOR = range(6)  # registers: r0 is returned, r1 is given
INSTRUCTION = struct.Struct("<BBhi")  # struct bpf_insn
MOST = 5000  # rules: a jump is at most 32767 instructions long


class Rule:
    """One entry of the allow list, in the kernel's numbers."""

    __slots__ = ("access", "allow", "major", "minor", "type")

    def __init__(self, allow: bool, type: int, major: int, minor: int, access: int) -> None:
        self.allow = allow
        self.type = type  # BPF_DEVCG_DEV_*, or ANY
        self.major = major  # u32, or ANY
        self.minor = minor
        self.access = access  # BPF_DEVCG_ACC_* together

    def __str__(self) -> str:
        kind = {ANY: "a", k.BPF_DEVCG_DEV_BLOCK: "b", k.BPF_DEVCG_DEV_CHAR: "c"}[self.type]
        access = "".join(letter for letter in "rwm" if self.access & ACCESS[letter])
        major, minor = ("*" if number == ANY else str(number) for number in (self.major, self.minor))
        return f"{'allow' if self.allow else 'deny'} {kind} {major}:{minor} {access}"


def parse(rules: Iterable[Mapping[str, Any]] | None, default: bool = True) -> list[Rule]:
    """Return config.json's linux.resources.devices as rules, followed by those for every container.

    Args:
        rules: objects with allow, type ("a", "b", "c"; "a" unless given), major and minor (any unless given, or -1)
            and access (letters of "rwm").
        default: whether DEFAULT comes after them.

    Raises: DeviceFilterError, with the place in the list.
    """
    result = [_parse(entry, f"linux.resources.devices[{index}]") for index, entry in enumerate(rules or ())]
    if default:
        for kind, major, minor, access in DEFAULT:
            result.append(Rule(True, TYPES[kind], major, minor, _access(access)))
    return result


def _parse(entry: Mapping[str, Any], where: str) -> Rule:
    kind, access = entry.get("type") or "a", entry.get("access") or ""
    if kind not in TYPES:
        raise DeviceFilterError(f"{where}.type {kind!r}: a (all), b (block) or c (character)")
    if not access or set(access) - set(ACCESS):
        raise DeviceFilterError(f"{where}.access {access!r}: letters of rwm (read, write, mknod), at least one")
    numbers = []
    for key in ("major", "minor"):
        number = ANY if entry.get(key) is None else int(entry[key])
        if not ANY <= number < 1 << 32:
            raise DeviceFilterError(f"{where}.{key} {number}: a device's number, or -1 for any")
        numbers.append(number)
    return Rule(bool(entry.get("allow")), TYPES[kind], numbers[0], numbers[1], _access(access))


def _access(letters: str) -> int:
    bits = 0
    for letter in letters:
        bits |= ACCESS[letter]
    return bits


def effective(rules: Sequence[Rule]) -> list[Rule]:
    """Return the rules in the order of asking, last first, without those that later ones have decided already."""
    asked: list[Rule] = []
    decided: dict[tuple[int, int, int], int] = {}  # by device or range, the accesses
    for rule in reversed(rules):
        before = 0
        for type in {rule.type, ANY}:
            for major in {rule.major, ANY}:
                for minor in {rule.minor, ANY}:
                    before |= decided.get((type, major, minor), 0)
        if rule.access & ~before:
            asked.append(rule)
            place = (rule.type, rule.major, rule.minor)
            decided[place] = decided.get(place, 0) | rule.access
    while asked and not asked[-1].allow:
        asked.pop()  # what nothing allows is denied in any case
    return asked


class Instruction:
    """One struct bpf_insn before its jump is known; `goto` names where: the part behind it, or an end."""

    __slots__ = ("code", "goto", "number", "offset", "source", "target")

    def __init__(self, code: int, target: int, number: int = 0, *, source: int = 0, offset: int = 0, goto: str = "") -> None:
        self.code = code  # u8
        self.target = target  # register
        self.source = source  # register
        self.offset = offset  # s16: bytes into the context, or instructions to jump over
        self.number = number  # s32, the immediate
        self.goto = goto

    def pack(self) -> bytes:
        """Return it as the kernel has it: u8 code, u4 target and source, s16 offset, s32 number (linux/bpf.h)."""
        number = self.number - (1 << 32) if self.number >= 1 << 31 else self.number
        return INSTRUCTION.pack(self.code, self.target | self.source << 4, self.offset, number)

    def text(self, at: int) -> str:
        """Return it in words, standing at a place of the program."""
        to = f"goto {at + 1 + self.offset}"
        return {
            LOAD: f"w{self.target} = *(u32 *)(r{self.source} + {self.offset})",
            COPY: f"w{self.target} = w{self.source}",
            SET: f"w{self.target} = {self.number}",
            MASK: f"w{self.target} &= {self.number:#x}",
            SHIFT: f"w{self.target} >>= {self.number}",
            EQUAL: f"if w{self.target} == {self.number} {to}",
            OTHER: f"if w{self.target} != {self.number} {to}",
            ANY_BIT: f"if w{self.target} & {self.number:#x} {to}",
            GO: to,
            EXIT: "exit",
        }[self.code]


def program(rules: Sequence[Rule]) -> bytes:
    """Return the program as the kernel loads it: an array of struct bpf_insn, 8 bytes each.

    rules: in the order of config.json, as `parse` gives them. Raises: DeviceFilterError where they are too many.
    """
    return b"".join(instruction.pack() for _, part in assemble(rules) for instruction in part)


def listing(rules: Sequence[Rule]) -> list[str]:
    """Return the program in words, a line an instruction, each part under what it is for."""
    lines, at = [], 0
    for title, part in assemble(rules):
        lines.append(f"; {title}")
        for instruction in part:
            lines.append(f"{at:4}: {instruction.text(at)}")
            at += 1
    return lines


def assemble(rules: Sequence[Rule]) -> list[tuple[str | Rule, list[Instruction]]]:
    """Return the program's parts, each with a title or its rule, the jumps filled in."""
    asked = effective(rules)
    if len(asked) > MOST:
        raise DeviceFilterError(f"linux.resources.devices: {len(asked)} rules, at most {MOST} can be asked one by one")
    parts: list[tuple[str | Rule, list[Instruction]]] = [("what is asked: type, accesses still open, device", _question())]
    parts += [(rule, _rule(rule)) for rule in asked]
    parts.append(("nothing allows the rest: EPERM", [Instruction(SET, RESULT, 0), Instruction(EXIT, 0)]))
    ends = {"deny": sum(len(part) for _, part in parts) - 2}
    if asked:  # else nothing jumps there, and the verifier refuses what cannot be reached
        ends["allow"] = ends["deny"] + 2
        parts.append(("all of it is allowed", [Instruction(SET, RESULT, 1), Instruction(EXIT, 0)]))
    at = 0
    for _, part in parts:
        behind = at + len(part)
        for instruction in part:
            at += 1
            if instruction.goto:
                instruction.offset = ends.get(instruction.goto, behind) - at
    return parts


def _question() -> list[Instruction]:
    return [
        Instruction(LOAD, TYPE, source=CONTEXT, offset=0),
        Instruction(COPY, OPEN, source=TYPE),
        Instruction(MASK, TYPE, 0xFFFF),
        Instruction(SHIFT, OPEN, 16),
        Instruction(LOAD, MAJOR, source=CONTEXT, offset=4),
        Instruction(LOAD, MINOR, source=CONTEXT, offset=8),
    ]


def _rule(rule: Rule) -> list[Instruction]:
    """Skip the rule if it names another device; else deny at once, or cross off what it allows."""
    tests = ((TYPE, rule.type), (MAJOR, rule.major), (MINOR, rule.minor))
    part = [Instruction(OTHER, register, number, goto="next") for register, number in tests if number != ANY]
    if not rule.allow:
        return [*part, Instruction(ANY_BIT, OPEN, rule.access, goto="deny")]
    if part and rule.access == ALL:  # nothing is left then; that the kernel's verifier would work out for each rule anew
        return [*part, Instruction(GO, 0, goto="allow")]
    return [*part, Instruction(MASK, OPEN, ALL & ~rule.access), Instruction(EQUAL, OPEN, 0, goto="allow")]


def attach(group_directory: str, rules: Iterable[Mapping[str, Any]] | None, sink: Sink | None = None) -> bool:
    """Let the processes of a group and of those below it use only the devices that the rules allow.

    A filter that is there already is replaced in one step; those of groups above hold as well.

    Args:
        group_directory: absolute, below a cgroup2 mount.
        rules: config.json's linux.resources.devices; DEFAULT is allowed too.
        sink: gets the calls as events.

    Returns: whether the kernel now asks the filter. It does not in a user namespace or for a user without
        privilege, who cannot load one, and has no device but the host's nodes that it may open anyway.
    Raises: DeviceFilterError for rules that mean nothing, or where the kernel takes no program and the rules
        forbid something.
    """
    from minirt.linux import cgroup_bpf

    asked = list(rules or ())
    parsed = parse(asked)
    words = [f"{rule} (asked {place})" for place, rule in enumerate(effective(parsed), 1)] if sink else []
    try:
        cgroup_bpf.attach(group_directory, program(parsed), sink, words)
    except DeviceFilterError:
        if cgroup_bpf.is_unprivileged() or (asked and all(_allows_everything(entry) for entry in asked)):
            return False
        raise
    return True


def _allows_everything(entry: Mapping[str, Any]) -> bool:
    """Say whether a rule forbids nothing of what it names; such a list does without a filter, as runc says."""
    return bool(entry.get("allow")) and set(entry.get("access") or "") == set(ACCESS)
