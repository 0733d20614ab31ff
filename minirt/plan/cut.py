"""The same plan with a piece changed: `--upto`, `--without`, `--fail`. That is how a lesson takes one wall away."""

from __future__ import annotations

from minirt.errors import UsageError
from minirt.linux import constants
from minirt.plan.birth import LOOK
from minirt.plan.builder import Plan
from minirt.plan.record import CGROUP, Address, Label, Record, Slot, Words

__all__ = ["cut", "inject"]

ALWAYS = ("signals", "resolve", "exec")  # a cut plan still leaves a process that runs
SAFETY = "safety"


def cut(plan: Plan, upto: str | None = None, without: tuple[str, ...] = ()) -> Plan:
    """Return the plan cut after a step or without some, and without what needs what was cut.

    What is left would act on the host's mounts where its own were cut away; so it first enters a throw-away
    private mount namespace, which no option removes.

    Args:
        plan: is not changed.
        upto: the last step to keep, besides those that start the program.
        without: steps to leave out.

    Returns: the cut plan; `notes` says what else was cut, and why.
    Raises: UsageError where there is no such step, or nothing would be left to run.
    """
    steps = list(plan.steps)
    for name in (*without, *((upto,) if upto is not None else ())):
        if name not in plan.steps:
            raise UsageError(f"this plan has no step {name!r}; it has: {', '.join(steps)}")
    for name in without:
        if name in ALWAYS:
            raise UsageError(f"--without {name}: nothing would be left to run")
    gone = set(without)
    if upto is not None:
        gone |= {name for name in steps[steps.index(upto) + 1 :] if name not in ALWAYS}
    notes = list(plan.notes)
    for name in steps:  # needs stand before what needs them, so one pass is enough
        missing = [need for need in plan.steps[name].needs if need in gone]
        if missing and name not in gone and name not in ALWAYS:
            gone.add(name)
            notes.append(f"without {missing[0]} there can be no {name}")
    return rebuilt(plan, gone, notes)


def rebuilt(plan: Plan, gone: set[str], notes: list[str]) -> Plan:
    """Return a plan of the items that are left, behind the throw-away mount namespace."""
    result = Plan(plan.preserve_fds)
    result.notes, result.late = notes, plan.late
    result.step(SAFETY, (), "keep what a cut plan does to mounts from the host")
    result.unshare(constants.CLONE_NEWNS, why="a throw-away copy of the host's mounts")
    result.mount(None, "/", None, constants.MS_REC | constants.MS_PRIVATE, why="and nothing done to it comes back")
    kept = [item for item in plan.items if item.step not in gone]
    opened = [item.store for item in kept if isinstance(item, Record)]
    kept = [outside_cgroup(item, opened) if isinstance(item, Record) else item for item in kept]
    cloned = any(isinstance(item, Record) and item.call == "clone3" for item in kept)
    result.pid = plan.pid if cloned else None
    result.items += kept
    result.barriers = plan.barriers if cloned else [(name, "executor") for name, _ in plan.barriers]
    result.steps |= {name: step for name, step in plan.steps.items() if name not in gone}
    return result


def outside_cgroup(record: Record, opened: list[Slot | Address | None]) -> Record:
    """Return a clone3 as it is without the step that opens its cgroup: into its parent's; others as they are."""
    words = record.args[0] if record.call == "clone3" else None
    if not isinstance(words, Words) or not isinstance(words.items[CGROUP], Slot) or words.items[CGROUP] in opened:
        return record
    flags = words.items[0]
    assert isinstance(flags, int)
    result = copied(record)
    result.args = (Words(flags & ~constants.CLONE_INTO_CGROUP, *words.items[1:CGROUP], 0), *record.args[1:])
    return result


def inject(plan: Plan, what: str) -> Plan:
    """Let one call fail without being made: CALL[:N]=ERRNO, N counting that call's records from 1.

    Changes the plan, not the record, which others may have too, and returns it.

    Raises: UsageError where the text or the plan has no such thing.
    """
    import errno

    target, equals, wanted = what.partition("=")
    call, colon, nth = target.partition(":")
    code = getattr(errno, wanted, None) if wanted.startswith("E") else None
    if not equals or code is None or (colon and not (nth.isdecimal() and int(nth) > 0)):
        raise UsageError(f"--fail {what}: it is written CALL[:N]=ERRNO, as in mount:3=EPERM")
    records = [r for r in plan.records if r.call == call and not r.barrier]
    if not records:
        calls = ", ".join(dict.fromkeys(r.call for r in plan.records))
        raise UsageError(f"--fail {what}: this plan makes no call {call}; it makes {calls}")
    if int(nth or 1) > len(records):
        raise UsageError(f"--fail {what}: this plan calls {call} {len(records)} times")
    chosen = records[int(nth or 1) - 1]
    failing = copied(chosen)
    failing.inject = code
    plan.items[next(i for i, item in enumerate(plan.items) if item is chosen)] = failing
    return plan


def copied(record: Record) -> Record:
    """Return a record to change: not the one that other plans have in common with this."""
    from copy import copy

    result = copy(record)
    result.packed = b""
    return result


def insert_barriers(plan: Plan, before: bool) -> list[Record]:
    """Put a barrier `look:N` before each record, or after each of the child's steps, for `minirt.plan.watch`.

    None comes after the filter of system calls is loaded, which may not allow it, nor after the executor's part.

    Returns: the records, by the N of their barrier.
    """
    told: list[Record] = []
    items, plan.items = plan.items, []
    cloned = filtered = False
    for i, item in enumerate(items):
        following = next((other for other in items[i + 1 :] if isinstance(other, Record)), None)
        if isinstance(item, Label) or item.barrier:
            plan.items.append(item)
            continue
        plan.side = item.side if plan.pid is not None else "executor"
        plan.current = item.step
        if before and not filtered and not (cloned and item.side == "executor"):
            plan.barrier(f"{LOOK}{len(told)}")
            told.append(item)
        plan.items.append(item)
        cloned = cloned or item.call == "clone3"
        filtered = filtered or item.call == "seccomp"
        ends = following is None or following.step != item.step
        if not before and ends and not filtered and item.call != "execve" and (cloned or plan.pid is None):
            if item.side == "executor" and plan.pid is not None and item.call != "clone3":
                continue
            plan.side = "container" if plan.pid is not None else "executor"
            plan.barrier(f"{LOOK}{len(told)}")
            told.append(item)
    return told
