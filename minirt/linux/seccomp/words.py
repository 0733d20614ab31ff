"""A filter in words: one call's verdict, a profile's summary, a program's instructions."""

from __future__ import annotations

from errno import ENOSYS

from . import bpf
from .compiler import decide
from .profile import ACTION_MASK, ACTIONS, action_name, parse
from .tables import SeccompError, native, numbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .compiler import Decision
    from .profile import Condition

__all__ = ["disassemble", "explain", "verdict_of"]

FIELDS = {bpf.NUMBER: "nr", bpf.ARCHITECTURE: "arch"}
SIGNS = {bpf.EQUAL: "==", bpf.GREATER: ">", bpf.AT_LEAST: ">="}


def verdict_of(profile: dict[str, Any], name: str, args: Sequence[int], arch: str | None = None) -> str:
    """Return what a profile in the OCI's format says of one call, as "SCMP_ACT_ERRNO(EPERM)".

    name: the call; args: its first arguments (u64 each; those left out are 0); arch: the machine as
    uname(2) names it, whose native convention the call is made by.
    Raises SeccompError, also for a call that the architecture does not have.
    """
    machine = native(arch)
    decisions = decide(parse(profile, machine), machine)
    number = numbers(machine.column).get(name)
    if number is None:
        raise SeccompError(f"{name}: no such system call on {machine.name}")
    values = [value & ((1 << machine.bits) - 1) for value in args]
    for conditions, action in decisions.by_number.get(number, ()):
        if all(_holds(condition, values, machine.bits) for condition in conditions):
            return action_name(action)
    if decisions.newer is not None and number > decisions.newer:
        return "SCMP_ACT_ERRNO(ENOSYS)"
    return action_name(decisions.default)


def _holds(condition: Condition, args: Sequence[int], bits: int) -> bool:
    """Whether a condition is true of a call's arguments."""
    index, operator, value, two = condition
    mask = (1 << bits) - 1
    have, value, two = args[index] if index < len(args) else 0, value & mask, two & mask
    if operator == "&":
        return have & value == two & value
    answers = {"==": have == value, "<": have < value, ">": have > value}
    if operator in answers:
        return answers[operator]
    return not answers[{"!=": "==", ">=": "<", "<=": ">"}[operator]]


def explain(profile: dict[str, Any], program: bytes, arch: str | None = None) -> list[str]:
    """Return a profile in a few lines: size of the filter, and which calls get what.

    profile: in the OCI's format; program: compiled from it; arch: the machine, as uname(2) names it.
    """
    machine = native(arch)
    parsed = parse(profile, machine)
    decisions = decide(parsed, machine)
    names = {number: name for name, number in reversed(numbers(machine.column).items())}
    groups: dict[str, list[str]] = {}
    for number in sorted(decisions.by_number):
        groups.setdefault(_outcome(decisions.by_number[number]), []).append(names.get(number, str(number)))
    also = ", ".join(one.name for one in parsed.architectures[1:])
    lines = [
        f"1 filter, {len(program) // 8} instructions of at most {bpf.MAX_INSTRUCTIONS}, "
        f"for {machine.name}" + (f" and {also}" if also else "")
    ]
    for outcome, called in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown = ", ".join(called[:8]) + (", …" if len(called) > 8 else "")
        lines.append(f"{len(called)} call{'s' if len(called) > 1 else ''} {outcome}: {shown}")
    lines.append(f"all others {action_name(parsed.default)}")
    if decisions.newer is not None and parsed.default != ACTIONS["SCMP_ACT_ERRNO"] | ENOSYS:
        lines.append(f"numbers above {decisions.newer} SCMP_ACT_ERRNO(ENOSYS): newer than the profile")
    return lines


def _outcome(decision: Decision) -> str:
    """Say what a decision comes to."""
    if len(decision) == 1 and not decision[0][0]:
        return action_name(decision[0][1])
    return "by argument"


def disassemble(program: bytes, order: str = "little") -> list[str]:
    """Return a line for each instruction of a filter: its place, and what it does.

    program: an array of struct sock_filter; order: its byte order.
    """
    return [f"{at:4}  {_instruction(at, *instruction)}" for at, instruction in enumerate(bpf.unpack(program, order))]


def _instruction(at: int, code: int, jt: int, jf: int, k: int) -> str:
    """Return one instruction in words; jumps name the place that they lead to."""
    if code == bpf.LOAD:
        argument, half = divmod(k - bpf.ARGUMENTS, 8)
        return f"A = {FIELDS.get(k) or f'args[{argument}]' + (' (second half)' if half else ' (first half)')}"
    if code == bpf.AND:
        return f"A &= {k:#x}"
    if code == bpf.ALWAYS:
        return f"goto {at + 1 + k}"
    if code == bpf.RETURN:
        known = k & ACTION_MASK in ACTIONS.values()
        return f"return {action_name(k) if known else hex(k)}"
    if code in SIGNS:
        value = f"{k:#x}" if k > 9999 else str(k)
        return f"if A {SIGNS[code]} {value} goto {at + 1 + jt} else {at + 1 + jf}"
    return f"code {code:#x} jt {jt} jf {jf} k {k:#x}"
