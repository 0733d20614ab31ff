"""The rules of a profile: reading the OCI's JSON, and what several rules for one call come to.

The JSON is `linux.seccomp` of runtime-spec config-linux.md#seccomp. The specification leaves open
what rules mean that overlap; here they mean what they mean to runc and crun (both are libseccomp
underneath), so that a profile written for those does the same here:

1. a rule with the default's own action says nothing, and is dropped (runc, matchCall);
2. a rule without `args` beats all rules with `args` for that call, and the first such rule wins;
3. of the rules with `args` that match, libseccomp's choice depends on how it sorts them. Here the
   strictest action wins, in the kernel's own order of strictness (man 2 seccomp, RETURN VALUE);
4. conditions within a rule must all hold, but a rule with two conditions on the same argument
   is read as one rule for each of its conditions, any of which suffices (runc, matchCall).
"""

from __future__ import annotations

from .tables import Architecture, SeccompError, architecture

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Condition = tuple[int, str, int, int]  # argument 0..5, operator, value, valueTwo: u64 both

__all__ = [
    "ACTIONS",
    "FLAGS",
    "OPERATORS",
    "Profile",
    "Rule",
    "action_name",
    "items",
    "parse",
    "severity",
    "want",
]

# SECCOMP_RET_*, linux/seccomp.h; the strictest first, in the kernel's order (it compares them as signed).
ACTIONS = {
    "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_KILL_THREAD": 0x00000000,
    "SCMP_ACT_KILL": 0x00000000,  # the old name of KILL_THREAD
    "SCMP_ACT_TRAP": 0x00030000,
    "SCMP_ACT_ERRNO": 0x00050000,
    "SCMP_ACT_NOTIFY": 0x7FC00000,
    "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000,
    "SCMP_ACT_ALLOW": 0x7FFF0000,
}
ACTION_MASK = 0xFFFF0000  # SECCOMP_RET_ACTION_FULL; the low half is data: an errno, a tracer's message
_STRICTNESS = {value: place for place, value in reversed(list(enumerate(ACTIONS.values())))}

OPERATORS = {
    "SCMP_CMP_NE": "!=",
    "SCMP_CMP_LT": "<",
    "SCMP_CMP_LE": "<=",
    "SCMP_CMP_EQ": "==",
    "SCMP_CMP_GE": ">=",
    "SCMP_CMP_GT": ">",
    "SCMP_CMP_MASKED_EQ": "&",  # (argument & value) == (valueTwo & value)
}

# SECCOMP_FILTER_FLAG_*, linux/seccomp.h: the second argument of seccomp(SECCOMP_SET_MODE_FILTER, …)
FLAGS = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1 << 0,
    "SECCOMP_FILTER_FLAG_LOG": 1 << 1,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 1 << 2,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 1 << 5,
}
NEW_LISTENER, TSYNC_ESRCH = 1 << 3, 1 << 4  # never asked for by name: they follow from SCMP_ACT_NOTIFY

WITH_ERRNO = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")  # actions that take errnoRet: as an errno, as a tracer's message
EPERM = 1  # what errnoRet is when it is left out (runtime-spec config-linux.md#seccomp)
MAX_ERRNO = 4095  # the kernel cuts a larger one to this (kernel/seccomp.c, __seccomp_filter)


class Rule:
    """One action for one call, under conditions that must all hold (none: always)."""

    __slots__ = ("action", "conditions", "name")

    def __init__(self, name: str, action: int, conditions: tuple[Condition, ...]) -> None:
        self.name = name
        self.action = action  # SECCOMP_RET_* with its data, u32
        self.conditions = conditions


class Profile:
    """A profile that has been read and found right."""

    __slots__ = ("architectures", "default", "flags", "listed", "rules")

    def __init__(
        self, default: int, architectures: list[Architecture], listed: set[str], flags: int, rules: list[Rule]
    ) -> None:
        self.default = default  # SECCOMP_RET_*, u32: what no rule decides
        self.architectures = architectures  # the native one first, then as the profile lists them
        self.listed = listed  # names of those that the profile itself lists
        self.flags = flags  # SECCOMP_FILTER_FLAG_*
        self.rules = rules  # in file order; one for each name, "or" already taken apart


def severity(action: int) -> int:
    """Return an action's place in the kernel's order: 0 is the strictest, of several filters it wins."""
    return _STRICTNESS[action & ACTION_MASK]


def action_name(action: int) -> str:
    """Return an action as people write it: "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO(EPERM)"."""
    kind, data = action & ACTION_MASK, action & 0xFFFF
    name = next(name for name, value in ACTIONS.items() if value == kind)
    if name == "SCMP_ACT_ERRNO":
        import errno

        return f"{name}({errno.errorcode.get(data, data)})"
    return f"{name}({data})" if name == "SCMP_ACT_TRACE" else name


def parse(profile: dict[str, Any], native: Architecture, where: str = "linux.seccomp") -> Profile:
    """Read a profile in the OCI's format.

    profile: the decoded JSON object; native: the architecture that it is always in force for, as in
    libseccomp, whether listed or not; where: the JSON path of the object, for messages.
    Raises SeccompError, naming the JSON path, for whatever the specification does not allow.
    """
    want(profile, dict, where)
    if "defaultAction" not in profile:
        raise SeccompError(f"{where}.defaultAction: missing; it is required")
    default = _action(profile["defaultAction"], profile.get("defaultErrnoRet"), where, "default")
    found = [native]
    listed = set()
    for place, name in items(profile, "architectures", where):
        arch = architecture(want(name, str, place), place)
        listed.add(arch.name)
        if arch not in found:
            if arch.order != native.order:
                raise SeccompError(f"{place}: {name} has another byte order than {native.name}")
            found.append(arch)
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise SeccompError(f"{where}.listenerMetadata: must not be set where listenerPath is not")
    rules: list[Rule] = []
    for place, entry in items(profile, "syscalls", where):
        rules += _rules(want(entry, dict, place), place)
    return Profile(default, found, listed, _flags(profile, rules, where), rules)


def _rules(entry: dict[str, Any], where: str) -> list[Rule]:
    """Read one entry of `syscalls`: a rule for each of its names, and for each side of an "or"."""
    names = [want(name, str, place) for place, name in items(entry, "names", where)]
    if not names or not all(names):
        raise SeccompError(f"{where}.names: needs at least one name, and none may be empty")
    if "action" not in entry:
        raise SeccompError(f"{where}.action: missing; it is required")
    action = _action(entry["action"], entry.get("errnoRet"), where)
    conditions = [_condition(want(arg, dict, place), place) for place, arg in items(entry, "args", where)]
    if len({condition[0] for condition in conditions}) < len(conditions):
        alternatives = [(condition,) for condition in conditions]
    else:
        alternatives = [tuple(conditions)]  # type: ignore[list-item]
    return [Rule(name, action, alternative) for name in names for alternative in alternatives]


def _condition(arg: dict[str, Any], where: str) -> Condition:
    """Read one entry of `args`."""
    for key in ("index", "value", "op"):
        if key not in arg:
            raise SeccompError(f"{where}.{key}: missing; it is required")
    index = _number(arg["index"], 5, f"{where}.index")  # a call has six arguments at most
    operator = arg["op"]
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise SeccompError(f"{where}.op: unknown operator {operator!r}")
    value = _number(arg["value"], 2**64 - 1, f"{where}.value")
    return (
        index,
        OPERATORS[operator],
        value,
        _number(arg.get("valueTwo") or 0, 2**64 - 1, f"{where}.valueTwo"),
    )


def _action(name: object, number: object, where: str, default: str = "") -> int:
    """Return SECCOMP_RET_* with its data for an action's name and its errnoRet."""
    key, number_key = ("defaultAction", "defaultErrnoRet") if default else ("action", "errnoRet")
    if not isinstance(name, str) or name not in ACTIONS:
        raise SeccompError(f"{where}.{key}: unknown action {name!r}")
    if name not in WITH_ERRNO:
        if number is not None:
            # "When the action doesn't support an errno, the runtime MUST print and error and fail."
            raise SeccompError(f"{where}.{number_key}: {name} returns no errno")
        return ACTIONS[name]
    most = MAX_ERRNO if name == "SCMP_ACT_ERRNO" else 0xFFFF
    return ACTIONS[name] | (EPERM if number is None else _number(number, most, f"{where}.{number_key}"))


def _flags(profile: dict[str, Any], rules: list[Rule], where: str) -> int:
    """Return SECCOMP_FILTER_FLAG_* for seccomp(2)."""
    if profile.get("flags") is None:
        # As runc and crun do when nothing is said: no slower memory for the sake of the store-bypass
        # mitigation, which kernels before 5.16 switched on for every process with a filter.
        flags = FLAGS["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]
    else:
        flags = 0
        for place, name in items(profile, "flags", where):
            if not isinstance(name, str) or name not in FLAGS:
                raise SeccompError(f"{place}: unknown flag {name!r}")
            flags |= FLAGS[name]
    notify = ACTIONS["SCMP_ACT_NOTIFY"]
    if profile["defaultAction"] == "SCMP_ACT_NOTIFY" or any(rule.action == notify for rule in rules):
        flags |= NEW_LISTENER
        if flags & FLAGS["SECCOMP_FILTER_FLAG_TSYNC"]:
            flags |= TSYNC_ESRCH  # without it the two have no way to report both an fd and a thread (EINVAL)
    else:
        flags &= ~FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]  # EINVAL without a listener
    return flags


def items(owner: dict[str, Any], key: str, where: str) -> list[tuple[str, Any]]:
    """Return an optional list's entries, each with its JSON path."""
    entries = owner.get(key)
    if entries is None:
        return []
    return [(f"{where}.{key}[{at}]", entry) for at, entry in enumerate(want(entries, list, f"{where}.{key}"))]


def want(value: Any, kind: type, where: str) -> Any:
    """Return `value` if it is of the kind that JSON must have here."""
    if not isinstance(value, kind):
        words: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}
        raise SeccompError(f"{where}: must be {words[kind]}, not {type(value).__name__}")
    return value


def _number(value: object, most: int, where: str) -> int:
    """Return a whole number from 0 to `most`."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise SeccompError(f"{where}: must be a whole number from 0 to {most}, not {value!r}")
    return value
