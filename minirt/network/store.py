"""Networks, and who has which address and which ports of the host: in SQLite, so that no two get the same.

A change is one transaction that begins by taking the lock (BEGIN IMMEDIATE), and what the kernel is told follows from what is
written there: a killed minirt leaves a database that is right, and a kernel that the next change puts right.
"""

from __future__ import annotations

import json
import sqlite3
from ipaddress import IPv4Address, IPv4Network

from minirt.errors import MinirtError
from minirt.network.ports import Port
from minirt.state.database import Database

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Endpoint", "Network", "NetworkError", "Store"]

# One entry a schema version: what leads there from the one before (PRAGMA user_version).
MIGRATIONS = (
    """
    CREATE TABLE network (
        name TEXT PRIMARY KEY, bridge TEXT UNIQUE NOT NULL, subnet TEXT NOT NULL, internal INTEGER NOT NULL,
        last TEXT NOT NULL DEFAULT '', labels TEXT NOT NULL DEFAULT '{}', created REAL NOT NULL
    ) STRICT;
    CREATE TABLE endpoint (
        network TEXT NOT NULL REFERENCES network (name), container TEXT NOT NULL, name TEXT NOT NULL, address TEXT NOT NULL,
        interface TEXT NOT NULL, aliases TEXT NOT NULL DEFAULT '[]', PRIMARY KEY (network, container), UNIQUE (network, address)
    ) STRICT;
    CREATE TABLE port (
        container TEXT NOT NULL, address TEXT NOT NULL, host INTEGER NOT NULL, inside INTEGER NOT NULL, protocol TEXT NOT NULL,
        PRIMARY KEY (address, host, protocol)
    ) STRICT;
    """,
)


class NetworkError(MinirtError):
    """A network is not there, is in use, or cannot be."""

    exit_code = 1


class Network:
    """A network: its name, its bridge, its subnet."""

    __slots__ = ("bridge", "created", "internal", "labels", "last", "name", "subnet")

    def __init__(self, row: sqlite3.Row) -> None:
        self.name: str = row["name"]
        self.bridge: str = row["bridge"]
        self.subnet = IPv4Network(row["subnet"])
        self.internal = bool(row["internal"])  # nothing beyond the bridge is reached
        self.last = IPv4Address(row["last"]) if row["last"] else None  # the address that was given out last
        self.labels: dict[str, str] = json.loads(row["labels"])
        self.created: float = row["created"]


class Endpoint:
    """A container in a network."""

    __slots__ = ("address", "aliases", "container", "interface", "name", "network")

    def __init__(self, row: sqlite3.Row) -> None:
        self.network: str = row["network"]
        self.container: str = row["container"]  # its id
        self.name: str = row["name"]
        self.address = IPv4Address(row["address"])
        self.interface: str = row["interface"]  # the host's end of the veth pair
        self.aliases: list[str] = json.loads(row["aliases"])


class Store(Database):
    """The database, for one change or for a look. As a context manager it is one transaction.

    Raises: StateError where it cannot be opened.
    """

    def __init__(self) -> None:
        super().__init__("network.sqlite", MIGRATIONS)

    # -- looking -----------------------------------------------------------------------------------------------------

    def networks(self) -> list[Network]:
        """Return all networks, by name."""
        return [Network(row) for row in self.execute("SELECT * FROM network ORDER BY name")]

    def network(self, name: str) -> Network:
        """Return a network. Raises: NetworkError."""
        for row in self.execute("SELECT * FROM network WHERE name = ?", (name,)):
            return Network(row)
        raise NetworkError(f"no network {name!r}: `minirt network ls` lists them, `minirt network create {name}` makes it")

    def endpoints(self, network: str = "", container: str = "") -> list[Endpoint]:
        """Return the containers of a network, or the places of a container; of neither, all."""
        rows = self.execute(
            "SELECT * FROM endpoint WHERE ? IN ('', network) AND ? IN ('', container) ORDER BY network, container",
            (network, container),
        )
        return [Endpoint(row) for row in rows]

    def ports(self) -> Iterator[tuple[str, Port]]:
        """Yield container and published port."""
        for row in self.execute("SELECT * FROM port ORDER BY protocol, host, address"):
            yield row["container"], Port(row["address"], row["host"], row["inside"], row["protocol"])

    # -- changing: only in a transaction -----------------------------------------------------------------------------

    def add_network(self, name: str, bridge: str, subnet: IPv4Network, internal: bool, labels: dict[str, str]) -> Network:
        """Write a network down. Raises: NetworkError where there is one of the name."""
        import time

        try:
            self.execute(
                "INSERT INTO network (name, bridge, subnet, internal, labels, created) VALUES (?, ?, ?, ?, ?, ?)",
                (name, bridge, str(subnet), int(internal), json.dumps(labels), time.time()),
            )
        except sqlite3.IntegrityError:
            raise NetworkError(f"network {name!r} is there already") from None
        return self.network(name)

    def remove_network(self, name: str) -> None:
        """Forget a network that nobody is in. Raises: NetworkError."""
        inside = self.endpoints(network=name)
        if inside:
            raise NetworkError(f"network {name!r} is in use by {', '.join(end.name for end in inside)}")
        self.execute("DELETE FROM network WHERE name = ?", (name,))

    def add_endpoint(self, network: Network, container: str, name: str, address: IPv4Address, aliases: list[str]) -> Endpoint:
        """Write down that a container has an address. Raises: NetworkError where it or another has one."""
        interface = f"mv{container[:10]}{len(self.endpoints(container=container))}"
        try:
            self.execute(
                "INSERT INTO endpoint (network, container, name, address, interface, aliases) VALUES (?, ?, ?, ?, ?, ?)",
                (network.name, container, name, str(address), interface, json.dumps(aliases)),
            )
        except sqlite3.IntegrityError:
            raise NetworkError(f"network {network.name}: {name} is in it already, or another has the address {address}") from None
        self.execute("UPDATE network SET last = ? WHERE name = ?", (str(address), network.name))
        return next(end for end in self.endpoints(network.name, container))

    def add_port(self, container: str, port: Port) -> None:
        """Write down that a port of the host leads to a container. Raises: NetworkError where it is taken."""
        for other, taken in self.ports():
            same = (taken.host, taken.protocol) == (port.host, port.protocol)
            if same and (not taken.address or not port.address or taken.address == port.address):
                raise NetworkError(f"port {port.host}/{port.protocol} of this host is published by container {other[:12]}")
        self.execute(
            "INSERT INTO port (container, address, host, inside, protocol) VALUES (?, ?, ?, ?, ?)",
            (container, port.address, port.host, port.inside, port.protocol),
        )

    def remove_container(self, container: str, network: str = "") -> None:
        """Forget a container: in one network, or in all, and its ports."""
        self.execute("DELETE FROM endpoint WHERE container = ? AND ? IN ('', network)", (container, network))
        if not self.endpoints(container=container):
            self.execute("DELETE FROM port WHERE container = ?", (container,))
