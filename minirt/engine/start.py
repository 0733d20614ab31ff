"""create and start: a container that is there before it runs and after, and runs with a monitor in place of us.

    create   options ─▶ a directory with all that a start needs, and a hold on the image
    start    options.json ─spec─▶ config.json ─▶ plan ─▶ the monitor's child ─▶ left alone with it
    (its end: ended.py, which the monitor runs)
"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack

from minirt.engine import monitor as m
from minirt.engine import owner
from minirt.engine.asked import frozen, load_options
from minirt.engine.container import Conflict, Container, NoContainer
from minirt.engine.context import make_cgroup, make_context, prepare
from minirt.engine.gc import clear, exited
from minirt.engine.health import Check, begin, check_of, merged
from minirt.engine.images import find_image, hold, wants_mounts
from minirt.engine.left import hand_over_terminal, place, streams
from minirt.engine.log_driver import log_limits
from minirt.engine.restarts import restart_policy
from minirt.engine.run import check, write_id
from minirt.engine.session import Session
from minirt.engine.spec import labels_of, make_spec
from minirt.errors import UsageError
from minirt.linux.process import start_time
from minirt.oci.compile import begin_plan, finish_plan
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.plan.birth import Birth

__all__ = ["create", "run_detached", "start"]

ENDING = 10.0  # s that a monitor has to end in, when its container could not be started


def create(options: RunOptions, image: Image | None = None) -> Container:
    """Make a container that `start` can start.

    Args:
        options: what was asked for; what they take from our environment is taken now.
        image: the image, where the caller has it already.

    Returns: the container, which nobody owns. Raises: MinirtError, with docker's exit code 125.
    """
    check_detached(options)
    image = image or find_image(options.image)
    config = image.config.get("config") or {}
    make_spec(options, config, "c" * 64)  # what is wrong with the options is said now
    merged(options.healthcheck, config)
    options.stop_signal = options.stop_signal or (image.config.get("config") or {}).get("StopSignal") or ""
    container = Container.create(
        options.name, image.label, options.command, options.rm, labels_of(options, config),
        restart=options.restart, user=options.user or config.get("User") or "",
    )  # fmt: skip
    with ExitStack() as undo:
        undo.callback(container.close)
        keep = undo.enter_context(ExitStack())
        keep.callback(container.remove)
        hold(image, container)
        if wants_mounts(options, image):
            from minirt.engine.volumes import claim

            claim(container, options, image)
        container.write("options.json", json.dumps(frozen(options)))
        container.save([("create", {})], status="created")
        write_id(container, options)
        keep.pop_all()
    return container


def check_detached(options: RunOptions) -> None:
    """Refuse what a container without us cannot have. Raises: UsageError."""
    watched = ("plan", "as_shell", "as_oci", "explain", "step", "trace")
    for name in watched:
        if getattr(options, name):
            raise UsageError(f"--{name.replace('_', '-')}: shows a birth in the foreground: leave out -d")
    restart_policy(options.restart)
    if options.rm and options.restart != "no":
        raise UsageError("--rm and --restart: a container that is removed at its end is not started again")
    check(options)


def start(container: Container, owned: bool = False, before: Callable[[], object] | None = None) -> Container:
    """Start a container, and leave it to its monitor.

    Args:
        container: to start.
        owned: whether the caller owns it already: it was ended, and is started again.
        before: called when its monitor listens, before its program begins.

    Returns: the container, as it is now. Raises: MinirtError; it is then as it was before.
    """
    options = load_options(container)
    if container.running or (not owned and not take_or_see_it_run(container)):
        return container
    with ExitStack() as undo:
        undo.callback(container.close)
        for name in ("exit", "stop"):
            remove_file(f"{container.path}/{name}")
        Start(container, options, undo, again=owned).run(before)
    return container


def take_or_see_it_run(container: Container) -> bool:
    """Own a container that does not run; say whether we do, or another has started it meanwhile. Raises: ContainerError."""
    import time

    end = time.monotonic() + ENDING
    while not take(container):
        fresh = Container.load(container.id)
        if fresh is None:
            raise NoContainer(f"container {container.label} was removed")
        container.state = fresh.state
        if container.running:
            return False
        if time.monotonic() > end:
            raise Conflict(f"container {container.label} is another minirt's, which is starting it or seeing to its end: try again")
        time.sleep(0.02)
    if container.running:  # its monitor was killed, it was not
        container.close()
        return False
    return True


def run_detached(container: Container, before: Callable[[], object] | None = None) -> Container:
    """Start a container that was made for that; where it cannot be, none is left. Raises: MinirtError."""
    try:
        return start(container, before=before)
    except BaseException:
        if take(container, ENDING):
            clear(container.id, volumes=True)  # also what the start could not undo, as somebody was still being born into it
            container.close()
        raise


def take(container: Container, seconds: float = 0.0) -> bool:
    """Own a container that nobody else owns, or will own no more in so many seconds; its state is read anew."""
    container.owner = owner.wait(container.path, seconds)
    fresh = Container.load(container.id) if container.owner >= 0 else None
    if fresh is None:
        container.close()
        return False
    container.state = fresh.state
    if container.state["status"] in ("running", "restarting") and not container.running:
        exited(container)  # who stayed with it was killed
    return True


def remove_file(path: str) -> None:
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


class Start:
    """One start: the streams, the monitor, the birth."""

    def __init__(self, container: Container, options: RunOptions, undo: ExitStack, again: bool) -> None:
        self.container = container
        self.again = again  # it is --restart that starts it
        self.options = options
        self.check: Check | None = None
        self.undo = undo
        self.monitor = undo.enter_context(m.Monitor())

    def run(self, before: Callable[[], object] | None) -> None:
        """Start it. Raises: MinirtError; all is undone then."""
        from minirt.image.store import Store
        from minirt.plan.birth import Birth, PlanFailed

        container, options = self.container, self.options
        image = Store(os.path.join(data_root(), "image")).held(container.id)
        spec = make_spec(options, image.config.get("config") or {}, container.id)
        if options.mounts:
            from minirt.engine import volumes

            volumes.attach(container, options)
        ours = self.undo.enter_context(ExitStack())  # what goes where the start fails, and stays where it does not
        cgroup = ours.enter_context(make_cgroup(container.id, spec, None))
        context = make_context(options, image, container.path, spec, cgroup)
        prepare(container, context, image, options)
        self.check = check_of(options, image.config.get("config") or {})
        self.instruct()
        if before is not None:
            before()
        session = Detached(options, context, container, image, self.monitor)
        session.undo, session.failing = self.undo, ours
        fds = streams(self.monitor, options, self.undo)
        try:
            birth = self.undo.enter_context(
                Birth(lambda: begin_plan(context), fds, rest=lambda plan: finish_plan(plan, context), parent=self.monitor)
            )
            for name in birth.barriers():
                self.monitor.order(m.CHILD, birth.pid)
                session.stand(name, birth)
        except PlanFailed as failure:
            raise session.verdict(failure) from None
        self.leave(birth)
        ours.pop_all()

    def instruct(self) -> None:
        """Tell the monitor where to keep what, and what to run in the end."""
        container, options = self.container, self.options
        order = self.monitor.order
        place(self.monitor, container.path)
        if options.log_driver != "none":
            size, files = log_limits(options)
            order(m.LOG, size, files)
        order(m.KEEP, fds=[container.owner])
        order(m.EXIT, text=m.words(*m.interpreter("minirt.engine.ended", container.id)))
        if self.check is not None:
            check = self.check
            interval, at_start, period = (int(s * 1000) for s in (check.interval, check.start_interval, check.start_period))
            command = m.words(str(period), *m.interpreter("minirt.engine.probe", container.id))
            order(m.HEALTH, interval, min(at_start, 2**32 - 1), text=command)

    def leave(self, birth: Birth) -> None:
        """Write down that it runs, and leave it to the monitor."""
        import time

        counts = {} if self.again else {"tries": 0, "restarts": 0}
        health = begin(self.container, self.check)
        self.container.save(
            [("start", {})], status="running", pid=birth.pid, started_ticks=start_time(birth.pid), started=time.time(),
            exit_code=None, error="", oom_killed=False, **counts, **health,
        )  # fmt: skip
        self.monitor.order(m.GO)
        birth.reaped()


class Detached(Session):
    """What is done at each barrier of a container that its monitor will stay with."""

    def __init__(self, options: RunOptions, context: Any, container: Container, image: Image, monitor: m.Monitor) -> None:
        super().__init__(options, context, container, image, None)
        self.monitor = monitor

    def console(self, birth: Birth) -> None:
        """Hand the terminal's master on."""
        hand_over_terminal(self.monitor, birth, self.options)
