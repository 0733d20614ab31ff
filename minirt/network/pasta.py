"""A network without root: pasta (of passt), which takes the container's packets as a process and speaks for it as the user.

    container's interface ══tap══ pasta ──ordinary sockets of the user's──▶ the host's network

Nobody but root can make a bridge on the host. So pasta joins the container's user and network namespaces, makes a tap device
there with the host's own addresses, and is the other end of its wire. It holds the network namespace, so it has to be ended: by
who ends the container, or, where he was killed, by who comes next (its process id is kept in the container's directory).
Each container has such a network for itself. Networks with names, of several, are in a namespace of the user's (rootless.py).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

from minirt.errors import UsageError
from minirt.network.ports import Port
from minirt.network.store import NetworkError, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.network.connect import Attachment
    from minirt.trace import Sink

__all__ = ["end", "is_alive", "is_wanted", "launch", "reap", "refuse", "start", "stop"]

NAMES = ("bridge", "pasta")  # after --network, for a user without root: the same command as root's, or podman's word
READY = 20.0  # s that it has to begin in


def is_wanted(wanted: Sequence[Attachment]) -> bool:
    """Say whether a user without root wants a network for one container alone. Args: wanted, what it is to be connected to."""
    return any(one.network in NAMES for one in wanted)


def refuse(wanted: Sequence[Attachment]) -> None:
    """Refuse what cannot be without root. Raises: UsageError."""
    if is_wanted(wanted):
        if len(wanted) > 1:
            raise UsageError("--network bridge: without root it is pasta's, and goes with no other (minirt network create)")
        if any(one.address or one.address6 or one.hardware or one.aliases for one in wanted):
            raise UsageError("--ip, --mac-address, --network-alias: without root `bridge` has the host's addresses (pasta)")
    if shutil.which("pasta") is None:
        raise NetworkError("no pasta on this machine, which networks without root need: apt-get install passt")


def start(container: str, path: str, pid: int, ports: Sequence[Port], sink: Sink | None = None) -> None:
    """Give a container that is being made a network.

    Args:
        container: its id.
        path: its directory.
        pid: of its process.
        ports: of the host, that are to lead to it.
        sink: told of it.

    Raises: NetworkError.
    """
    from minirt.network.connect import reserve

    with Store() as store:
        taken = [reserve(store, port) for port in ports]
        for port in taken:
            store.add_port(container, port)
    try:
        launch(path, pid, taken, sink)
    except BaseException:
        stop(container, path)
        raise


def launch(path: str, pid: int, ports: Sequence[Port] = (), sink: Sink | None = None) -> None:
    """Start pasta for a network namespace.

    Args:
        path: directory for its process id, and what it says.
        pid: of a process in there.
        ports: of the host, that lead there.
        sink: told of it.

    Raises: NetworkError.
    """
    words = [
        "pasta", "--foreground", "--quiet", "--config-net", "--no-map-gw", "--pid", f"{path}/pasta.pid", "-T", "none", "-U", "none",
        *forwards("-t", "tcp", ports), *forwards("-u", "udp", ports),
        "--userns", f"/proc/{pid}/ns/user", "--netns", f"/proc/{pid}/ns/net",
    ]  # fmt: skip
    begin = time.monotonic_ns()
    with open(f"{path}/pasta.log", "w", encoding="utf-8") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until_ready(process, path)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if sink is not None:
        from minirt.trace import Event

        why = "a tap device in the container; what it sends comes out of this process's own sockets"
        sink(Event("pasta", tuple(words[1:]), step="network", why=why, time=begin, duration=time.monotonic_ns() - begin))


def forwards(flag: str, protocol: str, ports: Sequence[Port]) -> list[str]:
    """Return the words that lead ports of the host to the container (man 1 pasta, -t). Raises: UsageError."""
    found = []
    for port in ports:
        if port.protocol not in ("tcp", "udp"):
            raise UsageError(f"-p {port}: without root there are tcp and udp (pasta)")
        if port.protocol == protocol:
            found += [flag, f"{f'{port.address}/' if port.address else ''}{port.host}:{port.inside}"]
    return found or [flag, "none"]


def wait_until_ready(process: subprocess.Popen[bytes], path: str) -> None:
    """Wait until it has written down its process id, which it does when all is set up. Raises: NetworkError."""
    until = time.monotonic() + READY
    while not read_pid(path):
        if process.poll() is not None or time.monotonic() > until:
            with open(f"{path}/pasta.log", encoding="utf-8", errors="replace") as log:
                said = [line.strip() for line in log if line.strip() and "syslog" not in line]
            raise NetworkError(f"pasta: {said[-1] if said else 'it did not begin'}{cause(said)}")
        time.sleep(0.002)


def cause(said: Sequence[str]) -> str:
    """Return, after a colon, what its words usually mean."""
    if any("tun" in line or "tap" in line for line in said):
        return ": it needs /dev/net/tun, which this user may not open (chmod 666 /dev/net/tun, modprobe tun)"
    return ""


def read_pid(path: str) -> int:
    """Return the process id that was written down, 0 where none was."""
    try:
        with open(f"{path}/pasta.pid", encoding="ascii") as file:
            return int(file.read().strip() or 0)
    except (OSError, ValueError):
        return 0


def stop(container: str, path: str) -> None:
    """End a container's pasta, if it has one, and give its ports back."""
    if end(path):
        with Store() as store:
            store.remove_container(container)


def is_alive(path: str) -> bool:
    """Say whether the pasta of a directory runs."""
    pid = read_pid(path)
    return bool(pid) and is_its_own(pid, path)


def end(path: str) -> bool:
    """End the pasta of a directory, and wait until it has ended. Returns whether there was one."""
    import select

    pid = read_pid(path)
    if not pid:
        return False
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        pidfd = -1
    if pidfd >= 0:
        try:
            if is_its_own(pid, path):
                signal.pidfd_send_signal(pidfd, signal.SIGTERM)
                if not select.select([pidfd], [], [], READY)[0]:
                    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        except ProcessLookupError:
            pass
        finally:
            os.close(pidfd)
    reap(pid)
    os.unlink(f"{path}/pasta.pid")
    return True


def reap(pid: int) -> None:
    """Take the status of a process that has ended, if it is a child of ours."""
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        pass  # another's


def is_its_own(pid: int, path: str) -> bool:
    """Say whether a process is the pasta that was started with this directory: the number may be another's by now."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return os.fsencode(f"{path}/pasta.pid") in file.read().split(b"\0")
    except OSError:
        return False
