"""What may reach what, as one nftables table that is written anew at each change, whole or not at all (man 8 nft).

    from a container outwards            its address becomes the host's (masquerade)
    a published port of the host         its packets go to the container (dnat), also those of the host itself
    between networks, into a network     nothing but answers and published ports
    an internal network                  nothing at all
"""

from __future__ import annotations

import subprocess

from minirt.network.store import NetworkError
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from minirt.network.ports import Port
    from minirt.network.store import Endpoint, Network

__all__ = ["apply", "render", "table_name"]


def table_name() -> str:
    """Return the table's name: `minirt`, with a suffix where the containers are kept elsewhere than by default."""
    import os
    import zlib

    suffix = f"_{zlib.crc32(data_root().encode()):08x}" if "MINIRT_ROOT" in os.environ else ""
    return f"minirt{suffix}"


def render(table: str, networks: Iterable[Network], endpoints: Iterable[Endpoint], ports: Iterable[tuple[str, Port]]) -> str:
    """Return the script for nft(8) that puts the table in place of the one before; without networks there is none.

    A table is added first, as deleting one that is not there would be an error.
    """
    networks = list(networks)
    if not networks:
        return f"add table inet {table}\ndelete table inet {table}\n"
    addresses: dict[str, str] = {}
    for end in endpoints:
        addresses.setdefault(end.container, str(end.address))
    lines = [f"add table inet {table}", f"delete table inet {table}", f"table inet {table} {{"]
    lines += ["  chain ports {", *(f"    {rule(port, addresses[c])}" for c, port in ports if c in addresses), "  }"]
    lines += [
        "  chain from_outside { type nat hook prerouting priority dstnat; fib daddr type local jump ports; }",
        "  chain from_here { type nat hook output priority -100; fib daddr type local jump ports; }",
        "  chain outwards { type nat hook postrouting priority srcnat;",
        *(f"    {text}" for network in networks for text in outwards(network)),
        "  }",
        "  chain between { type filter hook forward priority filter;",
        "    ct state established,related accept",
        *(f"    {text}" for network in networks for text in inner(network)),
        "    ct status dnat accept",
        *(f'    oifname "{network.bridge}" drop' for network in networks),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def rule(port: Port, address: str) -> str:
    """Return the rule of a published port."""
    where = f"ip daddr {port.address} " if port.address not in ("", "0.0.0.0") else ""
    return f"meta nfproto ipv4 {where}{port.protocol} dport {port.host} dnat ip to {address}:{port.inside}"


def outwards(network: Network) -> list[str]:
    """Return what becomes of addresses on the way out of, or into, a network."""
    here = [
        f'ip saddr 127.0.0.0/8 oifname "{network.bridge}" masquerade',  # from the host's own 127.0.0.1, which nobody could answer
        f'ip saddr {network.subnet} oifname "{network.bridge}" ct status dnat masquerade',  # to a port of its own, published
    ]
    out = [] if network.internal else [f'ip saddr {network.subnet} oifname != "{network.bridge}" masquerade']
    return here + out


def inner(network: Network) -> list[str]:
    """Return what an internal network is refused, and any is allowed among its own."""
    same = f'iifname "{network.bridge}" oifname "{network.bridge}" accept'
    return [same, f'iifname "{network.bridge}" drop', f'oifname "{network.bridge}" drop'] if network.internal else [same]


def apply(script: str) -> None:
    """Let nft do it: all of it, or nothing. Raises: NetworkError."""
    try:
        done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NetworkError("no nft on this machine, which networks need: apt-get install nftables") from None
    if done.returncode:
        raise NetworkError(f"nft: {done.stderr.splitlines()[0] if done.stderr else done.returncode}")
