"""exec: one more process in a container that runs, as a user and in a directory of its own if wanted."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from errno import ENOENT, ENOTDIR

from minirt.engine import values
from minirt.engine.asked import load_options
from minirt.engine.container import Conflict, Container
from minirt.engine.context import compile_filter
from minirt.engine.options import RunOptions
from minirt.engine.removal import running, while_running
from minirt.engine.run import check
from minirt.engine.session import Session
from minirt.errors import MinirtError, NotExecutable, NotFound
from minirt.oci.step import Context

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.plan.birth import Birth

__all__ = ["execute"]


def execute(container: Container, options: RunOptions) -> int:
    """Run a process in a container, and stay with it; one that is to be detached has a monitor in our place (exec_start.py).

    Args:
        container: one that runs.
        options: command, user, env, env_file, workdir, tty, interactive, detach, detach_keys, privileged.

    Returns: its exit status; 0 if detached. Raises: ContainerError, MinirtError with docker's 126 and 127.
    """
    check(options)
    refuse_paused(container)
    if options.detach:
        from minirt.engine.exec_start import start
        from minirt.engine.execs import create

        options.interactive = False
        start(create(container, options), before=lambda: None)
        return 0
    with ExitStack() as undo:
        os.close(running(container))
        with while_running(container):
            context = make_context(container, options)
        return told(container, options, Joining(options, context, container, undo).run_all)


def refuse_paused(container: Container) -> None:
    """Refuse a container that is held still: what joins it would be so too. Raises: Conflict."""
    if container.paused:
        raise Conflict(f"container {container.label} is paused: minirt unpause {container.label}")


def told(container: Container, options: RunOptions, run: Callable[[], int]) -> int:
    """Run what runs a process in a container, and tell of its beginning and its end. Returns its exit status."""
    id, command = os.urandom(32).hex(), " ".join(options.command)  # by the id its events are known
    container.save([(f"{action}: {command}", {"execID": id}) for action in ("exec_create", "exec_start")])
    status = 126  # where it cannot begin
    try:
        status = run()
    except MinirtError as error:
        status = error.exit_code
        raise
    finally:
        container.tell("exec_die", execID=id, exitCode=str(status))
    return status


def make_context(container: Container, options: RunOptions) -> Context:
    """Return what the plan of a joining process is compiled from."""
    with open(f"{container.path}/config.json", encoding="utf-8") as file:
        spec: dict[str, Any] = json.load(file)
    first = spec["process"]
    env = dict(item.partition("=")[::2] for item in first["env"]) | values.parse_environment(options.env, options.env_file)
    process = {
        **first, "args": options.command, "terminal": options.tty, "cwd": options.workdir or first["cwd"],
        "env": [f"{key}={value}" for key, value in env.items() if key != "HOME"],
    }  # fmt: skip
    if options.privileged:
        from minirt.linux import capabilities

        everything = capabilities.names(capabilities.of_process()["permitted"])
        process["capabilities"] = dict.fromkeys(("bounding", "effective", "permitted"), everything)
    spec = {**spec, "process": process}
    group = container.cgroup
    return Context(
        spec, container.path, user=options.user or container.state.get("user") or "", cgroup=group.path if group else "",
        seccomp=compile_filter(load_options(container), spec), rootless=os.geteuid() != 0, join=container.state["pid"],
        new_keyring=False,
    )  # fmt: skip


class Joining(Session):
    """The birth of a process that joins, and our stay with it."""

    def __init__(self, options: RunOptions, context: Context, container: Container, undo: ExitStack) -> None:
        super().__init__(options, context, container, None, None)
        self.undo = undo

    def stand(self, name: str, birth: Birth) -> None:
        """Do what a barrier is for, if the container still runs: then the number by which it was joined was its own."""
        os.close(running(self.container))
        super().stand(name, birth)

    def verdict(self, failure: Any) -> MinirtError:
        """Say in words, with docker's exit codes, which working directory is none."""
        if failure.step != "workdir" or not failure.errno:
            return super().verdict(failure)
        kind = NotFound if failure.errno in (ENOENT, ENOTDIR) else NotExecutable
        path = self.context.process["cwd"]
        return kind(f"exec: working directory {path} in the container: {os.strerror(failure.errno)}")

    def bear(self, fds: tuple[int, int, int], parent: Any = None) -> Birth:
        """Give birth to it: until its program runs.

        Args: fds, its descriptors 0, 1, 2; parent, who spawns it in our place.
        Raises: Conflict where its container has ended meanwhile; MinirtError, with docker's 126 and 127.
        """
        from minirt.oci.join import begin_join, finish_join
        from minirt.plan.birth import Birth, PlanFailed

        with while_running(self.container):
            try:
                birth = self.undo.enter_context(
                    Birth(lambda: begin_join(self.context), fds, rest=lambda plan: finish_join(plan, self.context), parent=parent)
                )
                for name in birth.barriers():
                    self.stand(name, birth)
            except PlanFailed as failure:
                raise self.verdict(failure) from None
        return birth

    def run_all(self) -> int:
        """Give birth to it and stay with it. Returns its exit status."""
        from minirt.terminal.attach import attach
        from minirt.terminal.wait import Signals

        options = self.options
        stdin = 0
        if not options.interactive:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            self.undo.callback(os.close, stdin)
        signals = self.undo.enter_context(Signals(options.sig_proxy))
        birth = self.bear((stdin, 1, 2))
        status = attach(birth.pidfd, master=self.master, detach_keys=self.keys(), interactive=options.interactive, signals=signals)
        birth.reaped()
        return status or 0
