"""One birth of a container: what is done at each of its barriers, who watches, and our stay with it."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack

from minirt.engine.container import Container
from minirt.engine.context import in_new_userns
from minirt.errors import MinirtError, NotExecutable, NotFound
from minirt.linux.process import start_time
from minirt.oci import lookup
from minirt.oci.compile import finish_plan
from minirt.oci.sources import MOST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.oci.step import Context
    from minirt.plan import Plan
    from minirt.plan.birth import Birth
    from minirt.trace import Sink

__all__ = ["Session"]


class Session:
    """One run: what happens at each barrier, and who watches."""

    def __init__(
        self, options: RunOptions, context: Context, container: Container, image: Image | None, sink: Sink | None
    ) -> None:
        self.options = options
        self.context = context
        self.container = container
        self.image = image
        self.sink = sink
        self.master = -1
        self.sent = 0  # layers
        self.undo = ExitStack()
        self.failing = ExitStack()  # what is undone where the birth fails, or the container ends with us
        self.handlers = {
            "network": self.network, "idmaps": self.id_maps, "layers": self.more_layers, "resolve": self.resolve,
            "console": self.console,
        }  # fmt: skip

    def run(self, plan: Plan, undo: ExitStack, begun: bool = False) -> int:
        """Give birth to the container, stay with it, and return its exit status; of a plan that is begun make the rest."""
        from minirt.plan.birth import Birth, PlanFailed
        from minirt.terminal.attach import attach
        from minirt.terminal.wait import Signals

        options = self.options
        self.undo = self.failing = undo
        watch = self.watcher(plan)
        fds = self.streams(undo)
        signals = undo.enter_context(Signals(options.sig_proxy)) if not options.step else None
        try:
            rest = (lambda plan: finish_plan(plan, self.context)) if begun else ()
            birth = undo.enter_context(Birth(plan, fds, self.sink, rest=rest))
            birth.hold = watch is not None
            for name in birth.barriers():
                if watch is None or not watch.at(name, birth):
                    self.stand(name, birth)
        except PlanFailed as failure:
            birth.flush()
            raise self.verdict(failure) from None
        birth.flush()
        self.container.save(
            [("create", {}), ("start", {})], status="running", pid=birth.pid, started_ticks=start_time(birth.pid),
            started=time.time(),
        )  # fmt: skip
        status = attach(
            birth.pidfd, master=self.master, detach_keys=self.keys(), interactive=options.interactive,
            sig_proxy=options.sig_proxy, signals=signals,
        )  # fmt: skip
        if status is None:
            return self.leave_behind(birth)
        birth.reaped()
        return status

    def streams(self, undo: ExitStack) -> tuple[int, int, int]:
        """Return the program's descriptors 0, 1, 2: ours, or nothing for those that we are not to be at."""
        options, wanted = self.options, [stream.lower() for stream in self.options.attach]
        nowhere = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        undo.callback(os.close, nowhere)
        has = (options.interactive or options.tty, not wanted or "stdout" in wanted, not wanted or "stderr" in wanted)
        first = 0 if has[0] and (not wanted or "stdin" in wanted or options.tty) else nowhere
        return first, 1 if has[1] else nowhere, 2 if has[2] else nowhere

    def keys(self) -> bytes | None:
        """Return the keys that detach, None where there is no terminal."""
        if not self.options.tty:
            return None
        from minirt.terminal.detach_keys import parse_detach_keys

        return parse_detach_keys(self.options.detach_keys)

    def leave_behind(self, birth: Birth) -> int:
        """Detach: a process of its own stays with the container, holds its terminal and tidies up in the end.

        Simplified: it is an interpreter. Only a birth that is shown or cut has no monitor (csrc/monitor), which would cost a tenth.
        """
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork():
            os._exit(0)  # nothing is undone here: that is the other's to do
        os.setsid()
        nowhere = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(nowhere, fd)
        os.set_blocking(self.master, True)
        try:
            while os.read(self.master, 4096):
                pass
        except OSError:  # EIO: no process has the terminal open any more
            pass
        import select

        poll = select.poll()
        poll.register(birth.pidfd, select.POLLIN)
        poll.poll()
        birth.reaped()  # by init: the container is not this process's child
        return 0

    def watcher(self, plan: Plan) -> Any:
        """Return who stands at the barriers between steps or calls: --step, --explain or --trace; else None."""
        if self.options.step:
            from minirt.plan.watch import Stepper

            return Stepper(plan, ask)
        if self.sink is not None:
            from minirt.plan.watch import Watcher

            return Watcher(plan)
        return None

    def stand(self, name: str, birth: Birth) -> None:
        """Do what a barrier is for: the engine's own, and those that come from config.json."""
        if name in self.handlers:
            self.handlers[name](birth)
            return
        from minirt.oci import parent

        parent.at(name, birth, self.context)

    # -- barriers --------------------------------------------------------------------------------------------

    def id_maps(self, birth: Birth) -> None:
        """Write the id maps, and send the layers as they look through them."""
        from minirt.linux.userns import write_maps

        linux = self.context.linux
        write_maps(birth.pid, linux["uidMappings"], linux["gidMappings"], self.sink)
        if not self.context.rootless and self.image is not None:
            self.send_layers(birth, self.image.layers()[:MOST])

    def more_layers(self, birth: Birth) -> None:
        """Send the layers that one message does not take."""
        assert self.image is not None
        self.sent += MOST
        self.send_layers(birth, self.image.layers()[self.sent : self.sent + MOST])

    def send_layers(self, birth: Birth, layers: list[str]) -> None:
        """Send layers as they look through the id maps."""
        from minirt.linux.mounts import idmapped_copy

        userns = os.open(f"/proc/{birth.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        try:
            for layer in layers:
                birth.to_send.append(idmapped_copy(layer, userns, self.sink))
        finally:
            os.close(userns)

    def resolve(self, birth: Birth) -> None:
        """Look into the finished root: the user, and the command."""
        lookup.resolve(birth, self.context, self.options.group_add)

    def console(self, birth: Birth) -> None:
        """Take the pty's master, and give it the size of our terminal before the program can ask."""
        from minirt.terminal.tty import copy_window_size

        self.master, birth.received = birth.received, -1
        self.undo.callback(os.close, self.master)
        copy_window_size(self.master, 1, 0)

    def network(self, birth: Birth) -> None:
        """Lead networks into it; whoever ends the container takes it out again."""
        from minirt.engine.networks import lead_in, leave

        self.failing.callback(leave, self.container, self.sink)
        config = (self.image.config.get("config") if self.image is not None else None) or {}
        lead_in(self.container, self.options, config, birth, self.sink)

    def verdict(self, failure: Any) -> MinirtError:
        """Turn a failed execve into docker's 126 and 127; anything else is ours: 125."""
        from errno import ENOENT, ENOTDIR

        if failure.record.call != "execve" or not failure.errno:
            error: MinirtError = self.barred(failure.errno) or failure
            return error
        kind = NotFound if failure.errno in (ENOENT, ENOTDIR) else NotExecutable
        return kind(str(failure))

    def barred(self, errno: int) -> MinirtError | None:
        """Say which directory root of the user namespace may not pass on the way to the container's own, if one is to blame."""
        from errno import EACCES

        if errno != EACCES or not in_new_userns(self.context.config) or self.context.rootless:
            return None
        from minirt.linux.userns import outside
        from minirt.plan.causes import barring_directory

        uid, gid = outside(self.context.linux["uidMappings"], 0), outside(self.context.linux["gidMappings"], 0)
        directory = barring_directory(f"{self.container.path}/merged", uid, gid)
        if not directory:
            return None
        return MinirtError(
            f"{directory}: its mode keeps out root of the user namespace, who is user {uid} here: chmod o+x {directory},"
            " or keep containers elsewhere (MINIRT_ROOT)"
        )


def ask(text: str) -> str:
    """Ask at the terminal, as standard input may be the container's."""
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            terminal.write(text.encode())
            return terminal.readline().decode(errors="replace")
    except OSError:
        sys.stderr.write(text)
        sys.stderr.flush()
        return sys.stdin.readline() or "q"
