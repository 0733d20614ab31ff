"""`minirt run`: an image, options, and then a container from its birth to its end.

    options ─spec─▶ config.json ─oci.compile─▶ plan ─cut, inject─▶ Birth ─barriers─▶ the program ─wait─▶ exit status

Whatever is made on the way is undone by the ExitStack that it was entered into, in reverse order, after a failure
at any point as after a good end.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from minirt.engine.container import Container, start_time
from minirt.engine.spec import make_spec, network_of, security_options
from minirt.errors import MinirtError, NotExecutable, NotFound, UsageError
from minirt.oci import lookup
from minirt.oci.compile import begin_plan, compile_plan, finish_plan
from minirt.oci.rootfs import is_too_long, overlay_options
from minirt.oci.sources import MOST
from minirt.oci.step import Context, Overlay
from minirt.paths import cache_root, data_root, policy_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.linux.cgroup2 import Cgroup
    from minirt.plan import Plan
    from minirt.plan.birth import Birth
    from minirt.plan.events import Event, Sink

__all__ = ["find_image", "run"]

INIT = "/sbin/docker-init"


def find_image(name: str) -> Image:
    """Return an image of the store, unpacked; `busybox` is made at its first use. Raises: ImageError with exit code 125."""
    from minirt.image.busybox import find
    from minirt.image.store import Store

    try:
        store = Store(os.path.join(data_root(), "image"))
        image = find(store, name)
        if policy_path():
            from minirt.image.signing.policy import check as check_policy

            check_policy(store, image)
        image.layers()
        return image
    except MinirtError as error:
        error.exit_code = 125
        raise


def hold(image: Image, container: Container) -> None:
    """Keep the image's layers for as long as the container is there, whatever becomes of the image's name.

    Raises: ImageError with exit code 125.
    """
    from minirt.image.store import Store

    try:
        Store(os.path.join(data_root(), "image")).hold(container.id, image)
    except MinirtError as error:
        error.exit_code = 125
        raise


def run(options: RunOptions, image: Image | None = None) -> int:
    """Run a container in the foreground.

    Args:
        options: what was asked for.
        image: the image, where the caller has it already.

    Returns: the container's exit status, 128+n where signal n ended it.
    Raises: MinirtError, with docker's exit codes: 125, 126 (cannot be run), 127 (not found).
    """
    check(options)
    image = image or find_image(options.image)
    with ExitStack() as undo:
        sink = make_sink(options, undo)
        if options.plan or options.as_shell:
            return show_plan(options, image)
        container = Container.create(options.name, image.name, options.command, options.rm)
        undo.callback(container.close)  # the last of all: what nobody owns, `minirt gc` may remove
        keep = ExitStack()  # what `--rm` or a failure removes
        keep.callback(discard, container)
        undo.enter_context(keep)
        hold(image, container)
        spec = make_spec(options, image.config.get("config") or {}, container.id)
        cgroup = undo.enter_context(make_cgroup(container.id, spec, sink))
        context = make_context(options, image, container.path, spec, cgroup)
        prepare(container, context, image)
        session = Session(options, context, container, image, sink)
        whole = sink is not None or options.upto is not None or options.without or options.fail
        status = session.run(shape(compile_plan(context), options) if whole else begin_plan(context), undo, not whole)
        if cgroup is not None and status == 137:
            tell_oom(cgroup, options)
        if options.rm:
            return status
        container.save(status="exited", exit_code=status, pid=0)
        keep.pop_all()
        return status


def discard(container: Container) -> None:
    """Remove a container; where that cannot be say so, and let what went wrong before be told too."""
    try:
        container.remove()
    except OSError as error:
        text = error.strerror or str(error)
        print(f"minirt: {container.path} was not removed: {text}: minirt gc does it when it can be", file=sys.stderr)


def check(options: RunOptions) -> None:
    """Refuse what cannot be, before anything is made."""
    if options.restart != "no" and not options.detach:
        raise UsageError(f"--restart {options.restart}: a container in the foreground ends with us: give -d")
    if options.plan and options.step:
        raise UsageError("--plan prints and runs nothing, --step runs: give one of them")
    if options.tty and options.interactive and not options.plan:
        from minirt.terminal.tty import require_terminal

        require_terminal(0)


def make_sink(options: RunOptions, undo: ExitStack) -> Sink | None:
    """Return what gets the events: --explain's printer, --trace's writer, both or none."""
    sinks: list[Sink] = []
    if options.explain or options.step:
        from minirt.plan.explain import Explainer

        sinks.append(Explainer(sys.stderr))
    if options.trace:
        from minirt.plan.events import TraceWriter

        try:
            stream = undo.enter_context(open(options.trace, "w", encoding="utf-8"))
        except OSError as error:
            raise UsageError(f"--trace {options.trace}: {error.strerror}") from None
        sinks.append(TraceWriter(stream, "container", image=options.image, command=options.command))

    def both(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return both if sinks else None


def make_context(
    options: RunOptions, image: Image, path: str, spec: dict[str, Any], cgroup: Cgroup | None
) -> Context:
    """Return what the plan is compiled from."""
    rootless = os.geteuid() != 0
    lower = image.layers()
    if in_new_userns(spec) and not rootless:  # the id-mapped copies are attached here, in the child's namespace only
        lower = [f"{path}/layers/{i}" for i in range(len(lower))]
    overlay = Overlay(lower, f"{path}/upper", f"{path}/work", f"{path}/merged", f"{path}/layers")
    if options.init:
        source = os.path.join(os.path.dirname(__file__), "init.elf")
        spec["mounts"].append({"destination": INIT, "type": "bind", "source": source, "options": ["bind", "ro"]})
    user = options.user or (image.config.get("config") or {}).get("User") or ""
    directory = cgroup.path if cgroup is not None else ""
    return Context(spec, path, overlay, user, directory, compile_filter(options, spec), rootless,
                   INIT if options.init else "", network=bool(network_of(options)))  # fmt: skip


def in_new_userns(spec: dict[str, Any]) -> bool:
    """Say whether config.json asks for a new user namespace."""
    return any(n["type"] == "user" for n in spec["linux"]["namespaces"])


def compile_filter(options: RunOptions, spec: dict[str, Any]) -> tuple[bytes, int] | None:
    """Return the seccomp filter as a program and its flags, or None for --security-opt seccomp=unconfined."""
    wanted = security_options(options)[1]
    if wanted == "unconfined":
        return None
    from minirt.linux import seccomp

    kept = spec["process"]["capabilities"]["bounding"]
    cache = os.path.join(cache_root(), "seccomp")
    if wanted == "default":
        made = seccomp.compile_default(kept, cache=cache)
    else:
        import json

        try:
            with open(wanted, encoding="utf-8") as file:
                profile = json.load(file)
        except OSError as error:
            raise UsageError(f"--security-opt seccomp={wanted}: {error.strerror}") from None
        except ValueError as error:
            raise UsageError(f"--security-opt seccomp={wanted}: not JSON: {error}") from None
        made = seccomp.compile(profile, kept, cache=cache, where=wanted)
    if made.notifies:
        raise UsageError(f"--security-opt seccomp={wanted}: SCMP_ACT_NOTIFY is not implemented in `minirt run`")
    return made.program, made.flags


def make_cgroup(id: str, spec: dict[str, Any], sink: Sink | None) -> Any:
    """Return a context manager of the container's cgroup; it gives None where none is needed and none can be made."""
    from minirt.linux import cgroup2, device_filter

    resources = spec["linux"].get("resources") or {}
    group = cgroup2.create(id, resources, sink=sink)
    if isinstance(group, cgroup2.Cgroup):
        try:
            device_filter.attach(group.path, resources["devices"], sink)
        except BaseException:
            group.remove()
            raise
    return group


def prepare(container: Container, context: Context, image: Image) -> None:
    """Write what the container finds in its directory: config.json, the files that docker binds into /etc."""
    import json

    spec = context.config
    assert context.overlay is not None
    if in_new_userns(spec) and not context.rootless:
        from minirt.linux.userns import outside

        uid = outside(spec["linux"]["uidMappings"], 0)
        gid = outside(spec["linux"]["gidMappings"], 0)
        for path in (context.overlay.upper, context.overlay.work, context.overlay.target):
            os.chown(path, uid, gid)
        os.mkdir(context.overlay.short, 0o755)
        for path in context.overlay.lower:
            os.mkdir(path, 0o755)
    elif is_too_long(overlay_options(context.overlay, context.overlay.lower, True)):
        os.mkdir(context.overlay.short, 0o755)
        for number, path in enumerate(context.overlay.lower):
            os.symlink(path, f"{context.overlay.short}/{number}")
    os.chmod(context.overlay.upper, os.stat(image.layers()[0]).st_mode & 0o7777)  # the root directory's own mode
    name = spec["hostname"]
    hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    host_network = "network" not in {n["type"] for n in spec["linux"]["namespaces"]}
    texts = {
        "hosts": read_host("/etc/hosts") if host_network else f"{hosts}127.0.1.1\t{name}\n",
        "hostname": f"{name}\n",
        "resolv.conf": read_host("/etc/resolv.conf"),
    }
    taken = {m["destination"] for m in spec["mounts"]}
    for file, text in texts.items():
        path = container.write(file, text)
        if f"/etc/{file}" not in taken:
            options = ["bind", "rprivate"]
            spec["mounts"].append({"destination": f"/etc/{file}", "type": "bind", "source": path, "options": options})
    container.write("config.json", json.dumps(spec))


def read_host(path: str) -> str:
    """Return a host's file, or nothing where it has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def shape(plan: Plan, options: RunOptions) -> Plan:
    """Cut the plan and plant failures in it, as asked; say on standard error what else a cut takes along."""
    if options.upto is None and not options.without and not options.fail:
        return plan
    from minirt.plan.cut import cut, inject

    if options.upto is not None or options.without:
        plan = cut(plan, options.upto, tuple(options.without))
        for note in plan.notes:
            print(f"minirt: {note}", file=sys.stderr)
    for what in options.fail:
        inject(plan, what)
    return plan


def show_plan(options: RunOptions, image: Image) -> int:
    """Print the plan and run nothing: no directory, no cgroup."""
    from minirt.plan.decode import describe, plan_as_dict
    from minirt.plan.explain import Explainer

    plan = plan_of(options, image)
    if options.as_shell:
        from minirt.plan.shell import script

        path = planned_path()
        words = " ".join(["minirt", "run", "...", options.image, *options.command]).replace("\n", " ")
        for line in script(plan, [f"{path}/{name}" for name in ("upper", "work", "merged")], words):
            print(line)
    elif options.format == "json":
        import json

        print(json.dumps(plan_as_dict(plan), indent=2))
    else:
        for line in describe(plan, Explainer(sys.stdout).paint):
            print(line)
    return 0


def planned_path() -> str:
    """Return the directory that a container which is only planned would have."""
    return os.path.join(data_root(), "containers", "CONTAINER")


def plan_of(options: RunOptions, image: Image | None = None) -> Plan:
    """Return the plan of a container that is not made: what would be under an id is under CONTAINER."""
    image = image or find_image(options.image)
    spec = make_spec(options, image.config.get("config") or {}, "c" * 64)
    return shape(compile_plan(make_context(options, image, planned_path(), spec, None)), options)


def tell_oom(cgroup: Cgroup, options: RunOptions) -> None:
    """Say that it was the kernel's out-of-memory killer, if it was: the exit status alone is any SIGKILL's."""
    kills = cgroup.oom_kills()
    if kills:
        limit = f" (--memory {options.memory})" if options.memory else ""
        print(f"minirt: out of memory{limit}: the kernel killed {kills} of the container's processes", file=sys.stderr)


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
        stdin = 0
        if not options.interactive and not options.tty:
            stdin = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, stdin)
        signals = undo.enter_context(Signals(options.sig_proxy)) if not options.step else None
        try:
            rest = (lambda plan: finish_plan(plan, self.context)) if begun else None
            birth = undo.enter_context(Birth(plan, (stdin, 1, 2), self.sink, rest=rest))
            birth.hold = watch is not None
            for name in birth.barriers():
                if watch is None or not watch.at(name, birth):
                    self.stand(name, birth)
        except PlanFailed as failure:
            birth.flush()
            raise self.verdict(failure) from None
        birth.flush()
        self.container.save(status="running", pid=birth.pid, started_ticks=start_time(birth.pid))
        status = attach(
            birth.pidfd, master=self.master, detach_keys=self.keys(), interactive=options.interactive,
            sig_proxy=options.sig_proxy, signals=signals,
        )  # fmt: skip
        if status is None:
            return self.leave_behind(birth)
        birth.reaped()
        return status

    def keys(self) -> bytes | None:
        """Return the keys that detach, None where there is no terminal."""
        if not self.options.tty:
            return None
        from minirt.terminal.detach_keys import parse_detach_keys

        return parse_detach_keys(self.options.detach_keys)

    def leave_behind(self, birth: Birth) -> int:
        """Detach: a process of its own stays with the container, holds its terminal and tidies up in the end.

        Simplified: an interpreter is kept for it; csrc/monitor will be a program of a megabyte.
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
        process = self.context.process
        root = os.open(f"/proc/{birth.pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = lookup.find_user(root, self.context.user or "", self.options.group_add)
            env = dict(item.partition("=")[::2] for item in process["env"])
            args = process["args"]
            path = env.get("PATH", lookup.DEFAULT_PATH)
            command = lookup.find_command(root, args[0], path, process["cwd"])
        finally:
            os.close(root)
        birth.fill("uid", user.uid)
        birth.fill("gid", user.gid)
        birth.fill("groups_count", len(user.groups))
        birth.fill("groups", b"".join(g.to_bytes(4, "little") for g in user.groups))
        birth.fill("home", f"HOME={user.home}")
        birth.fill("path", command)

    def console(self, birth: Birth) -> None:
        """Take the pty's master, and give it the size of our terminal before the program can ask."""
        from minirt.terminal.tty import copy_window_size

        self.master, birth.received = birth.received, -1
        self.undo.callback(os.close, self.master)
        copy_window_size(self.master, 1, 0)

    def network(self, birth: Birth) -> None:
        """Lead the network into it; whoever ends the container takes it out again."""
        from minirt.network.connect import connect, leave
        from minirt.network.ports import parse_ports

        options, container = self.options, self.container
        fd, birth.received = birth.received, -1
        namespace = os.open(f"/proc/{birth.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.failing.callback(leave, container.id)
            connect(
                network_of(options), container.id, container.label, namespace, fd, aliases=options.network_alias,
                ports=[port for text in options.publish for port in parse_ports(text)], address=options.ip,
            )  # fmt: skip
        except MinirtError as error:
            error.exit_code = 125
            raise
        finally:
            os.close(namespace)
            os.close(fd)

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
