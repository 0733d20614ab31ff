"""Records as struct record (csrc/plan/plan.h): each argument a number, or the address of what it points to."""

from __future__ import annotations

from minirt.linux import constants
from minirt.plan.arena import WORD
from minirt.plan.layout import RECORD
from minirt.plan.record import Address, Load, Slot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from minirt.plan.arena import Arena
    from minirt.plan.record import Record

__all__ = ["pack"]

ERRNOS = 4
ZEROS = (0,) * 6
NO_ERRNOS = (0,) * (2 * ERRNOS)


def pack(records: Sequence[Record], first: int, labels: Mapping[str, int], arena: Arena, pool: int = 0) -> bytearray:
    """Return records as struct record.

    Args:
        records: what to pack.
        first: the number of the first of them in its plan.
        labels: where each label of the plan stands.
        arena: gets what they point to.
        pool: how much of the pool of passages in common the plan's memory has (common.py), in bytes.
    """
    packed = bytearray()
    text, known, numbers, memory, there = arena.text, arena.texts.get, _numbers.get, arena.memory, arena.addresses.get
    # One pass over every argument of every record: what is common is asked first, and not through `Arena.value`.
    for at, record in enumerate(records, first):
        if record.packed and record.pool <= pool:
            packed += record.packed
            continue
        args = []
        loads = 0
        for arg in record.args:
            if arg.__class__ is int:
                args.append(arg if arg >= 0 else arg & WORD)
            elif arg.__class__ is str or arg.__class__ is bytes:
                args.append(known(arg) or text(arg))
            elif arg.__class__ is Slot:
                loads |= 1 << 2 * len(args)
                args.append(there(id(arg)) or memory(arg))
            elif arg is None:
                args.append(0)
            elif isinstance(arg, Load):
                loads |= 1 << 2 * len(args)
                args.append(arena.memory(arg.memory) + arg.offset)
            else:
                args.append(arena.value(arg))
        store = 0
        if record.store is not None:
            store = arena.value(record.store) if isinstance(record.store, Address) else memory(record.store)
        errnos = tolerated(record, labels, at) if record.otherwise else NO_ERRNOS
        packed += RECORD.pack(
            numbers(record.call) or number(record.call), loads,
            forward(labels, record.positive, at, record) if record.positive else 0,
            *args, *ZEROS[len(args) :], store, record.at_least, 0, record.inject, *errnos,
        )  # fmt: skip
    return packed


def tolerated(record: Record, labels: Mapping[str, int], at: int) -> list[int]:
    """Return the errnos that a record goes on after, each with where; 0 is the next record, or no errno."""
    pairs = []
    for errno, label in record.otherwise.items():
        pairs += [errno, 0 if label is None else forward(labels, label, at, record)]
    if len(pairs) > 2 * ERRNOS:
        raise ValueError(f"{record.call}: more than {ERRNOS} tolerated errnos")
    return pairs + [0] * (2 * ERRNOS - len(pairs))


def forward(labels: Mapping[str, int], label: str, at: int, record: Record) -> int:
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
