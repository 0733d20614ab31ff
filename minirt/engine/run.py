"""`minirt run`: an image, options, and then a container from its birth to its end.

    options ─spec─▶ config.json ─oci.compile─▶ plan ─cut, inject─▶ Birth ─barriers─▶ the program ─wait─▶ exit status

Whatever is made on the way is undone by the ExitStack that it was entered into, in reverse order, after a failure
at any point as after a good end.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack

from minirt.engine.attachments import check as check_networks
from minirt.engine.container import Container, died_attributes
from minirt.engine.context import make_cgroup, make_context, prepare
from minirt.engine.images import find_image, hold, wants_mounts
from minirt.engine.session import Session
from minirt.engine.spec import labels_of, make_spec
from minirt.errors import UsageError
from minirt.oci.compile import begin_plan, compile_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.engine.container import Happening
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.linux.cgroup2 import Cgroup
    from minirt.oci.step import Context
    from minirt.plan import Plan
    from minirt.trace import Event, Sink

__all__ = ["run"]


def run(options: RunOptions, image: Image | None = None) -> int:
    """Run a container in the foreground.

    Args:
        options: what was asked for.
        image: the image, where the caller has it already.

    Returns: the container's exit status, 128+n where signal n ended it.
    Raises: MinirtError, with docker's exit codes: 125, 126 (cannot be run), 127 (not found).
    """
    check(options)
    if options.restart != "no" or (options.healthcheck or {}).get("Test", ["NONE"]) != ["NONE"]:
        raise UsageError("--restart, --health-cmd: a container whose birth is shown or cut has no monitor, which they take")
    image = image or find_image(options.image)
    with ExitStack() as undo:
        sink = make_sink(options, undo)
        if options.plan or options.as_shell:
            from minirt.engine.planned import show_plan

            return show_plan(options, image)
        config = image.config.get("config") or {}
        container = Container.create(options.name, image.label, options.command, options.rm, labels_of(options, config))
        undo.callback(container.close)  # the last of all: what nobody owns, `minirt gc` may remove
        keep = ExitStack()  # what `--rm` or a failure removes
        died: list[Happening] = []
        keep.callback(discard, container, died)
        undo.enter_context(keep)
        write_id(container, options)
        hold(image, container)
        if wants_mounts(options, image):
            from minirt.engine import volumes

            undo.callback(volumes.detach, container)
            volumes.claim(container, options, image)
            volumes.attach(container, options)
        spec = make_spec(options, config, container.id)
        cgroup = undo.enter_context(make_cgroup(container.id, spec, sink))
        context = make_context(options, image, container.path, spec, cgroup)
        prepare(container, context, image, options)
        session = Session(options, context, container, image, sink)
        whole = sink is not None or options.upto is not None or options.without or options.fail
        status = session.run(whole_plan(context, options) if whole else begin_plan(context), undo, not whole)
        if cgroup is not None and status == 137:
            tell_oom(cgroup, options)
        now = time.time()
        died.append(("die", died_attributes(status, now - container.state["started"])))
        if options.rm:
            return status
        container.save(died, status="exited", exit_code=status, pid=0, finished=now)
        keep.pop_all()
        return status


def whole_plan(context: Context, options: RunOptions) -> Plan:
    """Return the plan from its first record to its last, cut and made to fail as asked."""
    from minirt.engine.planned import shape

    return shape(compile_plan(context), options)


def discard(container: Container, happened: Sequence[Happening] = ()) -> None:
    """Remove a container; where that cannot be say so, and let what went wrong before be told too.

    Args: happened, events that come before its end.
    """
    try:
        container.remove(happened)
    except OSError as error:
        text = error.strerror or str(error)
        print(f"minirt: {container.path} was not removed: {text}: minirt gc does it when it can be", file=sys.stderr)


def check(options: RunOptions) -> None:
    """Refuse what cannot be, before anything is made."""
    for stream in options.attach:
        if stream.lower() not in ("stdin", "stdout", "stderr"):
            raise UsageError(f"--attach {stream}: there are stdin, stdout and stderr")
    if options.attach and options.detach:
        raise UsageError("--attach: with -d we are at none of its streams")
    if options.plan and options.step:
        raise UsageError("--plan prints and runs nothing, --step runs: give one of them")
    if options.cidfile and os.path.exists(options.cidfile):
        raise UsageError(f"--cidfile {options.cidfile}: is there already: remove it, or name another")
    if options.log_driver != "json-file" or options.log_opt:
        from minirt.engine.log_driver import log_limits

        log_limits(options)
    if options.stop_signal:
        from minirt.engine.control import signal_number

        signal_number(options.stop_signal)
    check_networks(options)
    if options.tty and options.interactive and not options.plan and not options.detach:
        from minirt.terminal.tty import require_terminal

        require_terminal(0)


def write_id(container: Container, options: RunOptions) -> None:
    """Write a container's id into the file of --cidfile. Raises: UsageError."""
    if not options.cidfile:
        return
    try:
        with open(options.cidfile, "x", encoding="ascii") as file:
            file.write(container.id)
    except OSError as error:
        raise UsageError(f"--cidfile {options.cidfile}: {error.strerror}") from None


def make_sink(options: RunOptions, undo: ExitStack) -> Sink | None:
    """Return what gets the events: --explain's printer, --trace's writer, both or none."""
    sinks: list[Sink] = []
    if options.explain or options.step:
        from minirt.plan.explain import Explainer

        sinks.append(Explainer(sys.stderr))
    if options.trace:
        from minirt.trace import TraceWriter

        try:
            stream = undo.enter_context(open(options.trace, "w", encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--trace {options.trace}: {error.strerror}") from None
        sinks.append(TraceWriter(stream, "container", image=options.image, command=options.command))

    def both(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return both if sinks else None


def tell_oom(cgroup: Cgroup, options: RunOptions) -> None:
    """Say that it was the kernel's out-of-memory killer, if it was: the exit status alone is any SIGKILL's."""
    kills = cgroup.oom_kills()
    if kills:
        limit = f" (--memory {options.memory})" if options.memory else ""
        print(f"minirt: out of memory{limit}: the kernel killed {kills} of the container's processes", file=sys.stderr)
