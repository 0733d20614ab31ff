"""Networks, and who has which address and which ports of the host: in SQLite, so that no two get the same.

A change is one transaction that begins by taking the lock (BEGIN IMMEDIATE), and what the kernel is told follows from what is
written there: a killed minirt leaves a database that is right, and a kernel that the next change puts right.

Only containers that run are written down. What one that is started again is to be connected to is in its own directory.
"""

from __future__ import annotations

import json
import os
from _sqlite3 import IntegrityError
from ipaddress import ip_address

from minirt.errors import MinirtError
from minirt.network.addresses import Address, Ipam, parse_ipam
from minirt.network.ports import Port
from minirt.network.schema import Networks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Row
    from typing import Any

__all__ = ["Endpoint", "Network", "NetworkConflict", "NetworkError", "NoNetwork", "Store"]


class NetworkError(MinirtError):
    """A network is not there, is in use, or cannot be."""

    exit_code = 1


class NoNetwork(NetworkError):
    """There is no network of that name."""


class NetworkConflict(NetworkError):
    """Somebody else has what is asked for, or is in it."""


class Network:
    """A network: its name, what carries it, its subnets."""

    __slots__ = (
        "bridge",
        "created",
        "dns_port",
        "driver",
        "id",
        "internal",
        "ipam",
        "ipam6",
        "labels",
        "last",
        "last6",
        "name",
        "options",
    )  # fmt: skip

    def __init__(self, row: Row) -> None:
        self.id: str = row["id"]  # 64 hexadecimal digits
        self.name: str = row["name"]
        self.driver: str = row["driver"]  # bridge, macvlan, ipvlan
        self.bridge: str = row["bridge"]  # the bridge's name; of the other drivers a name that no interface has
        self.ipam = parse_ipam(row["subnet"], row["gateway"], row["range"])
        self.ipam6 = parse_ipam(row["subnet6"], row["gateway6"], row["range6"]) if row["subnet6"] else None
        self.internal = bool(row["internal"])  # nothing beyond the bridge is reached
        self.last = ip_address(row["last"]) if row["last"] else None  # the addresses that were given out last
        self.last6 = ip_address(row["last6"]) if row["last6"] else None
        self.dns_port: int = row["dns_port"]  # of the gateway's address, where names are answered; 0: nowhere
        self.options: dict[str, str] = json.loads(row["options"])
        self.labels: dict[str, str] = json.loads(row["labels"])
        self.created: float = row["created"]

    @property
    def ipams(self) -> list[Ipam]:
        """Its subnets: IPv4, and IPv6 if it has that."""
        return [self.ipam] if self.ipam6 is None else [self.ipam, self.ipam6]

    @property
    def masquerades(self) -> bool:
        """Whether what leaves it takes the host's address."""
        return not self.internal and self.options.get("com.docker.network.bridge.enable_ip_masquerade", "true") != "false"


class Endpoint:
    """A container in a network."""

    __slots__ = (
        "address", "address6", "aliases", "container", "hardware", "inside", "interface", "name", "network", "resolver", "seq",
    )  # fmt: skip

    def __init__(self, row: Row) -> None:
        self.network: str = row["network"]
        self.container: str = row["container"]  # its id
        self.name: str = row["name"]
        self.address = ip_address(row["address"])
        self.address6 = ip_address(row["address6"]) if row["address6"] else None
        self.hardware: str = row["hardware"]  # MAC address
        self.interface: str = row["interface"]  # the host's end of the veth pair
        self.inside: str = row["inside"]  # the container's end
        self.aliases: list[str] = json.loads(row["aliases"])
        self.seq: int = row["seq"]  # in which order the container's were made
        self.resolver: dict[str, list[str]] = json.loads(row["resolver"])  # servers, search, options: --dns ...

    @property
    def addresses(self) -> list[Address]:
        """Its addresses: IPv4, and IPv6 if it has one."""
        return [self.address] if self.address6 is None else [self.address, self.address6]

    @property
    def id(self) -> str:
        """64 hexadecimal digits, as docker's endpoints have."""
        import zlib

        return f"{zlib.crc32(self.network.encode()):08x}{self.container[:56]}"


class Store(Networks):
    """The database, for one change or for a look. As a context manager it is one transaction.

    Args: look, nothing is going to be changed.
    Raises: StateError where it cannot be opened.
    """

    # -- looking -----------------------------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        return [Network(row) for row in self.execute("SELECT * FROM network ORDER BY name")]

    def network(self, text: str) -> Network:
        """Return a network by its name, its id, or the beginning of that. Raises: NetworkError."""
        for row in self.execute("SELECT * FROM network WHERE name = ?", (text,)):
            return Network(row)
        found = [network for network in self.networks() if text and network.id.startswith(text)]
        if len(found) == 1:
            return found[0]
        if found:
            raise NetworkError(f"{len(found)} networks have an id that begins with {text!r}: give more of it")
        raise NoNetwork(f"no network {text!r}: `minirt network ls` lists them, `minirt network create {text}` makes it")

    def endpoints(self, network: str = "", container: str = "") -> list[Endpoint]:
        """Return the containers of a network, or the places of a container in the order they were made; of neither, all."""
        rows = self.execute(
            "SELECT * FROM endpoint WHERE ? IN ('', network) AND ? IN ('', container) ORDER BY container, seq", (network, container)
        )
        return [Endpoint(row) for row in rows]

    def ports(self, container: str = "") -> Iterator[tuple[str, Port]]:
        """Yield container and published port: of one, or of all."""
        query = "SELECT * FROM port WHERE ? IN ('', container) ORDER BY protocol, host, address"
        for row in self.execute(query, (container,)):
            yield row["container"], Port(row["address"], row["host"], row["inside"], row["protocol"])

    # -- changing: only in a transaction -----------------------------------------------------------------------------

    def add_network(
        self, name: str, bridge: str, ipam: Ipam, ipam6: Ipam | None = None, *, driver: str = "bridge", internal: bool = False,
        labels: dict[str, str] | None = None, options: dict[str, str] | None = None,
    ) -> Network:  # fmt: skip
        """Write a network down. Raises: NetworkError where there is one of the name."""
        import time

        row: dict[str, Any] = {
            "id": os.urandom(32).hex(), "name": name, "driver": driver, "bridge": bridge, "internal": int(internal),
            "subnet": str(ipam.subnet), "gateway": str(ipam.gateway), "range": "" if ipam.range == ipam.subnet else str(ipam.range),
            "labels": json.dumps(labels or {}), "options": json.dumps(options or {}), "created": time.time(),
        }  # fmt: skip
        if ipam6 is not None:
            part = "" if ipam6.range == ipam6.subnet else str(ipam6.range)
            row |= {"subnet6": str(ipam6.subnet), "gateway6": str(ipam6.gateway), "range6": part}
        try:
            self.insert("network", row)
        except IntegrityError:
            raise NetworkConflict(f"network {name!r} is there already, or another has the interface {bridge}") from None
        return self.network(name)

    def insert(self, table: str, row: dict[str, Any]) -> None:
        """Add a row."""
        self.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join(':' + key for key in row)})", row)

    def remove_network(self, name: str) -> None:
        """Forget a network that nobody is in. Raises: NetworkError."""
        inside = self.endpoints(network=name)
        if inside:
            raise NetworkConflict(f"network {name!r} is in use by {', '.join(end.name for end in inside)}")
        self.execute("DELETE FROM network WHERE name = ?", (name,))

    def set_dns_port(self, name: str, port: int) -> None:
        """Write down where names of a network are answered."""
        self.execute("UPDATE network SET dns_port = ? WHERE name = ?", (port, name))

    def add_endpoint(
        self, network: Network, container: str, name: str, address: Address, address6: Address | None = None, *,
        hardware: str = "", aliases: list[str] | None = None, resolver: dict[str, list[str]] | None = None,
    ) -> Endpoint:  # fmt: skip
        """Write down that a container has an address. Raises: NetworkError where it or another has one."""
        others = self.endpoints(container=container)
        number = next(i for i in range(len(others) + 1) if f"eth{i}" not in {end.inside for end in others})
        row = {
            "network": network.name, "container": container, "name": name, "address": str(address),
            "address6": str(address6 or ""), "hardware": hardware, "interface": f"mv{container[:10]}{number}",
            "inside": f"eth{number}", "seq": max((end.seq for end in others), default=-1) + 1,
            "aliases": json.dumps(aliases or []), "resolver": json.dumps(resolver or {}),
        }  # fmt: skip
        try:
            self.insert("endpoint", row)
        except IntegrityError:
            who = f"{name} is in it already, or another has the address {address}"
            raise NetworkConflict(f"network {network.name}: {who}") from None
        self.execute("UPDATE network SET last = ? WHERE name = ?", (str(address), network.name))
        if address6 is not None:
            self.execute("UPDATE network SET last6 = ? WHERE name = ?", (str(address6), network.name))
        return next(end for end in self.endpoints(network.name, container))

    def add_port(self, container: str, port: Port) -> None:
        """Write down that a port of the host leads to a container. Raises: NetworkError where it is taken."""
        if other := self.publisher(port):
            raise NetworkConflict(f"port {port.host}/{port.protocol} of this host is published by container {other[:12]}")
        self.insert("port", {
            "container": container, "address": port.address, "host": port.host, "inside": port.inside, "protocol": port.protocol,
        })  # fmt: skip

    def publisher(self, port: Port) -> str:
        """Return the container that has a port of the host already, or nothing."""
        wide = ("", "0.0.0.0", "::")
        for other, taken in self.ports():
            same = (taken.host, taken.protocol) == (port.host, port.protocol)
            overlap = taken.address in wide or port.address in wide or taken.address == port.address
            family = any(taken.is_for(version) and port.is_for(version) for version in (4, 6))
            if same and overlap and family:
                return other
        return ""

    def rename(self, container: str, name: str) -> None:
        """Write down that a container is called otherwise."""
        self.execute("UPDATE endpoint SET name = ? WHERE container = ?", (name, container))

    def remove_container(self, container: str, network: str = "") -> None:
        """Forget a container: in one network, or in all, and its ports."""
        self.execute("DELETE FROM endpoint WHERE container = ? AND ? IN ('', network)", (container, network))
        if not self.endpoints(container=container):
            self.execute("DELETE FROM port WHERE container = ?", (container,))
