"""Print records as strace prints system calls. Loaded only when somebody looks."""

from __future__ import annotations

import os

from minirt.linux import constants
from minirt.plan.layout import PENDING
from minirt.plan.record import CGROUP, Address, Late, Memory, Record, Slot, Words
from minirt.trace import Event

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from minirt.plan.birth import Birth
    from minirt.plan.builder import Plan

__all__ = ["arguments", "call_text", "describe", "event_of", "flags_text", "plan_as_dict"]

# Kind of a parameter -> the beginnings of its constants' names.
FLAGS = {
    "MS": ("MS_",), "MNT": ("MNT_", "UMOUNT_"), "CLONE": ("CLONE_",), "O": ("O_",), "AT": ("AT_",),
    "OPEN_TREE": ("OPEN_TREE_", "O_CLOEXEC", "AT_RECURSIVE", "AT_EMPTY_PATH"), "MOVE_MOUNT": ("MOVE_MOUNT_",),
    "MOUNT_ATTR": ("MOUNT_ATTR_",), "FSOPEN": ("FSOPEN_",), "FSMOUNT": ("FSMOUNT_",), "CLOSE_RANGE": ("CLOSE_RANGE_",),
    "MSG": ("MSG_",),
}  # fmt: skip
ENUMS = {
    "PR": "PR_", "RLIMIT": "RLIMIT_", "SECCOMP": "SECCOMP_SET", "KEYCTL": "KEYCTL_", "AF": "AF_", "FSCONFIG": "FSCONFIG_",
    "TIO": ("TIO", "SIOC"), "Signal": "SIG",
}  # fmt: skip

_tables: dict[str, dict[int, str]] = {}


def _table(prefix: str) -> dict[int, str]:
    table = _tables.get(prefix)
    if table is None:
        table = _tables[prefix] = {value: name for name, value in constants.names_of(prefix).items() if value}
    return table


def flags_text(value: int, prefixes: tuple[str, ...]) -> str:
    """Return MS_BIND|MS_REC for a number, with what has no name in hexadecimal."""
    names = []
    for prefix in prefixes:
        for bit, name in sorted(_table(prefix).items()):
            if value & bit == bit and bit.bit_count() == 1:
                names.append(name)
                value &= ~bit
    if value or not names:
        names.append(hex(value) if value else "0")
    return "|".join(names)


def _text(value: str | bytes) -> str:
    if isinstance(value, bytes):
        value = value.decode("latin-1")
        return "".join(c if c.isprintable() and c.isascii() else f"\\x{ord(c):02x}" for c in value).join('""')
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def _argument(kind: str, arg: Any, birth: Birth | None) -> str:
    if isinstance(arg, Slot):
        value = birth.peek(arg) if birth is not None else -1
        return f"{value} <{arg.name}>" if value >= 0 else f"<{arg.name}>"
    if isinstance(arg, Late):
        if birth is not None:
            filled = os.pread(birth.memory, arg.size, birth.lowered.offset(arg)).split(b"\0")[0]
            if filled:
                return _text(filled.decode(errors="replace"))
        return f"<{arg.name}>"
    if arg is None:
        return "NULL"
    if kind == "Clone":
        group = arg.items[CGROUP]
        cgroup = f", cgroup={_argument('Fd', group, birth)}" if isinstance(group, Slot) else ""
        return f"{{flags={flags_text(arg.items[0], ('CLONE_',))}{cgroup}}}"
    if kind == "OpenHow" and isinstance(arg, bytes):
        flags, bits, resolve = (int.from_bytes(arg[i : i + 8], "little") for i in (0, 8, 16))
        mode = f", mode={bits:04o}" if bits else ""
        return f"{{flags={flags_text(flags, ('O_',))}{mode}, resolve={flags_text(resolve, ('RESOLVE_',))}}}"
    if kind in ("Argv", "Env"):
        items = list(arg.items if isinstance(arg, Words) else arg)
        if kind == "Env" and len(items) > 3:
            return f"[/* {len(items)} variables */]"
        return "[" + ", ".join(_argument("Text", item, birth) for item in items) + "]"
    if isinstance(arg, (str, bytes)):
        return _text(arg)
    if isinstance(arg, Words):
        return "{" + ", ".join(_argument("Pointer", item, birth) for item in arg.items) + "}"
    if isinstance(arg, Memory):
        shown = arg.data.rstrip(b"\0")
        return _text(shown) if len(shown) <= 32 else f"[{arg.size} bytes]"
    if isinstance(arg, Address):
        return _argument(kind, arg.memory, birth) + (f"+{arg.offset}" if arg.offset else "")
    return _number(kind, arg)


def _number(kind: str, value: int) -> str:
    if kind in FLAGS:
        return flags_text(value, FLAGS[kind])
    if kind in ENUMS:
        prefixes = ENUMS[kind]
        for prefix in prefixes if isinstance(prefixes, tuple) else (prefixes,):
            name = _table(prefix).get(value)
            if name:
                return name
    if kind == "Dirfd" and value == constants.AT_FDCWD:
        return "AT_FDCWD"
    if kind == "Mode":
        return _mode(value)
    if kind == "Device":
        return f"makedev({os.major(value)}, {os.minor(value)})"
    return str(value)


def _mode(value: int) -> str:
    kinds = {constants.S_IFCHR: "S_IFCHR", constants.S_IFBLK: "S_IFBLK", constants.S_IFIFO: "S_IFIFO",
             constants.S_IFREG: "S_IFREG"}  # fmt: skip
    kind = kinds.get(value & 0o170000)
    return f"{kind}|{value & 0o7777:04o}" if kind else f"{value:04o}"


def arguments(record: Record, birth: Birth | None = None) -> tuple[str, ...]:
    """Return a record's arguments as strace prints them.

    Args:
        record: of a plan.
        birth: a run of it, for what slots and late memory hold by now.
    """
    kinds = record.kinds.__annotations__ if callable(record.kinds) else record.kinds
    return tuple(_argument(kind, arg, birth) for kind, arg in zip(kinds.values(), record.args, strict=False))


def call_text(record: Record, birth: Birth | None = None) -> str:
    """Return `mount("proc", "/proc", "proc", 0, NULL)`."""
    return f"{record.call}({', '.join(arguments(record, birth))})"


def event_of(record: Record, result: int, time: int, duration: int, birth: Birth) -> Event:
    """Return the event that tells of one outcome."""
    errno = -result if -4096 < result < 0 else 0
    shown = None if result == PENDING else (-1 if errno else result)
    args = arguments(record, birth)
    return Event(
        record.call, args, side=record.side, step=record.step, why=record.why,
        result=shown, errno=errno, time=time, duration=duration,
    )  # fmt: skip


def tolerance(record: Record) -> str:
    """Say which failures a record lives with."""
    from errno import errorcode

    parts = [f"{errorcode[e]} -> {label}" if label else errorcode[e] for e, label in record.otherwise.items()]
    return f"may fail with {', '.join(parts)}" if parts else ""


def describe(plan: Plan, paint: Callable[[str, str], str] = lambda code, text: text) -> Iterator[str]:
    """Yield the plan as text, a line at a time: each step with its reason, each call with its own."""
    from minirt.plan.explain import BOLD, CYAN, DIM

    heading = None
    for number, record in enumerate(plan.records, 1):
        if (record.step, record.side) != heading:
            heading = (record.step, record.side)
            step = plan.steps.get(record.step)
            needs = f"  needs {', '.join(step.needs)}" if step and step.needs else ""
            yield paint(BOLD, record.step or "-") + paint(DIM, f"  [{record.side}]{needs}")
            if step and step.why:
                yield paint(DIM, f"    # {step.why}")
        extra = tolerance(record)
        if record.inject:
            from errno import errorcode

            extra = f"not called: fails with {errorcode[record.inject]}"
        yield f"{number:4} {call_text(record)}" + (paint(DIM, f"  [{extra}]") if extra else "")
        if record.why:
            yield paint(CYAN, f"       {record.why}")


def plan_as_dict(plan: Plan) -> dict[str, Any]:
    """Return the plan as a JSON object: steps with their needs, records with their arguments and reasons."""
    return {
        "steps": [{"name": s.name, "needs": list(s.needs), "why": s.why} for s in plan.steps.values()],
        "records": [
            {"call": r.call, "args": list(arguments(r)), "step": r.step, "side": r.side, "why": r.why,
             "tolerates": sorted(r.otherwise)}
            for r in plan.records
        ],
        "notes": plan.notes,
    }  # fmt: skip
