"""Run a plan under the eyes of a learner: what each step changed (`--explain`), or one call at a time (`--step`)."""

from __future__ import annotations

from minirt.plan.birth import LOOK
from minirt.plan.cut import insert_barriers
from minirt.plan.observe import difference, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.plan.birth import Birth
    from minirt.plan.builder import Plan

__all__ = ["Stepper", "Watcher"]


class Watcher:
    """Stops after each step of the child's and looks at it from outside; the difference goes into the event."""

    def __init__(self, plan: Plan) -> None:
        insert_barriers(plan, before=False)
        self.before: dict[str, str] | None = None

    def at(self, name: str, birth: Birth) -> bool:
        """Handle a barrier; returns False for one that is not ours."""
        if not name.startswith(LOOK):
            return False
        after = snapshot(birth.pid)
        if self.before is None:  # the first step made the process: compare it with its parent
            import os

            parent = snapshot(os.getpid())
            self.before = {k: v for k, v in parent.items() if not k.startswith("mount ")}
            self.before |= {k: v for k, v in after.items() if k.startswith("mount ")}
        birth.flush(difference(self.before, after))
        self.before = after
        return True


class Stepper:
    """Stops before each call, says what comes, and asks.

    Args:
        plan: gets a barrier before each record.
        ask: shows the text and returns the answer: empty to go on, `c` for all the rest, `q` to stop.
    """

    def __init__(self, plan: Plan, ask: Callable[[str], str]) -> None:
        self.records = insert_barriers(plan, before=True)
        self.ask = ask
        self.free = False

    def at(self, name: str, birth: Birth) -> bool:
        """Handle a barrier; returns False for one that is not ours. Raises KeyboardInterrupt on `q`."""
        if not name.startswith(LOOK):
            return False
        birth.flush()
        if self.free:
            return True
        from minirt.plan.decode import call_text

        record = self.records[int(name.removeprefix(LOOK))]
        pid = birth.pid or birth.executor
        text = f"next, in step {record.step}: {call_text(record, birth)}\n"
        text += f"      {record.why}\n" if record.why else ""
        text += f"process {pid} waits: look at /proc/{pid}, or nsenter -t {pid} -a; "
        text += "[Enter] goes on, c to the end, q stops: "
        answer = self.ask(text).strip().lower()
        if answer.startswith("q"):
            raise KeyboardInterrupt
        self.free = answer.startswith("c")
        return True
