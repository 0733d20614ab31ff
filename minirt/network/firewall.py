"""What may reach what, as one nftables table that is written anew at each change, whole or not at all (man 8 nft).

    from a container outwards            its address becomes the host's (masquerade)
    a published port of the host         its packets go to the container (dnat), also those of the host itself
    between networks, into a network     nothing but answers and published ports
    an internal network                  nothing at all
    127.0.0.1 of the host                not from a container, though its ports are led out from there

The table's comment is a checksum of what is in it. So one message tells whether it is there and says what it should: most
containers change nothing in it, and then nft, which is a process of some milliseconds, is not run.
"""

from __future__ import annotations

import os
import struct

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux import rtnetlink
from minirt.network.store import NetworkError
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

    from minirt.network.ports import Port
    from minirt.network.store import Endpoint, Network
    from minirt.trace import Sink

__all__ = ["apply", "comment_of", "render", "table_name"]

FAMILY = 1  # NFPROTO_INET: IPv4 and IPv6 in one table
COMMENT = 0  # NFTNL_UDATA_TABLE_COMMENT (libnftnl/udata.h): the kernel keeps the bytes, and does not look at them


def table_name() -> str:
    """Return the table's name: `minirt`, with a suffix where the containers are kept elsewhere than by default."""
    import zlib

    suffix = f"_{zlib.crc32(data_root().encode()):08x}" if "MINIRT_ROOT" in os.environ else ""
    return f"minirt{suffix}"


def render(networks: Iterable[Network], endpoints: Iterable[Endpoint], ports: Iterable[tuple[str, Port]]) -> list[str]:
    """Return what stands in the table, a line each; without networks there is none, and it is empty."""
    networks = [network for network in networks if network.driver == "bridge"]
    if not networks:
        return []
    ends: dict[str, dict[int, str]] = {}  # container -> the address, of each version, that its ports lead to
    bridges = {network.name for network in networks}
    for end in endpoints:
        if end.network in bridges:
            for address in end.addresses:
                ends.setdefault(end.container, {}).setdefault(address.version, str(address))
    published = [rule for container, port in ports for rule in rules(port, ends.get(container, {}))]
    return [
        "chain guard { type filter hook prerouting priority raw;",
        *(f'  iifname "{network.bridge}" ip daddr 127.0.0.0/8 drop' for network in networks),
        "}",
        "chain ports {", *(f"  {rule}" for rule in published), "}",
        "chain names {", *(f"  {rule}" for network in networks for rule in names(network)), "}",
        "chain from_outside { type nat hook prerouting priority dstnat; jump names; fib daddr type local jump ports; }",
        # Not from [::1]: no answer to that may come in by a bridge. The keeper listens there.
        "chain from_here { type nat hook output priority -100; ip6 daddr ::1 return; fib daddr type local jump ports; }",
        "chain outwards { type nat hook postrouting priority srcnat;",
        *(f"  {text}" for network in networks for text in outwards(network)),
        "}",
        "chain between { type filter hook forward priority filter;",
        "  ct state established,related accept",
        *(f"  {text}" for network in networks for text in inner(network)),
        "  ct status dnat accept",
        *(f'  oifname "{network.bridge}" drop' for network in networks),
        "}",
    ]  # fmt: skip


def rules(port: Port, addresses: dict[int, str]) -> list[str]:
    """Return the rules of a published port: one for IPv4, one for IPv6, as the container and -p have them."""
    found = []
    for version, family in ((4, "ip"), (6, "ip6")):
        if version not in addresses or not port.is_for(version):
            continue
        to = f"[{addresses[6]}]" if version == 6 else addresses[4]
        where = f"{family} daddr {port.address} " if port.address not in ("", "0.0.0.0", "::") else ""
        found.append(f"meta nfproto ipv{version} {where}{port.protocol} dport {port.host} dnat {family} to {to}:{port.inside}")
    return found


def names(network: Network) -> list[str]:
    """Return how questions for names reach who answers them, where the port for that is another's."""
    if network.dns_port in (0, 53):
        return []
    to = f"ip daddr {network.ipam.gateway}"
    return [f'iifname "{network.bridge}" {to} {protocol} dport 53 redirect to :{network.dns_port}' for protocol in ("udp", "tcp")]


def outwards(network: Network) -> list[str]:
    """Return what becomes of addresses on the way out of, or into, a network."""
    bridge, found = network.bridge, []
    # From the host's own 127.0.0.1, which nobody could answer.
    found.append(f'ip saddr 127.0.0.0/8 oifname "{bridge}" masquerade')
    for ipam, family in zip(network.ipams, ("ip", "ip6"), strict=False):
        # To a port of its own, published: else the answer would take the short way, and come from a stranger.
        found.append(f'{family} saddr {ipam.subnet} oifname "{bridge}" ct status dnat masquerade')
        if network.masquerades:
            found.append(f'{family} saddr {ipam.subnet} oifname != "{bridge}" masquerade')
    return found


def inner(network: Network) -> list[str]:
    """Return what an internal network is refused, and any is allowed among its own."""
    same = f'iifname "{network.bridge}" oifname "{network.bridge}" accept'
    return [same, f'iifname "{network.bridge}" drop', f'oifname "{network.bridge}" drop'] if network.internal else [same]


def apply(lines: list[str], sink: Sink | None = None) -> None:
    """Let the kernel have the table, all of it or nothing, if it has another one. Raises: NetworkError."""
    import zlib

    table, checksum = table_name(), zlib.crc32("\n".join(lines).encode())
    wanted = f"{checksum:08x}" if lines else None
    if comment_of(table) == wanted:
        return
    # A table is added first, as deleting one that is not there would be an error.
    script = [f"add table inet {table}", f"delete table inet {table}"]
    if lines:
        script += [f"table inet {table} {{", f'comment "{wanted}"', *lines, "}"]
    run_nft("\n".join(script) + "\n", sink)


def run_nft(script: str, sink: Sink | None) -> None:
    """Run nft(8). Raises: NetworkError."""
    import subprocess
    from time import monotonic_ns

    from minirt.network import rootless

    begin = monotonic_ns()
    try:
        if rootless.is_user():
            done = rootless.run(["nft", "-f", "-"], script)
        else:
            done = subprocess.run(["nft", "-f", "-"], input=script, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise NetworkError("no nft on this machine, which networks need: apt-get install nftables") from None
    if sink is not None:
        from minirt.trace import Event

        why = "who may reach whom, and which ports lead where: the whole table in one transaction"
        sink(Event("nft", ("-f", "-"), step="network", why=why, result=done.returncode, time=begin,
                   duration=monotonic_ns() - begin, change=tuple(script.splitlines())))  # fmt: skip
    if done.returncode:
        raise NetworkError(f"nft: {done.stderr.splitlines()[0] if done.stderr else done.returncode}")


def comment_of(table: str) -> str | None:
    """Return the comment of a table of family inet, None where there is no such table.

    Raises: KernelError. Source: linux/netfilter/nf_tables.h, NFT_MSG_GETTABLE
    """
    from errno import ENOENT, EPROTONOSUPPORT

    try:
        with open_socket() as netlink:
            body = struct.pack("=BBH", FAMILY, k.NFNETLINK_V0, 0) + rtnetlink.text(k.NFTA_TABLE_NAME, table)  # struct nfgenmsg
            kind = k.NFNL_SUBSYS_NFTABLES << 8 | k.NFT_MSG_GETTABLE
            (answer, *_) = rtnetlink.request(netlink.fileno(), kind, 0, body, f"looking for table {table}")
    except KernelError as error:
        if error.errno == ENOENT:
            return None
        raise
    except OSError as error:
        if error.errno == EPROTONOSUPPORT:
            raise NetworkError("this kernel has no nftables, which networks need") from None
        raise
    kept = dict(rtnetlink.parse(answer[4:])).get(k.NFTA_TABLE_USERDATA, b"")
    while len(kept) >= 2:  # type, length, data
        size = 2 + kept[1]
        if kept[0] == COMMENT:
            return kept[2:size].rstrip(b"\0").decode(errors="replace")
        kept = kept[size:]
    return ""


def open_socket() -> socket.socket:
    """Return a socket to nftables of the network namespace that bridges are in. Raises: OSError."""
    import socket

    from minirt.network import rootless

    kind = (k.AF_NETLINK, socket.SOCK_RAW, k.NETLINK_NETFILTER)
    if rootless.is_user() and rootless.holder():
        return socket.socket(fileno=rootless.sockets(kind)[0])
    return socket.socket(*kind)
