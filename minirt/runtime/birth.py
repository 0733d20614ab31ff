"""From a configuration to a process: what the plan is compiled from, and what is done at each barrier of it."""

from __future__ import annotations

import os

from minirt.oci.step import Context
from minirt.paths import cache_root
from minirt.runtime.console import send_fd, set_size
from minirt.runtime.container import Container, RuntimeFailure, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.plan.birth import Birth
    from minirt.runtime.scope import JoinScope, Scope
    from minirt.runtime.undo import Undo

__all__ = ["Delivery", "compile_filter", "descriptors", "is_rootless", "null_descriptors", "write_pid"]

NULL = os.makedev(1, 3)


def is_rootless() -> bool:
    """Say whether this process has not root's rights over ids: then it maps what /etc/subuid gives it."""
    return os.geteuid() != 0


def compile_filter(config: dict[str, Any]) -> tuple[bytes, int] | None:
    """Return the seccomp filter of config.json as a program and its flags. Raises: SeccompError."""
    profile = (config.get("linux") or {}).get("seccomp")
    if not profile:
        return None
    from minirt.linux import seccomp

    made = seccomp.compile(profile, cache=os.path.join(cache_root(), "seccomp"), where="config.json: linux.seccomp")
    return made.program, made.flags


def null_descriptors() -> tuple[int, ...]:
    """Return those of 0, 1, 2 that are the host's /dev/null."""
    found = []
    for fd in (0, 1, 2):
        try:
            if os.fstat(fd).st_rdev == NULL:
                found.append(fd)
        except OSError:
            pass
    return tuple(found)


def descriptors(process: dict[str, Any], preserve: int) -> tuple[list[int], dict[str, Any]]:
    """Return which descriptors the program gets, and its process with what it must be told of them.

    After 0, 1, 2 come those of systemd's socket activation (LISTEN_FDS, man 3 sd_listen_fds), then --preserve-fds's.
    """
    listen = os.environ.get("LISTEN_FDS", "")
    handed = int(listen) if listen.isdigit() and os.environ.get("LISTEN_PID") in (None, str(os.getpid())) else 0
    fds = [0, 1, 2, *range(3, 3 + handed + preserve)]
    for fd in fds[3:]:
        try:
            os.fstat(fd)
        except OSError:
            raise RuntimeFailure(f"file descriptor {fd} is not open, and --preserve-fds or LISTEN_FDS asks for it") from None
    if handed:
        process = {**process, "env": [*(process.get("env") or ()), f"LISTEN_FDS={handed}", "LISTEN_PID=1"]}
    return fds, process


def write_pid(path: str, pid: int) -> None:
    """Write a --pid-file; under its name it is whole, as whoever waits for it reads it at once. Raises: RuntimeFailure."""
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(str(pid))
        os.rename(temporary, path)
    except OSError as error:
        raise RuntimeFailure(f"--pid-file {path}: {error.strerror}") from None


class Delivery:
    """What happens at each barrier.

    Args:
        container: whose process is born.
        context: what the plan was compiled from.
        undo: gets what has to be closed in the end.
        console_socket: path that the terminal's master is sent to; empty: it is kept in `master`.
    """

    def __init__(self, container: Container, context: Context, undo: Undo, console_socket: str = "") -> None:
        self.container = container
        self.context = context
        self.undo = undo
        self.console_socket = console_socket
        self.scope: Scope | JoinScope | None = None
        self.master = -1

    def at(self, name: str, birth: Birth) -> None:
        """Do what a barrier is for. Raises: MinirtError."""
        match name:
            case "idmaps":
                self.id_maps(birth)
            case "resolve":
                self.resolve(birth)
            case "console":
                self.console(birth)
            case "hooks":
                self.hooks(birth)
            case "scope":
                assert self.scope is not None  # who compiled the plan with one has set it
                self.context.cgroup = self.scope.enter(birth.executor)
            case _:
                from minirt.oci import parent

                parent.at(name, birth, self.context, self.state(birth))

    def state(self, birth: Birth) -> dict[str, Any]:
        """Return the container's state while it is being made."""
        return {**self.container.oci_state("creating"), "pid": birth.pid}

    def id_maps(self, birth: Birth) -> None:
        """Say who is who in the new user namespace."""
        from minirt.linux.userns import write_maps

        linux = self.context.linux
        write_maps(birth.pid, linux.get("uidMappings") or (), linux.get("gidMappings") or ())

    def resolve(self, birth: Birth) -> None:
        """Look into the finished root: where the command lies, where the user is at home."""
        from minirt.oci import lookup

        try:
            lookup.resolve(birth, self.context, [])
        except ValueError as error:
            raise RuntimeFailure(f"config.json: process: {error}") from None

    def console(self, birth: Birth) -> None:
        """Take the terminal's master; send it on, or keep it."""
        self.master, birth.received = birth.received, -1
        self.undo.call(self.close_master)
        set_size(self.master, self.context.process, not self.console_socket)
        if self.console_socket:
            send_fd(self.console_socket, b"/dev/ptmx", self.master)
            self.close_master()

    def close_master(self) -> None:
        """Let go of the terminal."""
        if self.master >= 0:
            os.close(self.master)
            self.master = -1

    def hooks(self, birth: Birth) -> None:
        """Run the hooks that want to see host and container together."""
        from minirt.runtime import hooks

        config, state = self.context.config, self.state(birth)
        self.container.save(pid=birth.pid, started=start_time(birth.pid))  # for `delete --force`, should one hang
        for kind in ("prestart", "createRuntime"):
            hooks.run_outside(kind, hooks.of(config, kind), state)
        hooks.run_inside("createContainer", hooks.of(config, "createContainer"), state, birth.pid)
