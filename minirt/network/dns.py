"""What a question for a name is answered: who shares a network is known here, all else the host's resolvers know (RFC 1035).

    db, store (an alias), 3f2a9c0b1d2e, db.backend    ─▶ addresses of who is called so in a network of who asks
    2.0.89.10.in-addr.arpa                            ─▶ what the container with that address is called
    anything else                                     ─▶ passed on as it is: --dns of who asks, or the host's resolvers

Who asks is known by the address that the question comes from, so a container in two networks learns of both, from either.
The wire format is dnslib's: it is small and has no server of its own to fit into. Podman's aardvark-dns would be a second
program to install and to tell of each change, by files; this one reads the database where the names stand anyway.
"""

from __future__ import annotations

from ipaddress import ip_address

from minirt.network.addresses import Address
from minirt.network.names import servers_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.network.store import Endpoint, Network

__all__ = ["Names", "answer", "failure", "host_servers"]

TTL = 0  # s: an address may be another's in a moment
SMALL = 512  # bytes of an answer by UDP to who does not say that it takes more (RFC 1035 4.2.1)


class Names:
    """Who is called what, in which network.

    Args:
        network: the one that is answered for.
        networks: all there are.
        endpoints: all there are.
    """

    def __init__(self, network: str, networks: Iterable[Network], endpoints: Iterable[Endpoint]) -> None:
        self.network = network
        self.internal = {other.name for other in networks if other.internal}
        self.ends: dict[str, list[Endpoint]] = {}  # by network
        self.askers: dict[Address, Endpoint] = {}  # who has an address
        self.places: dict[str, list[str]] = {}  # networks of a container
        for end in endpoints:
            self.ends.setdefault(end.network, []).append(end)
            self.places.setdefault(end.container, []).append(end.network)
            for address in end.addresses:
                if end.network == network or address not in self.askers:
                    self.askers[address] = end

    def networks_of(self, asker: str) -> list[str]:
        """Return the networks that who asks is in: this one for a stranger."""
        end = self.askers.get(ip_address(asker))
        return self.places[end.container] if end is not None else [self.network]

    def lookup(self, name: str, asker: str) -> list[Address]:
        """Return the addresses that somebody of this name has, as who asks may know them; in turn, where several have it."""
        found: dict[Address, None] = {}
        for network in self.networks_of(asker):
            bare = name.removesuffix(f".{network.lower()}")
            for end in self.ends.get(network, ()):
                if bare in (own.lower() for own in (end.name, *end.aliases, end.container[:12])):
                    found |= dict.fromkeys(end.addresses)
        return list(found)

    def reverse(self, address: Address, asker: str) -> str:
        """Return what the container with an address is called, empty for nobody that who asks may know."""
        for network in self.networks_of(asker):
            for end in self.ends.get(network, ()):
                if address in end.addresses:
                    return f"{end.name}.{network}"
        return ""

    def servers(self, asker: str) -> list[str] | None:
        """Return who is asked for names of elsewhere: --dns of who asks, empty for the host's; None: nobody may be.

        Who is in internal networks alone cannot reach anything, and what he asks must not either.
        """
        if all(network in self.internal for network in self.networks_of(asker)):
            return None
        end = self.askers.get(ip_address(asker))
        return end.resolver.get("servers") or [] if end is not None else []


def answer(data: bytes, names: Names, asker: str, most: int = SMALL) -> bytes | None:
    """Return the answer to a question, None for one that is passed on. Raises: ValueError where it is no question.

    Args:
        data: the message.
        names: who is called what.
        asker: address of who asks.
        most: bytes that the answer may have; over TCP 65535.
    """
    from random import shuffle

    from dnslib import AAAA, PTR, QTYPE, RR, A, DNSRecord

    question = parse(data)
    name, kind = str(question.q.qname).rstrip(".").lower(), question.q.qtype
    reply: DNSRecord = question.reply(ra=1, aa=1)
    asked = pointed_at(name)
    if asked is not None:
        said = names.reverse(asked, asker)
        if not said:
            return None
        if kind in (QTYPE.PTR, QTYPE.ANY):
            reply.add_answer(RR(question.q.qname, QTYPE.PTR, rdata=PTR(said), ttl=TTL))
        return bytes(reply.pack())
    found = names.lookup(name, asker)
    if not found:
        return None
    shuffle(found)
    for address in found:
        wanted, data_of = (QTYPE.A, A) if address.version == 4 else (QTYPE.AAAA, AAAA)
        if kind in (wanted, QTYPE.ANY):
            reply.add_answer(RR(question.q.qname, wanted, rdata=data_of(str(address)), ttl=TTL))
    packed = bytes(reply.pack())
    if len(packed) > max([most, *(option.rclass for option in question.ar if option.rtype == QTYPE.OPT)]):
        packed = bytes(reply.truncate().pack())  # who asks comes again by TCP
    return packed


def parse(data: bytes) -> Any:
    """Return a message of one question. Raises: ValueError."""
    from dnslib import DNSRecord
    from dnslib.dns import DNSError

    try:
        question = DNSRecord.parse(data)
    except (DNSError, ValueError, IndexError, KeyError) as error:
        raise ValueError(f"no message: {error}") from None
    if question.header.qr or question.header.opcode or len(question.questions) != 1:
        raise ValueError("no question")
    return question


def failure(data: bytes) -> bytes:
    """Return the answer that says that none can be had (SERVFAIL). Raises: ValueError where it is no question."""
    from dnslib import RCODE

    reply = parse(data).reply(ra=1, aa=0)
    reply.header.rcode = RCODE.SERVFAIL
    return bytes(reply.pack())


def pointed_at(name: str) -> Address | None:
    """Return the address that a name like 2.0.89.10.in-addr.arpa asks for (RFC 1035 3.5, RFC 3596 2.5)."""
    try:
        if name.endswith(".in-addr.arpa"):
            return ip_address(".".join(reversed(name.removesuffix(".in-addr.arpa").split("."))))
        if name.endswith(".ip6.arpa"):
            digits = "".join(reversed(name.removesuffix(".ip6.arpa").split(".")))
            return ip_address(":".join(digits[i : i + 4] for i in range(0, 32, 4))) if len(digits) == 32 else None
    except ValueError:
        pass
    return None


def host_servers() -> list[str]:
    """Return the host's name servers, as they are now."""
    try:
        with open("/etc/resolv.conf", encoding="utf-8", errors="replace") as file:
            return servers_in(file.read())
    except OSError:
        return []
