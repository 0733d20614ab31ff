"""The plan: a container as an ordered list of system calls, each with its reason.

May import minirt.linux and minirt.errors. Read in this order:

    builder.py   Plan: a method a system call; appends records, calls nothing
    record.py    what a record is made of
    lower.py     records -> the memory that csrc/plan/executor.c runs
    birth.py     start the executor, stand at barriers, read the ring
    cut.py       --upto, --without, --fail: the same list with a piece changed
    events.py    what happened; decode.py, explain.py, observe.py, watch.py show it to a person
    causes.py    why a call usually fails
"""

from minirt.plan.builder import Plan, Step
from minirt.plan.record import Address, Late, Memory, Slot, Words

__all__ = ["Address", "Late", "Memory", "Plan", "Slot", "Step", "Words"]
