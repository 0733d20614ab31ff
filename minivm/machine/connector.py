"""The connector: a small process that makes a jailed guest's connections to programs of the host (virtio/vsock_call.py).

A guest that connects to cid 2, port P reaches whoever listens at PATH_P. In a jail that path leads nowhere. To mount the
socket's directory there, read-only, would not do: connect(2) asks for the right to write to the socket, which nobody has at
sockets of the caller's, and the process would have a directory of the host before it, and the call socket(2).

So before there is a machine this process is forked, with the caller's rights and working directory. It is told port numbers
alone, so that a machine's process whose guest has broken out may connect to PATH_P, as the guest may, and to nothing else.
It keeps no file but its socket, of root's capabilities only the one by which root may connect to anybody's socket, and a filter
leaves it the few calls below. It answers before it hears more, and what is answered and not fetched has little room. It ends when
the other end of its socket is closed, by whatever end of the machine.
"""

from __future__ import annotations

import os
import socket

from minivm.devices.virtio.vsock_call import CONNECTED, PORT, REFUSED
from minivm.errors import KvmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.plan import Plan

__all__ = ["Connector", "start"]

LIMIT = 10  # seconds in which it ends
CAP_DAC_OVERRIDE = 1 << 1  # man 7 capabilities; as a bit of a set


class Connector:
    """One that runs, until stop().

    Args:
        pid: its process.
        end: our socket, not blocking.
    """

    def __init__(self, pid: int, end: socket.socket) -> None:
        self.pid, self.end = pid, end

    def stop(self) -> None:
        """Have it end, and wait for that, but not for ever; in a jail too."""
        from time import monotonic, sleep

        self.end.close()
        limit = monotonic() + LIMIT
        try:
            while os.waitpid(self.pid, os.WNOHANG) == (0, 0) and monotonic() < limit:
                sleep(0.001)
        except ChildProcessError:
            pass  # somebody has waited already


def start(path: str) -> Connector:
    """Start one, before any other thread and any guest memory is there.

    Args:
        path: PATH of the PATH_P that it connects to.

    Raises KvmError.
    """
    plan = _confinement()  # now, for the child imports nothing
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the least there is: some answers
    try:
        pid = os.fork()
    except OSError as error:
        ours.close()
        theirs.close()
        raise KvmError("fork", error.errno or 0) from None
    if not pid:
        try:
            _be(theirs, path, plan)
        finally:
            os._exit(0)
    theirs.close()
    ours.setblocking(False)
    return Connector(pid, ours)


def _be(end: socket.socket, path: str, plan: Plan) -> None:
    """Be the connector: give up what this process was, and serve."""
    import fcntl

    from minirt.plan.here import perform

    os.setsid()  # no terminal's signals
    fd = fcntl.fcntl(end.fileno(), fcntl.F_DUPFD, 3)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    os.closerange(3, fd)
    os.closerange(fd + 1, (1 << 31) - 1)
    perform(plan)
    _serve(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd), path)


def _serve(end: socket.socket, path: str) -> None:
    """Answer until there is nobody to answer. What is no port number ends it: our own process would not send that."""
    while len(port := end.recv(PORT.size + 1)) == PORT.size:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
                # not blocking: who does not accept (EAGAIN, a full backlog) shall not keep the guest's other calls waiting
                made.connect(f"{path}_{PORT.unpack(port)[0]}")
                socket.send_fds(end, [CONNECTED], [made.fileno()])
                continue
        except BrokenPipeError:
            return
        except OSError:
            pass
        end.send(REFUSED)


def _confinement() -> Plan:
    """Return the plan of its confinement, which it performs on itself."""
    from minirt.linux import constants as k
    from minirt.linux import seccomp
    from minirt.plan import Memory, Plan, Words
    from minivm.machine.confinement import connector_profile
    from minivm.machine.jail import k_header

    p = Plan().step("connector")
    p.prctl(k.PR_SET_NAME, b"minivm-connect\0", why="so that ps tells it from the machine")
    p.prctl(k.PR_SET_DUMPABLE, 0, why="no other process of this user may trace it")
    p.prlimit64(0, k.RLIMIT_CORE, Words(0, 0), why="no core file")
    kept = (_effective() & CAP_DAC_OVERRIDE).to_bytes(4, "little")
    why = "at most the right to connect to what another user serves: of effective, permitted and inheritable"
    p.capset(k_header(), kept + kept + bytes(16), why=why)
    p.prctl(k.PR_SET_NO_NEW_PRIVS, 1, why="a filter may be loaded without any rights")
    filter = seccomp.compile(connector_profile(), newer_enosys=False)
    program = Words(filter.instructions, Memory(filter.program))
    p.seccomp(k.SECCOMP_SET_MODE_FILTER, 0, program, why=f"{filter.instructions} instructions: to connect, and little else")
    return p


def _effective() -> int:
    """Return this process's effective capabilities, a bit each (man 5 proc, status)."""
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("CapEff:")).split()[1], 16)
