"""Hand a seccomp listener to the agent that answers for the container (runtime-spec config-linux.md#seccomp).

The filter's SCMP_ACT_NOTIFY makes a call wait for somebody who holds the listener. That is not the runtime: it sends
the descriptor, with a message that says whose it is, to the socket that listenerPath names.
"""

from __future__ import annotations

import os

from minirt.errors import KernelError, MinirtError
from minirt.linux import constants as k
from minirt.linux.direct import syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["fetch", "listener_message", "refuse_deadlock", "send"]


def listener_message(pid: int, state: dict[str, Any], metadata: str = "", fds: tuple[str, ...] = ("seccompFd",)) -> bytes:
    """Return the container process state as JSON (runtime-spec config-linux.md#containerprocessstate).

    Args:
        pid: of the process with the filter, in the runtime's pid namespace.
        state: the container's (runtime-spec runtime.md#state).
        metadata: linux.seccomp.listenerMetadata.
        fds: what the descriptors sent along are, in their order.
    """
    import json

    message: dict[str, Any] = {"ociVersion": state["ociVersion"], "fds": list(fds), "pid": pid}
    if metadata:
        message["metadata"] = metadata
    message["state"] = state
    return json.dumps(message).encode()


def fetch(pidfd: int, number: int) -> int:
    """Return a copy of another process's descriptor, the caller's to close (man 2 pidfd_getfd). Raises: KernelError."""
    fd = syscall(k.SYS_pidfd_getfd, pidfd, number)
    if fd < 0:
        raise KernelError(-fd, f"pidfd_getfd({pidfd}, {number}, 0): {os.strerror(-fd)}")
    return fd


def send(path: str, message: bytes, fd: int) -> None:
    """Connect to an agent's socket and send it a message with a descriptor (man 7 unix, SCM_RIGHTS). Raises: MinirtError."""
    import socket

    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as agent:
            agent.settimeout(10)
            agent.connect(path)
            sent = socket.send_fds(agent, [message], [fd])
            agent.sendall(message[sent:])
    except OSError as error:
        raise MinirtError(
            f"config.json: linux.seccomp.listenerPath: {path}: {error.strerror or error}: is the agent listening there?"
        ) from None


def refuse_deadlock(profile: dict[str, Any], where: str = "config.json: linux.seccomp") -> None:
    """Refuse a profile whose filter would stop the runtime itself before the agent has the listener.

    What the plan does between loading the filter and having sent the listener is read and write. Of a profile with
    SCMP_ACT_NOTIFY for these nobody could ever answer. (runc refuses write and a default of NOTIFY, too.)

    Raises: MinirtError.
    """
    if profile.get("defaultAction") == "SCMP_ACT_NOTIFY":
        raise MinirtError(f"{where}.defaultAction: SCMP_ACT_NOTIFY cannot be the default: nobody could start the program")
    notifies = False
    for i, entry in enumerate(profile.get("syscalls") or ()):
        if entry.get("action") != "SCMP_ACT_NOTIFY":
            continue
        notifies = True
        for name in entry.get("names") or ():
            if name in ("read", "write"):
                raise MinirtError(f"{where}.syscalls[{i}]: SCMP_ACT_NOTIFY cannot be used for {name}: the runtime needs it itself")
    if notifies and not profile.get("listenerPath"):
        raise MinirtError(f"{where}.listenerPath: missing; SCMP_ACT_NOTIFY needs somebody who answers")
