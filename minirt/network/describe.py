"""Networks in the words of Docker's Engine API ("Inspect a network"; NetworkSettings of "Inspect a container")."""

from __future__ import annotations

import time

from minirt.network.manage import DEFAULT
from minirt.network.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minirt.network.addresses import Ipam
    from minirt.network.ports import Port
    from minirt.network.store import Endpoint, Network

__all__ = ["FIXED", "describe", "port_map", "settings"]

# What is always there: no network of ours, but a name after --network. Their ids are no secret either.
FIXED = {name: (driver, name.encode().hex().ljust(64, "0")) for name, driver in (("host", "host"), ("none", "null"))}


def describe(store: Store, network: Network) -> dict[str, Any]:
    """Return what is known of a network as a JSON object."""
    options = network.options
    if network.driver == "bridge":
        options = {"com.docker.network.bridge.name": network.bridge, **options}
    return {
        "Name": network.name,
        "Id": network.id,
        "Created": moment(network.created),
        "Scope": "local",
        "Driver": network.driver,
        "EnableIPv4": True,
        "EnableIPv6": network.ipam6 is not None,
        "IPAM": {"Driver": "default", "Options": {}, "Config": [subnet(ipam) for ipam in network.ipams]},
        "Internal": network.internal,
        "Attachable": False,
        "Ingress": False,
        "ConfigFrom": {"Network": ""},
        "ConfigOnly": False,
        "Containers": {end.container: member(network, end) for end in store.endpoints(network=network.name)},
        "Options": options,
        "Labels": network.labels,
    }


def describe_fixed(name: str) -> dict[str, Any]:
    """Return the same of `host` or `none`."""
    driver, id = FIXED[name]
    return {
        "Name": name, "Id": id, "Created": moment(0), "Scope": "local", "Driver": driver, "EnableIPv4": True, "EnableIPv6": False,
        "IPAM": {"Driver": "default", "Options": None, "Config": []}, "Internal": False, "Attachable": False, "Ingress": False,
        "ConfigFrom": {"Network": ""}, "ConfigOnly": False, "Containers": {}, "Options": {}, "Labels": {},
    }  # fmt: skip


def subnet(ipam: Ipam) -> dict[str, str]:
    """Return one of IPAM.Config."""
    part = {} if ipam.range == ipam.subnet else {"IPRange": str(ipam.range)}
    return {"Subnet": str(ipam.subnet), **part, "Gateway": str(ipam.gateway)}


def member(network: Network, end: Endpoint) -> dict[str, str]:
    """Return one of Containers."""
    return {
        "Name": end.name, "EndpointID": end.id, "MacAddress": end.hardware, "IPv4Address": network.ipam.with_bits(end.address),
        "IPv6Address": network.ipam6.with_bits(end.address6) if network.ipam6 is not None and end.address6 is not None else "",
    }  # fmt: skip


def moment(seconds: float) -> str:
    """Return seconds since 1970 as RFC 3339."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1e9):09d}Z"


def port_map(published: Sequence[Port], exposed: Sequence[Port] = (), ipv6: bool = True) -> dict[str, list[dict[str, str]] | None]:
    """Return NetworkSettings.Ports: the container's ports, each with those of the host that lead to it.

    Args:
        published: those of the host.
        exposed: those that the image names.
        ipv6: whether the container has an IPv6 address; by tcp and udp IPv6 leads to its ports in any case (keeper.py).
    """
    found: dict[str, list[dict[str, str]] | None] = {f"{port.inside}/{port.protocol}": None for port in exposed}
    for port in published:
        bindings = found.setdefault(f"{port.inside}/{port.protocol}", None) or []
        hosts = [port.address] if port.address else ["0.0.0.0", "::"] if ipv6 or port.protocol != "sctp" else ["0.0.0.0"]
        bindings += [{"HostIp": host, "HostPort": str(port.host)} for host in hosts]
        found[f"{port.inside}/{port.protocol}"] = bindings
    return found


def settings(container: str, exposed: Sequence[Port] = (), sandbox: str = "") -> dict[str, Any]:
    """Return NetworkSettings of a container.

    Args:
        container: its id.
        exposed: ports that its image or --expose names.
        sandbox: path of its network namespace, if it runs.
    """
    with Store(look=True) as store:
        ends = store.endpoints(container=container)
        networks = {network.name: network for network in store.networks()}
        published = [port for _, port in store.ports(container)]
    places = {end.network: place(networks[end.network], end) for end in ends}
    six = any(end.address6 is not None for end in ends)
    own = places.get(DEFAULT, {})  # docker repeats what the default network says, and nothing of others
    repeated = ("EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress", "IPPrefixLen", "IPv6Gateway",
                "MacAddress")  # fmt: skip
    return {
        "Bridge": "", "SandboxID": container if sandbox else "", "SandboxKey": sandbox, "Ports": port_map(published, exposed, six),
        **{key: own.get(key, 0 if key.endswith("Len") else "") for key in repeated}, "Networks": places,
    }  # fmt: skip


def place(network: Network, end: Endpoint) -> dict[str, Any]:
    """Return one of NetworkSettings.Networks."""
    six = network.ipam6 if end.address6 is not None else None
    return {
        "IPAMConfig": None,
        "Links": None,
        "Aliases": end.aliases,
        "MacAddress": end.hardware,
        "DriverOpts": None,
        "NetworkID": network.id,
        "EndpointID": end.id,
        "Gateway": "" if network.internal else str(network.ipam.gateway),
        "IPAddress": str(end.address),
        "IPPrefixLen": network.ipam.subnet.prefixlen,
        "IPv6Gateway": str(six.gateway) if six is not None and not network.internal else "",
        "GlobalIPv6Address": str(end.address6) if six is not None else "",
        "GlobalIPv6PrefixLen": six.subnet.prefixlen if six is not None else 0,
        "DNSNames": list(dict.fromkeys([end.name, *end.aliases, end.container[:12]])),
    }
