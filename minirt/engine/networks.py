"""A network for a container that runs already: a process joins its network namespace and gives us a socket from there."""

from __future__ import annotations

import os

from minirt.engine.container import Container
from minirt.engine.removal import running
from minirt.linux import constants as k
from minirt.plan import Plan, Slot
from minirt.plan.birth import Birth

__all__ = ["connect_running"]


def connect_running(container: Container, network: str, aliases: list[str], address: str) -> None:
    """Lead a network into a container that runs. Raises: ContainerError, NetworkError, KernelError."""
    from minirt.network.connect import connect

    os.close(running(container))
    pid = container.state["pid"]
    plan, process, fd = Plan().step("network"), Slot("container"), Slot("rtnetlink")
    plan.pidfd_open(pid, 0, store=process).setns(process, k.CLONE_NEWNET, why="where its interfaces are")
    plan.socket(k.AF_NETLINK, k.SOCK_RAW | k.SOCK_CLOEXEC, k.NETLINK_ROUTE, store=fd, why="it acts where it was made")
    plan.barrier("network", give=fd).exit_group(0)
    namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Birth(plan) as birth:
            for _ in birth.barriers():
                socket, birth.received = birth.received, -1
                try:
                    connect(network, container.id, container.label, namespace, socket, aliases=aliases, address=address)
                finally:
                    os.close(socket)
            birth.wait()
    finally:
        os.close(namespace)
