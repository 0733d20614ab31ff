"""The network namespace of a user without root: his bridges are in it, and pasta leads out of it.

    container ══veth══ bridge ─routing, nftables─ tap ══ pasta ──ordinary sockets of the user's──▶ the host's network
                       └────── one network namespace of the user's ──────┘

Nobody but root can make a bridge on the host; but everybody can make a user namespace, and is root over a network namespace that
belongs to it. There is one for all containers of a user, from the first that is connected to a network with a name to the last. A
process that does nothing holds it (28 kB: it is a plan, waiting). The containers' user namespaces are beside this one, not below
it: so nobody in there may reach into a container, but whoever made both may, from outside (man 7 user_namespaces: a process has
all capabilities in a namespace that its user made, and that is a child of its own). Hence minirt stays outside, with sockets that
were made inside.

Published ports are publish.py's.
"""

from __future__ import annotations

import os
import sys

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.network.held import Held, environment
from minirt.network.store import NetworkError
from minirt.paths import state_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterable

    from minirt.network.store import Network
    from minirt.plan import Plan

__all__ = ["begin", "end", "holder", "is_user", "join", "make_bridge", "run", "sockets"]

BOTH = k.CLONE_NEWUSER | k.CLONE_NEWNET
ELSEWHERE = ("/usr/sbin", "/sbin")  # where programs of root's are, which a user's PATH may lack


def is_user() -> bool:
    """Say whether networks are in a namespace of the user's: he is not root."""
    return os.geteuid() != 0


def held() -> Held:
    """Return the file that the namespace's holder has locked."""
    return Held("user")


def directory() -> str:
    """Return where the namespace's pasta keeps its process id."""
    return os.path.join(state_root(), "network", "user.pasta")


def holder() -> int:
    """Return the process id of who holds the namespace, 0 where nobody does."""
    file = held()
    return file.pid if file.is_alive else 0


def begin(networks: Iterable[Network]) -> None:
    """Make the namespace, if it is not there. The caller is in a transaction of the database of networks.

    Args: networks, all there are: where the namespace had gone, their keepers are of that one.
    Raises: MinirtError.
    """
    from minirt.network import keeper, pasta

    lock = held().try_lock()
    if lock >= 0:
        try:
            pasta.end(directory())
            for network in networks:
                keeper.end(network)
            pid = hold(lock)
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(pid).encode(), 0)
        finally:
            os.close(lock)
    if not pasta.is_alive(directory()):
        os.makedirs(directory(), exist_ok=True)
        pasta.launch(directory(), holder())


def hold(lock: int) -> int:
    """Start the process that holds the namespaces, and has the lock. Returns its process id."""
    from minirt.linux.userns import write_maps
    from minirt.plan import Memory, Plan
    from minirt.plan.birth import Birth

    plan = Plan().step("holder")
    plan.clone3(BOTH | k.CLONE_PARENT, why="a user namespace, and a network namespace that belongs to it")
    plan.barrier("idmaps", why="who is root there: the user himself").setsid()
    plan.prctl(k.PR_SET_NAME, Memory(b"minirt-network\0"), why="as it is shown in a list of processes")
    plan.barrier("wait").close_range(3, 0xFFFFFFFF, why="all but the lock, and the pipe that it waits at")
    plan.read(0, Memory(bytes(8)), 8, why="of a pipe that nobody but itself can write to: for ever").exit_group(0)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        with Birth(plan, (reader, writer, lock)) as birth:
            for name in birth.barriers():
                if name == "wait":
                    return birth.leave()
                one = {"containerID": 0, "size": 1}
                write_maps(birth.pid, [{**one, "hostID": os.geteuid()}], [{**one, "hostID": os.getegid()}])
    finally:
        os.close(reader)
        os.close(writer)
    raise NetworkError("the network namespace of the user could not be made")


def end() -> None:
    """Let the namespace go, with all that is in it."""
    file = held()
    if file.is_there:
        from minirt.network import pasta

        pid = file.pid
        pasta.end(directory())
        file.end()
        pasta.reap(pid)


# -- in there ------------------------------------------------------------------------------------------------------------


def entering() -> Plan:
    """Return the beginning of a plan: a process that enters the namespaces. Raises: NetworkError where there are none."""
    from minirt.plan import Plan, Slot

    pid = holder()
    if not pid:
        raise NetworkError("the network namespace of the user has gone: start the containers anew")
    process = Slot("holder")
    return Plan().step("network").pidfd_open(pid, 0, store=process).setns(process, BOTH, why="where the bridges are")


def sockets(*kinds: tuple[int, int, int]) -> list[int]:
    """Return sockets that were made in there: each acts there, whoever has it.

    Args: kinds, domain, type and protocol of each (man 2 socket).
    """
    from minirt.plan import Slot
    from minirt.plan.birth import Birth

    plan, made = entering(), []
    for number, (domain, type, protocol) in enumerate(kinds):
        fd = Slot(f"socket {number}")
        plan.socket(domain, type | k.SOCK_CLOEXEC, protocol, store=fd, why="it acts where it was made").barrier("socket", give=fd)
    with Birth(plan.exit_group(0)) as birth:
        for _ in birth.barriers():
            made.append(birth.received)
            birth.received = -1
        birth.wait()
    return made


def run(words: list[str], text: str) -> subprocess.CompletedProcess[str]:
    """Run a program in there, as root of it. Args: words, the command; text, its standard input. Raises: FileNotFoundError."""
    import shutil
    import subprocess

    from minirt.plan.birth import run as run_plan

    path = shutil.which(words[0], path=os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE]))
    if path is None:
        raise FileNotFoundError(words[0])
    plan = entering().execve(path, words, [f"PATH={os.environ.get('PATH', '')}"])
    files = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("stdin", "stdout", "stderr")]
    try:
        os.pwrite(files[0], text.encode(), 0)
        status = run_plan(plan, files)
        out, err = (os.pread(fd, 1 << 20, 0).decode(errors="replace") for fd in files[1:])
    finally:
        for fd in files:
            os.close(fd)
    return subprocess.CompletedProcess(words, status, out, err)


def make_bridge(network: Network) -> int:
    """Make a network's bridge in there. Returns its index. Raises: NetworkError."""
    import subprocess

    words = [sys.executable, "-m", "minirt.network.rootless", str(holder()), network.name]
    done = subprocess.run(words, capture_output=True, text=True, env=environment(), cwd="/", check=False)
    if done.returncode:
        raise NetworkError(f"bridge of network {network.name}: {done.stderr.strip().rpartition(chr(10))[2] or done.returncode}")
    return int(done.stdout)


def join(pid: int) -> None:
    """Enter the namespaces with this process, which has one thread, and may then do there what root may. Raises: KernelError.

    Args: pid, of the holder.
    """
    from minirt.linux._sys import lib

    pidfd = os.pidfd_open(pid)
    try:
        result = lib.plan_syscall(k.SYS_setns, pidfd, BOTH, 0, 0, 0, 0)
    finally:
        os.close(pidfd)
    if result < 0:
        raise KernelError(-result, f"setns({pidfd}, CLONE_NEWUSER|CLONE_NEWNET): {os.strerror(-result)}")


def main(pid: str, name: str) -> int:
    """Make the bridge of a network, as a process that enters the namespaces; print its index."""
    from minirt.errors import MinirtError
    from minirt.network import bridge
    from minirt.network.store import Store

    with Store(look=True) as store:  # before: whoever is in there is root, whose networks are others
        network = store.network(name)
    try:
        join(int(pid))
        print(bridge.make_bridge(network))
    except MinirtError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
