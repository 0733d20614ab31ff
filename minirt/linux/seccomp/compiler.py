"""From the rules of a profile to a BPF program.

First `decide` says what each call number of one architecture comes to: a list of (conditions, action),
to be tried in order. `Decisions` is what --explain shows and what `verdict` asks. Then `assemble` writes the
program: check the architecture, search the number in a balanced tree (about eight comparisons for
the default profile), and, where a decision has conditions, compare arguments.

Tree and verdicts read nothing but nr and arch for a call that is always allowed. That matters: from 5.11
the kernel tries each number once when the filter is loaded, and never runs the program
again for those (kernel/seccomp.c, seccomp_cache_prepare).
"""

from __future__ import annotations

from errno import ENOSYS

from . import bpf
from .profile import ACTIONS, Profile, Rule, parse, severity
from .tables import X32_BIT, Architecture, SeccompError, native, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .profile import Condition

    Decision = tuple[tuple[tuple[Condition, ...], int], ...]  # (conditions, action), in the order to try

__all__ = ["Decisions", "assemble", "compile_profile", "decide"]

ERRNO = ACTIONS["SCMP_ACT_ERRNO"]

ALL_ONES = 0xFFFFFFFF  # nr -1: what a tracer writes to have a call skipped


class Decisions:
    """What a profile decides for each call of one architecture."""

    __slots__ = ("architecture", "by_number", "default", "newer", "unknown")

    def __init__(self, arch: Architecture, default: int) -> None:
        self.architecture = arch
        self.default = default  # SECCOMP_RET_*, u32: for a number not in by_number, or no condition true
        self.by_number: dict[int, Decision] = {}
        self.newer: int | None = None  # numbers above this one get ENOSYS; see compile_profile
        self.unknown: set[str] = set()  # names in the profile that this architecture does not have


def decide(profile: Profile, arch: Architecture, newer_enosys: bool = True) -> Decisions:
    """Return what `profile` says of every call of `arch`."""
    table = numbers(arch.column)
    decisions = Decisions(arch, profile.default)
    rules: dict[int, list[Rule]] = {}
    newest = 0
    for rule in profile.rules:
        places = _places(rule, table, arch)
        if not places:
            decisions.unknown.add(rule.name)
        for number, placed in places:
            newest = max(newest, number)
            if placed.action != profile.default:
                rules.setdefault(number, []).append(placed)
    for number, group in rules.items():
        always = next((rule for rule in group if not rule.conditions), None)
        if always is not None:
            group = [always]
        elif len(group) > 1:
            group.sort(key=lambda rule: severity(rule.action))  # stable: among equals the first written
        tried = dict.fromkeys((rule.conditions, rule.action) for rule in group)  # each once
        decisions.by_number[number] = tuple(tried)
    if newer_enosys and newest and arch.name in profile.listed and _denies(profile.default):
        decisions.newer = newest
    return decisions


def _places(rule: Rule, table: dict[str, int], arch: Architecture) -> list[tuple[int, Rule]]:
    """Return each number under which a rule's call can be made on an architecture.

    i386 and some others have two ways to make a socket or System V call: a number of its own, and
    as a sub-function of socketcall(2) or ipc(2), whose first argument says which. The real
    arguments are then behind a pointer, which BPF cannot follow. So, as in libseccomp, the condition on
    argument 0 gives way to "it is this sub-function", and others compare what is in the registers.
    Unlike libseccomp 2.5 and 2.6, a call that has only the second way (accept on i386) keeps its rule.
    """
    places = []
    if rule.name in table:
        places.append((table[rule.name], rule))
    for gate in ("socketcall", "ipc"):
        function = numbers(gate).get(rule.name) if gate in table else None
        if function is not None:
            rest = tuple(condition for condition in rule.conditions if condition[0] != 0)
            places.append((table[gate], Rule(rule.name, rule.action, ((0, "==", function, 0), *rest))))
    return places


def _denies(action: int) -> bool:
    """Whether a default action keeps a call from happening (runc, patchbpf: the opposite of isAllowAction)."""
    return severity(action) < severity(ACTIONS["SCMP_ACT_TRACE"])


def compile_profile(
    profile: dict[str, Any],
    arch: str | None = None,
    *,
    newer_enosys: bool = True,
    where: str = "linux.seccomp",
) -> tuple[bytes, int, tuple[str, ...]]:
    """Compile a profile in the OCI's format.

    profile: the decoded JSON of `linux.seccomp`; arch: the machine as uname(2) names it, by default this one;
    newer_enosys: let a call newer than every call that the profile names fail with ENOSYS rather
    than by the default action, so that a C library falls back to the older call: what runc does,
    for the architectures that the profile lists, unless the default action lets calls through;
    where: the JSON path of the profile, for messages.
    Returns the program (an array of struct sock_filter), the flags for seccomp(2), and the names
    that none of the architectures has.
    Raises SeccompError.
    """
    machine = native(arch)
    rules = parse(profile, machine, where)
    decisions = [decide(rules, one, newer_enosys) for one in rules.architectures]
    try:
        program = assemble(decisions)
    except bpf.TooLong:
        raise SeccompError(
            f"{where}.syscalls: the filter needs more than {bpf.MAX_INSTRUCTIONS} instructions, "
            "the most that the kernel takes (BPF_MAXINSNS)"
        ) from None
    skipped = set.intersection(*(one.unknown for one in decisions))
    return program, rules.flags, tuple(sorted(skipped))


def assemble(decisions: list[Decisions]) -> bytes:
    """Write the program for the decisions of one or more architectures of one byte order."""
    code = bpf.Assembler()
    order = decisions[0].architecture.order
    by_audit: dict[int, list[Decisions]] = {}
    for one in decisions:
        by_audit.setdefault(one.architecture.audit, []).append(one)
    # A convention that the profile does not know could make any call under another number: so KILL, as libseccomp.
    entry = code.verdict(ACTIONS["SCMP_ACT_KILL"])
    for audit, group in reversed(by_audit.items()):
        search = code.load(bpf.NUMBER, _search(code, group))
        entry = code.test(bpf.EQUAL, audit, search, entry)
    return code.program(code.load(bpf.ARCHITECTURE, entry), order)


def _search(code: bpf.Assembler, group: list[Decisions]) -> int:
    """Write the search for a call's number; the group shares an AUDIT_ARCH (x86_64 and x32 do)."""
    if all(one.architecture.column not in ("x86_64", "x32") for one in group):
        return _tree(code, group[0], 0)
    plain = next((one for one in group if one.architecture.column == "x86_64"), None)
    x32 = next((one for one in group if one.architecture.column == "x32"), None)
    kill = code.verdict(ACTIONS["SCMP_ACT_KILL"])
    if x32 is not None:
        above = _tree(code, x32, X32_BIT)
    else:
        # -1 is no x32 call but one that a tracer wants skipped: it goes the way of any unknown number.
        skip = code.verdict(group[0].default)
        above = code.test(bpf.EQUAL, ALL_ONES, skip, kill)
    below = kill if plain is None else _tree(code, plain, 0)
    return code.test(bpf.AT_LEAST, X32_BIT, above, below)


def _tree(code: bpf.Assembler, decisions: Decisions, base: int) -> int:
    """Write the search tree for one architecture, whose numbers stand `base` higher in nr."""
    default = code.verdict(decisions.default)
    starts, labels = [0], [default]

    def begin(number: int, label: int) -> None:
        """From `number` on, up to the next that begins, it is `label`."""
        if starts[-1] == number:
            starts.pop()
            labels.pop()
        if not labels or labels[-1] != label:
            starts.append(number)
            labels.append(label)

    known: dict[Decision, int] = {}
    for number in sorted(decisions.by_number):
        decision = decisions.by_number[number]
        if decision not in known:
            known[decision] = _decision(code, decision, decisions)
        begin(base + number, known[decision])
        begin(base + number + 1, default)
    if decisions.newer is not None:
        begin(base + decisions.newer + 1, code.verdict(ERRNO | ENOSYS))
    return code.tree(starts, labels)


def _decision(code: bpf.Assembler, decision: Decision, decisions: Decisions) -> int:
    """Write what is done once the call is known: try each rule, and at the end the default."""
    entry = code.verdict(decisions.default)
    for conditions, action in reversed(decision):
        yes, no = code.verdict(action), entry
        for condition in reversed(conditions):
            yes = _compare(code, condition, decisions.architecture, yes, no)
        entry = yes
    return entry


def _compare(code: bpf.Assembler, condition: Condition, arch: Architecture, yes: int, no: int) -> int:
    """Write one comparison of an argument; A is 32 bits wide, so a 64-bit one is made of two halves."""
    index, operator, value, two = condition
    low_at = bpf.ARGUMENTS + 8 * index
    high_at = low_at + 4
    if arch.order == "big":
        low_at, high_at = high_at, low_at
    wide = arch.bits == 64  # else only the low half is the argument: compare modulo 2**32, as libseccomp
    low, high = value & 0xFFFFFFFF, value >> 32
    if operator == "&":
        two &= value  # "equal to the masked datum" (man 3 seccomp_rule_add)
        tail = code.load(low_at, code.mask(low, code.test(bpf.EQUAL, two & 0xFFFFFFFF, yes, no)))
        if not wide or not high:
            return tail  # nothing is asked of the upper half
        return code.load(high_at, code.mask(high, code.test(bpf.EQUAL, two >> 32, tail, no)))
    if operator in ("!=", "<", "<="):  # each is the opposite of one of the others
        operator = {"!=": "==", "<": ">=", "<=": ">"}[operator]
        yes, no = no, yes
    last = {"==": bpf.EQUAL, ">": bpf.GREATER, ">=": bpf.AT_LEAST}[operator]
    tail = code.load(low_at, code.test(last, low, yes, no))
    if not wide:
        return tail
    if operator != "==":
        return code.load(high_at, code.test(bpf.GREATER, high, yes, code.test(bpf.EQUAL, high, tail, no)))
    return code.load(high_at, code.test(bpf.EQUAL, high, tail, no))
