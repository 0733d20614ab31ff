"""A network for a container that runs already: a process joins its network namespace and gives us a socket from there."""

from __future__ import annotations

import os

from minirt.engine.container import Container
from minirt.engine.removal import running
from minirt.linux import constants as k
from minirt.paths import data_root
from minirt.plan import Plan, Slot
from minirt.plan.birth import Birth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["connect_running", "settings"]


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


def settings(container: Container, sandbox: str) -> dict[str, Any]:
    """Return the NetworkSettings object of Docker's Engine API. Args: sandbox, path of the network namespace, empty for none."""
    from minirt.network.addresses import gateway_of, hardware_address
    from minirt.network.store import Store

    if not os.path.exists(os.path.join(data_root(), "network.sqlite")):
        return {"SandboxKey": sandbox, "Ports": {}, "Networks": {}}
    with Store() as store:
        ends = store.endpoints(container=container.id)
        networks = {network.name: network for network in store.networks()}
        published = [port for id, port in store.ports() if id == container.id]
    ports: dict[str, list[dict[str, str]]] = {}
    for port in published:
        binding = {"HostIp": port.address or "0.0.0.0", "HostPort": str(port.host)}
        ports.setdefault(f"{port.inside}/{port.protocol}", []).append(binding)
    places = {
        end.network: {
            "Aliases": end.aliases, "NetworkID": end.network, "EndpointID": end.interface,
            "Gateway": str(gateway_of(networks[end.network].subnet)), "IPAddress": str(end.address),
            "IPPrefixLen": networks[end.network].subnet.prefixlen, "MacAddress": hardware_address(end.address),
        }
        for end in ends
    }  # fmt: skip
    own = places.get("bridge", {})
    return {
        "SandboxKey": sandbox, "Ports": ports, "Networks": places,
        **{key: own.get(key, "") for key in ("Gateway", "IPAddress", "MacAddress")},
    }  # fmt: skip
