"""exec: one more process in a container that runs."""

from __future__ import annotations

import os

from minirt.documents import load_file
from minirt.linux import capabilities
from minirt.oci.join import begin_join, finish_join
from minirt.oci.step import Context
from minirt.runtime.birth import Delivery, compile_filter, descriptors, is_rootless, null_descriptors, write_pid
from minirt.runtime.console import check_terminal, send_fd, stay
from minirt.runtime.container import Container, RuntimeFailure, look
from minirt.runtime.undo import Undo

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["execute", "process_of"]


def execute(root: str, id: str, words: list[str], values: dict[str, Any], warn: Callable[[str], None]) -> int:
    """Run a process in a container; without --detach stay until its end. Returns its exit status.

    Raises: MinirtError.
    """
    container = Container(root, id).load()
    status = container.status()
    if status == "paused" and not values["ignore_paused"]:
        raise RuntimeFailure("cannot exec in a paused container (use --ignore-paused to override)")
    if status not in ("running", "paused"):
        raise RuntimeFailure(f"cannot exec in a {status} container")
    process = process_of(container.config, words, values, warn)
    check_terminal(bool(process.get("terminal")), values["detach"], values["console_socket"])
    with Undo() as undo:
        return join(container, process, values, undo)


def join(container: Container, process: dict[str, Any], values: dict[str, Any], undo: Undo) -> int:
    """Give birth to a process in a container, and stay with it."""
    from minirt.plan.birth import Birth
    from minirt.terminal.wait import Signals

    fds, process = descriptors(process, values["preserve_fds"])
    first = container.pidfd()
    undo.call(os.close, first)
    config = {**container.config, "process": process}
    context = Context(
        config, container.state["bundle"], cgroup=cgroup_of(container, values["cgroup"]), seccomp=compile_filter(config),
        rootless=is_rootless(), null_fds=null_descriptors(), resolve=True, join=container.state["pid"], new_keyring=False,
        scope=bool(container.state.get("unit_user")) and not values["cgroup"],
    )  # fmt: skip
    signals = None
    if not values["detach"]:
        signals = Signals().__enter__()
        undo.call(signals.__exit__)
    birth = Birth(lambda: begin_join(context, len(fds) - 3), fds, rest=lambda plan: finish_join(plan, context))
    undo.call(birth.close)
    delivery = Delivery(container, context, undo, values["console_socket"])
    if context.scope:
        from minirt.runtime.scope import JoinScope

        delivery.scope = JoinScope(container)
    for name in birth.barriers():
        if not container.pid:
            raise RuntimeFailure("container not running")  # and what the executor entered may have been another's
        delivery.at(name, birth)
    if values["pid_file"]:
        write_pid(values["pid_file"], birth.pid)
    if values["pidfd_socket"]:
        send_fd(values["pidfd_socket"], b"pidfd", birth.pidfd, "--pidfd-socket")
    if signals is None:
        birth.reaped()
        return 0
    status = stay(birth.pidfd, delivery.master, signals)
    birth.reaped()
    return status


def cgroup_of(container: Container, wanted: list[str]) -> str:
    """Return the cgroup for the process: the container's, or one below it (--cgroup). Raises: RuntimeFailure."""
    path: str = container.state.get("cgroup") or ""
    for name in wanted:
        below = os.path.normpath(f"{path}/{name.rpartition(':')[2].lstrip('/')}")
        if not path or not f"{below}/".startswith(f"{path}/") or not os.path.isdir(below):
            raise RuntimeFailure(f"--cgroup {name}: the container's cgroup has no such one below it")
        return below
    if path:
        # A container that made groups of its own has none of its processes here any more (no internal processes).
        lines = look(f"/proc/{container.state['pid']}/cgroup").decode(errors="surrogateescape").split("\n")
        line = next((line[3:] for line in lines if line.startswith("0::")), "")
        mount = container.state.get("cgroup_mount")
        if not mount:  # systemd made it
            from minirt.linux.cgroup_tree import find_mount

            mount = find_mount()
        return f"{mount}{line}" if line and os.path.isdir(f"{mount}{line}") else path
    return path


def process_of(
    config: dict[str, Any], words: list[str], values: dict[str, Any], warn: Callable[[str], None]
) -> dict[str, Any]:
    """Return what to run: --process FILE, or config.json's process with what the flags change.

    Raises: MinirtError.
    """
    if values["process"]:
        from minirt.oci.validate import validate_process

        try:
            process: dict[str, Any] = load_file(values["process"])
        except OSError as error:
            raise RuntimeFailure(f"--process {values['process']}: {error.strerror}") from None
        if not isinstance(process, dict):
            raise RuntimeFailure(f"--process {values['process']}: an object is wanted (runtime-spec config.md#process)")
        process.setdefault("cwd", "/")
        for ignored in validate_process(process, f"--process {values['process']}"):
            warn(ignored)
        if process.get("capabilities") is None:
            process["capabilities"] = (config.get("process") or {}).get("capabilities") or {}  # the container's, as in runc
    else:
        if not words:
            raise RuntimeFailure("process args cannot be empty: name a command after the container")
        process = changed(dict(config.get("process") or {}), words, values, warn)
    if not process["cwd"].startswith("/"):
        raise RuntimeFailure(f"process.cwd {process['cwd']!r}: must be an absolute path")
    if values["tty"]:
        process["terminal"] = True
    return process


def changed(
    process: dict[str, Any], words: list[str], values: dict[str, Any], warn: Callable[[str], None]
) -> dict[str, Any]:
    """Return a process with the flags of `exec`. Raises: RuntimeFailure."""
    process["args"] = words
    process["terminal"] = False
    process.pop("consoleSize", None)
    process["cwd"] = values["cwd"] or process.get("cwd") or "/"
    process["env"] = [*(process.get("env") or ()), *values["env"]]
    if values["apparmor"]:
        process["apparmorProfile"] = values["apparmor"]
    if values["process_label"]:
        process["selinuxLabel"] = values["process_label"]
    if values["no_new_privs"]:
        process["noNewPrivileges"] = True
    if values["cap"]:
        for name in values["cap"]:
            if name not in capabilities.NAMES:  # no error, as in config.json (config.md#linux-process)
                warn(f"--cap {name}: ignored: no such capability")
        sets = dict(process.get("capabilities") or {})
        for kind in ("bounding", "effective", "permitted"):
            sets[kind] = [*(sets.get(kind) or ()), *values["cap"]]
        process["capabilities"] = sets
    user = dict(process.get("user") or {})
    if values["user"]:
        uid, colon, gid = values["user"].partition(":")
        user["uid"] = id_number("--user", values["user"], uid)
        if colon:
            user["gid"] = id_number("--user", values["user"], gid)
    if values["additional_gids"]:
        more = [id_number("--additional-gids", word, word) for word in values["additional_gids"]]
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *more]
    process["user"] = user
    return process


def id_number(flag: str, value: str, word: str) -> int:
    """Return a user's or group's number. Raises: RuntimeFailure for what is none; -1 would mean "as it is", so root."""
    from minirt.oci.lookup import is_id

    if not is_id(word):
        form = "UID or UID:GID" if flag == "--user" else "GID"
        raise RuntimeFailure(f"{flag} {value}: {form} is wanted, numbers from 0 to 4294967294")
    return int(word)
