"""The plan: a container as an ordered list of system calls, each with its reason.

May import minirt.linux, minirt.trace, minirt.errors and minirt.paths. Read in this order:

    builder.py   Plan: appends records, calls nothing
    calls.py     its methods that are named after system calls; kinds.py: what an argument of one can be
    record.py    what a record is made of
    layout.py    where things lie in a plan's memory
    lower.py     records -> the memory that csrc/plan/executor.c runs; arena.py, pack.py: what arguments point to, and records
    common.py    passages that many plans have, made and lowered once
    executor.py  the program that runs a plan, and who starts it
    birth.py     a plan run: the executor started, barriers stood at; ring.py: what came of each record
    compare.py   what two plans differ in; shell.py: one as a shell script
    here.py      a plan run without the executor, by the process that it confines
    cut.py       --upto, --without, --fail: the same list with a piece changed
    decode.py    a plan and what happens, shown to a person; explain.py, observe.py, watch.py, too; player.py: a trace as a page
    causes.py    why a call usually fails; why.py: each of these causes tried
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan.builder import Plan, Step
    from minirt.plan.record import Address, Late, Memory, Slot, Words

__all__ = ["Address", "Late", "Memory", "Plan", "Slot", "Step", "Words"]


def __getattr__(name: str) -> object:
    """Load these when they are asked for (PEP 562): who wants one of the files above does not pay for the others."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from minirt.plan import builder, record

    value: object = getattr(record if hasattr(record, name) else builder, name)
    globals()[name] = value
    return value
