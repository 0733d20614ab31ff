"""RUN: an ordinary container upon the layers so far, whose upper directory becomes the next layer.

The way is that of `minirt run`: options, config.json, plan, birth. What differs is who looks at it: its output goes to the
build's progress, and it ends when the build does (PR_SET_PDEATHSIG), however that ends.
"""

from __future__ import annotations

import os
import select
from contextlib import ExitStack

from minirt.build.errors import BuildError
from minirt.build.stubs import Stubs
from minirt.engine.container import Container
from minirt.engine.context import make_cgroup, make_context, prepare
from minirt.engine.options import RunOptions
from minirt.engine.run import discard
from minirt.engine.session import Session
from minirt.engine.spec import make_spec
from minirt.image.view import View
from minirt.linux import constants as k
from minirt.linux.process import start_time
from minirt.oci.compile import compile_plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from minirt.build.state import State
    from minirt.plan import Plan

__all__ = ["Base", "Cancelled", "RunStep"]

HOSTNAME = "minirt-build"  # the same each time: a program may write it into what it makes


class Cancelled(BuildError):
    """Another part of the build has failed, or the user wants no more."""


class Base:
    """The layers so far, where the engine expects an image."""

    def __init__(self, state: State, empty: str) -> None:
        self.name = "build"
        self.config = state.document
        self._directories = state.directories() or [empty]  # overlayfs wants one lower directory, also from scratch

    def layers(self) -> list[str]:
        """Return the directories, topmost first."""
        return self._directories


class RunStep:
    """One RUN.

    Args: state, what it stands on; args, the command; env, variables beside the image's; network, as `minirt run` has it; say, gets
    each line of its output; stop, descriptor that becomes readable when the build is over;
    privileged, as `minirt run --privileged`.
    """

    def __init__(
        self, state: State, args: list[str], env: dict[str, str], network: str, say: Callable[[str], object], stop: int,
        *, privileged: bool = False,
    ) -> None:  # fmt: skip
        self.state = state
        self.args = args
        self.env = env
        self.network = network
        self.say = say
        self.stop = stop
        self.privileged = privileged
        self.mounts: list[dict[str, Any]] = []  # config.json's
        self.prepare: list[Callable[[Container], None]] = []  # called when there is a directory for the container's own
        self.born: list[Callable[[], None]] = []  # called when its program has started
        self.upper = ""

    def run(self, undo: ExitStack) -> int:
        """Run it to its end. Its upper directory is there, without what was made for mounts, until `undo` is closed.

        Returns the exit status. Raises MinirtError, Cancelled.
        """
        container = Container.create("", "build", self.args, rm=True, step=True)  # whoever finds it without its build may end it
        undo.callback(container.close)
        undo.callback(discard, container)
        for step in self.prepare:
            step(container)
        spec = make_spec(self._options(), self.state.config, container.id)
        spec["mounts"] += self.mounts
        empty = os.path.join(container.path, "empty")
        os.mkdir(empty, 0o755)
        base = Base(self.state, empty)
        cgroup = undo.enter_context(make_cgroup(container.id, spec, None))
        context = make_context(self._options(), base, container.path, spec, cgroup)  # type: ignore[arg-type]
        assert context.overlay is not None
        context.overlay.whole = True
        prepare(container, context, base, self._options())  # type: ignore[arg-type]
        stubs = Stubs(View(self.state.directories()), [mount["destination"] for mount in spec["mounts"]])
        plan = end_with_us(compile_plan(context))
        session = _Step(self._options(), context, container, base, None)  # type: ignore[arg-type]
        status = session.live(plan, self)
        self.upper = f"{container.path}/upper"
        stubs.remove(self.upper)
        return status

    def add_script(self, target: str, content: str) -> None:
        """Let the container find a program at a path; it is no part of its layer."""

        def write(container: Container) -> None:
            path = os.path.join(container.path, "script")
            with open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(content)
            os.chmod(path, 0o755)
            self.mounts.append({"destination": target, "type": "bind", "source": path, "options": ["bind", "rprivate", "rro"]})

        self.prepare.append(write)

    def pieces(self, latest: int | None) -> Iterator[bytes]:
        """Yield the layer's tar. Args: latest, ns since the epoch that no time may exceed. Raises ImageError."""
        from minirt.image.diff import layer_of

        return layer_of(self.upper, self.state.directories(), latest=latest)

    def _options(self) -> RunOptions:
        return RunOptions(
            "build", self.args, entrypoint="", env=[f"{name}={value}" for name, value in self.env.items()],
            network=self.network, user=self.state.config.get("User") or "", hostname=HOSTNAME, rm=True, mounts=[],
            privileged=self.privileged,
        )  # fmt: skip


def end_with_us(plan: Plan) -> Plan:
    """Let the program be killed when the thread that made it is gone, whatever ended that (man 2 prctl, PR_SET_PDEATHSIG).

    Right before execve: changing to another user would clear it.
    """
    at = next(i for i, item in enumerate(plan.items) if getattr(item, "call", "") == "execve")
    rest = plan.items[at:]
    del plan.items[at:]
    plan.side, plan.current = "container", "exec"
    plan.prctl(k.PR_SET_PDEATHSIG, k.SIGKILL, why="a step of a build ends with the build")
    plan.items += rest
    return plan


class _Step(Session):
    """A step's life: as `minirt run`'s, without a terminal and without signals to pass on."""

    def live(self, plan: Plan, step: RunStep) -> int:
        """Give birth to it, pass its output on line by line, and return its exit status."""
        from minirt.plan.birth import Birth, PlanFailed

        with ExitStack() as undo:
            self.undo = self.failing = undo
            reader, writer = os.pipe2(os.O_CLOEXEC)
            undo.callback(os.close, reader)
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, stdin)
            try:
                birth = undo.enter_context(Birth(plan, (stdin, writer, writer)))
                for name in birth.barriers():
                    self.stand(name, birth)
            except PlanFailed as failure:
                raise self.verdict(failure) from None
            finally:
                os.close(writer)
            for call in step.born:
                call()
            self.container.save(status="running", pid=birth.pid, started_ticks=start_time(birth.pid))
            for line in _lines(reader, step.stop):
                step.say(line)
            return birth.wait()


def _lines(reader: int, stop: int) -> Iterator[str]:
    """Yield the lines that come through a pipe, to its end. Raises Cancelled."""
    poll = select.poll()
    poll.register(reader, select.POLLIN)
    poll.register(stop, select.POLLIN)
    rest = b""
    while True:
        if stop in dict(poll.poll()):
            raise Cancelled("stopped")
        data = os.read(reader, 1 << 16)
        *lines, rest = (rest + data).split(b"\n")
        yield from (line.decode(errors="replace").rstrip("\r") for line in lines)
        if not data:
            if rest:
                yield rest.decode(errors="replace")
            return
