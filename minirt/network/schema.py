"""The tables of network.sqlite. A change of them is one more entry, which leads from the version before to the next.

By itself, as most containers are in no network: to find that out takes no arithmetic of addresses.
"""

from __future__ import annotations

from minirt.state.database import Database

__all__ = ["MIGRATIONS", "Networks", "is_connected"]

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
    # 2: IPv6, drivers other than a bridge, options; ids as docker's; interfaces' names in the container.
    """
    ALTER TABLE network ADD COLUMN id TEXT NOT NULL DEFAULT '';
    UPDATE network SET id = lower(hex(randomblob(32)));
    CREATE UNIQUE INDEX network_id ON network (id);
    ALTER TABLE network ADD COLUMN driver TEXT NOT NULL DEFAULT 'bridge';
    ALTER TABLE network ADD COLUMN options TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE network ADD COLUMN gateway TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN range TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN subnet6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN gateway6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN range6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN last6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE network ADD COLUMN dns_port INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE endpoint ADD COLUMN address6 TEXT NOT NULL DEFAULT '';
    ALTER TABLE endpoint ADD COLUMN hardware TEXT NOT NULL DEFAULT '';
    ALTER TABLE endpoint ADD COLUMN inside TEXT NOT NULL DEFAULT 'eth0';
    ALTER TABLE endpoint ADD COLUMN seq INTEGER NOT NULL DEFAULT 0;
    UPDATE endpoint SET inside = 'eth' || substr(interface, 13), seq = CAST(substr(interface, 13) AS INTEGER);
    ALTER TABLE endpoint ADD COLUMN resolver TEXT NOT NULL DEFAULT '{}';
    CREATE UNIQUE INDEX endpoint_address6 ON endpoint (network, address6) WHERE address6 != '';
    CREATE UNIQUE INDEX endpoint_inside ON endpoint (container, inside);
    CREATE UNIQUE INDEX endpoint_interface ON endpoint (interface)
    """,
)


class Networks(Database):
    """network.sqlite. Args: look, nothing is going to be changed."""

    def __init__(self, look: bool = False) -> None:
        super().__init__("network.sqlite", MIGRATIONS, look)


def is_connected(container: str) -> bool:
    """Say whether a container is in a network, or was when whoever stayed with it was killed. Args: container, its id."""
    with Networks(look=True) as base:  # where there is no database an empty one
        return base.execute("SELECT 1 FROM endpoint WHERE container = ?", (container,)).fetchone() is not None
