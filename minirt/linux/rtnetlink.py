"""Network interfaces by rtnetlink: made, moved between network namespaces, given addresses and routes there.

A netlink socket belongs to the namespace that it was made in: so each function takes the socket of the namespace it works in.
A container's network is half a dozen of these messages: pyroute2, which has words for all that netlink knows, takes longer to
import than all of them to be answered, so it serves where one looks around (minirt.network.bridge).

Source: man 7 rtnetlink
"""

from __future__ import annotations

import os
import struct
import sys

from minirt.errors import KernelError
from minirt.linux import constants as k
from minirt.linux.direct import syscall

__all__ = [
    "Address", "Link", "add_address", "add_child", "add_default_route", "add_pair", "addresses", "attribute", "find", "indexes",
    "let_back", "links", "move", "open_socket", "parse", "remove", "request", "set_up",
]  # fmt: skip

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length type flags sequence port
LINK = struct.Struct("=BxHiII")  # struct ifinfomsg: family type index flags change
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family prefix flags scope index


class Address:
    """One address of an interface, as rtnetlink has it."""

    __slots__ = ("attributes", "family", "flags", "prefix", "scope")

    def __init__(self, family: int, prefix: int, flags: int, scope: int, attributes: dict[int, bytes]) -> None:
        self.family = family
        self.prefix = prefix  # bits
        self.flags = flags  # IFA_F_*, u32
        self.scope = scope  # RT_SCOPE_*
        self.attributes = attributes  # IFA_LOCAL and IFA_ADDRESS, in network byte order


class Link:
    """One interface, as the body of an answer to RTM_GETLINK tells it."""

    __slots__ = ("flags", "hardware", "index", "kind", "master", "name", "peer")

    def __init__(self, answer: bytes) -> None:
        parts = dict(parse(answer[LINK.size :]))
        _, _, self.index, self.flags, _ = LINK.unpack_from(answer)  # IFF_*
        self.name = word(parts.get(k.IFLA_IFNAME, b""))
        self.master = int.from_bytes(parts.get(k.IFLA_MASTER, b""), sys.byteorder)  # the index of its bridge; 0: none
        self.peer = int.from_bytes(parts.get(k.IFLA_LINK, b""), sys.byteorder)  # of the other end, or of whose wire it has
        self.hardware = ":".join(f"{byte:02x}" for byte in parts.get(k.IFLA_ADDRESS, b""))  # MAC address
        self.kind = word(dict(parse(parts.get(k.IFLA_LINKINFO, b""))).get(k.IFLA_INFO_KIND, b""))  # veth ...; a card: none


def word(data: bytes) -> str:
    """Return an attribute that is text."""
    return data.rstrip(b"\0").decode(errors="surrogateescape")


def open_socket() -> int:
    """Return a rtnetlink socket of this process's network namespace, the caller's to close."""
    fd = syscall(k.SYS_socket, k.AF_NETLINK, k.SOCK_RAW | k.SOCK_CLOEXEC, k.NETLINK_ROUTE)
    if fd < 0:
        raise KernelError(-fd, f"socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE): {os.strerror(-fd)}")
    return fd


def find(fd: int, name: str) -> int:
    """Return an interface's index by its name; 0 where there is none. Raises: KernelError."""
    from errno import ENODEV

    try:
        answers = request(fd, k.RTM_GETLINK, 0, LINK.pack(0, 0, 0, 0, 0) + text(k.IFLA_IFNAME, name), f"interface {name}")
    except KernelError as error:
        if error.errno == ENODEV:
            return 0
        raise
    index: int = LINK.unpack_from(answers[0])[2]
    return index


def indexes(fd: int) -> set[int]:
    """Return the indexes of all interfaces of a namespace. Raises: KernelError."""
    return {
        LINK.unpack_from(answer)[2] for answer in request(fd, k.RTM_GETLINK, k.NLM_F_DUMP, LINK.pack(0, 0, 0, 0, 0), "interfaces")
    }


def links(fd: int) -> dict[str, Link]:
    """Return all interfaces of a namespace, by name. Raises: KernelError."""
    answers = request(fd, k.RTM_GETLINK, k.NLM_F_DUMP, LINK.pack(0, 0, 0, 0, 0), "interfaces")
    return {link.name: link for link in map(Link, answers)}


def addresses(fd: int, index: int) -> list[Address]:
    """Return what survives a move: permanent addresses of global scope, of every family. Raises: KernelError."""
    found = []
    for answer in request(fd, k.RTM_GETADDR, k.NLM_F_DUMP, ADDRESS.pack(0, 0, 0, 0, 0), "addresses"):
        family, prefix, flags, scope, owner = ADDRESS.unpack_from(answer)
        attributes = dict(parse(answer[ADDRESS.size :]))
        if k.IFA_FLAGS in attributes:
            (flags,) = struct.unpack("=I", attributes[k.IFA_FLAGS])  # the header has only 8 bits
        if owner == index and flags & k.IFA_F_PERMANENT and scope == k.RT_SCOPE_UNIVERSE:
            kept = {key: attributes[key] for key in (k.IFA_LOCAL, k.IFA_ADDRESS) if key in attributes}
            found.append(Address(family, prefix, flags, scope, kept))
    return found


def move(fd: int, index: int, name: str, namespace: int) -> None:
    """Move an interface to another network namespace and name it there, in one message.

    Args:
        fd: socket of the namespace that it is in.
        index: the interface's.
        name: there; `%d` in it becomes the first free number.
        namespace: int fd of the network namespace (/proc/PID/ns/net).

    Raises: KernelError.
    """
    body = LINK.pack(0, 0, index, 0, 0) + attribute(k.IFLA_NET_NS_FD, struct.pack("=I", namespace)) + text(k.IFLA_IFNAME, name)
    request(fd, k.RTM_NEWLINK, k.NLM_F_ACK, body, f"moving an interface as {name}")


def add_pair(fd: int, name: str, master: int, peer: str, namespace: int, hardware: bytes, mtu: int = 0) -> None:
    """Make a pair of interfaces, one here, up and at a bridge, the other in another network namespace (man 4 veth).

    Args:
        fd: socket of the namespace that the bridge is in.
        name: of the end here.
        master: the bridge's index.
        peer: name of the other end.
        namespace: int fd of the network namespace that it is made in.
        hardware: its MAC address, 6 bytes.
        mtu: bytes, of both ends; 0: the kernel's choice.

    Raises: KernelError; EEXIST where there is an interface of the name.
    """
    size = attribute(k.IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
    other = LINK.pack(0, 0, 0, 0, 0) + text(k.IFLA_IFNAME, peer) + attribute(k.IFLA_ADDRESS, hardware) + size
    other += attribute(k.IFLA_NET_NS_FD, struct.pack("=I", namespace))
    body = LINK.pack(0, 0, 0, k.IFF_UP, k.IFF_UP) + text(k.IFLA_IFNAME, name) + attribute(k.IFLA_MASTER, struct.pack("=I", master))
    body += size + kind("veth", attribute(k.VETH_INFO_PEER, other))
    request(fd, k.RTM_NEWLINK, k.NLM_F_ACK | k.NLM_F_CREATE | k.NLM_F_EXCL, body, f"making the pair {name}, {peer}")


def add_child(
    fd: int, driver: str, data: bytes, parent: int, name: str, namespace: int, hardware: bytes = b"", mtu: int = 0
) -> None:
    """Make an interface that shares another one's wire, in another network namespace: macvlan, ipvlan (man 8 ip-link).

    Args:
        fd: socket of the namespace that the parent is in.
        driver: macvlan or ipvlan.
        data: attributes of the driver's own.
        parent: the other's index.
        name: of the new one.
        namespace: int fd of the network namespace that it is made in.
        hardware: its MAC address; none for ipvlan, which has the parent's.
        mtu: bytes; 0: the kernel's choice.

    Raises: KernelError.
    """
    body = LINK.pack(0, 0, 0, 0, 0) + text(k.IFLA_IFNAME, name) + attribute(k.IFLA_LINK, struct.pack("=I", parent))
    body += attribute(k.IFLA_ADDRESS, hardware) if hardware else b""
    body += attribute(k.IFLA_MTU, struct.pack("=I", mtu)) if mtu else b""
    body += attribute(k.IFLA_NET_NS_FD, struct.pack("=I", namespace)) + kind(driver, data)
    request(fd, k.RTM_NEWLINK, k.NLM_F_ACK | k.NLM_F_CREATE | k.NLM_F_EXCL, body, f"making {driver} {name}")


def kind(driver: str, data: bytes) -> bytes:
    """Return the attribute that says which driver a new interface is of, and what that is told."""
    return attribute(k.IFLA_LINKINFO, text(k.IFLA_INFO_KIND, driver) + attribute(k.IFLA_INFO_DATA, data))


def let_back(fd: int, name: str) -> None:
    """Let a bridge send frames back to the port that they came from: hairpin mode (man 8 ip-link). Raises: KernelError.

    Args:
        fd: socket of the bridge's namespace.
        name: of the interface that is the port.
    """
    data = attribute(k.IFLA_BRPORT_MODE, b"\1")
    info = attribute(k.IFLA_LINKINFO, text(k.IFLA_INFO_SLAVE_KIND, "bridge") + attribute(k.IFLA_INFO_SLAVE_DATA, data))
    request(fd, k.RTM_NEWLINK, k.NLM_F_ACK, LINK.pack(0, 0, 0, 0, 0) + text(k.IFLA_IFNAME, name) + info, f"hairpin mode of {name}")


def remove(fd: int, name: str) -> bool:
    """Remove an interface, and with it the other end of a pair. Returns whether there was one. Raises: KernelError."""
    from errno import EINVAL, ENODEV

    try:
        request(fd, k.RTM_DELLINK, k.NLM_F_ACK, LINK.pack(0, 0, 0, 0, 0) + text(k.IFLA_IFNAME, name), f"removing {name}")
    except KernelError as error:
        if error.errno in (ENODEV, EINVAL):  # EINVAL: it is about to go with its namespace
            return False
        raise
    return True


def set_up(fd: int, index: int) -> None:
    """Set an interface up. Raises: KernelError."""
    request(fd, k.RTM_NEWLINK, k.NLM_F_ACK, LINK.pack(0, 0, index, k.IFF_UP, k.IFF_UP), f"setting interface {index} up")


def add_address(fd: int, index: int, address: Address) -> None:
    """Give an interface an address. Raises: KernelError."""
    body = ADDRESS.pack(address.family, address.prefix, address.flags & 0xFF, address.scope, index)
    body += attribute(k.IFA_FLAGS, struct.pack("=I", address.flags))
    body += b"".join(attribute(key, value) for key, value in address.attributes.items())
    flags = k.NLM_F_ACK | k.NLM_F_CREATE | k.NLM_F_EXCL
    request(fd, k.RTM_NEWADDR, flags, body, f"giving interface {index} its address back")


def add_default_route(fd: int, index: int, gateway: bytes) -> None:
    """Lead what is for no other network to a gateway (struct rtmsg). Raises: KernelError.

    Args:
        fd: socket of the namespace.
        index: of the interface that leads to the gateway.
        gateway: its address, 4 bytes of IPv4 or 16 of IPv6 in network byte order.
    """
    family = k.AF_INET if len(gateway) == 4 else k.AF_INET6
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, k.RT_TABLE_MAIN, k.RTPROT_BOOT, k.RT_SCOPE_UNIVERSE, k.RTN_UNICAST, 0)
    body += attribute(k.RTA_GATEWAY, gateway) + attribute(k.RTA_OIF, struct.pack("=I", index))
    request(fd, k.RTM_NEWROUTE, k.NLM_F_ACK | k.NLM_F_CREATE | k.NLM_F_EXCL, body, "adding the default route")


# -- messages ------------------------------------------------------------------------------------------------


def attribute(kind: int, data: bytes) -> bytes:
    """Return a struct rtattr: length, type, data, padded to 4 bytes."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def text(kind: int, data: str) -> bytes:
    """Return an attribute that holds text."""
    return attribute(kind, data.encode(errors="surrogateescape") + b"\0")


def parse(data: bytes) -> list[tuple[int, bytes]]:
    """Return (type, data) of each struct rtattr in a row; a damaged one ends it."""
    found = []
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        if not 4 <= length <= len(data):
            break
        found.append((kind & 0x3FFF, data[4:length]))
        data = data[(length + 3) & ~3 :]
    return found


def send(fd: int, message: bytes) -> None:
    """Send a message to the kernel. Raises: OSError.

    With its address, which is port 0: then only who sends it has to have the rights that it takes; else who opened the socket
    too, and that may be somebody in another user namespace (linux net/netlink/af_netlink.c, __netlink_ns_capable).
    """
    kernel = struct.pack("=HHII", k.AF_NETLINK, 0, 0, 0)  # struct sockaddr_nl: family, padding, port, groups
    sent = syscall(k.SYS_sendto, fd, message, len(message), 0, kernel, len(kernel))
    if sent < 0:
        raise OSError(-sent, os.strerror(-sent))


def request(fd: int, kind: int, flags: int, body: bytes, what: str) -> list[bytes]:
    """Send one message and return the bodies of the answers. Raises: KernelError with the kernel's errno."""
    send(fd, HEADER.pack(HEADER.size + len(body), kind, flags | k.NLM_F_REQUEST, 1, 0) + body)
    answers: list[bytes] = []
    more = True
    while more:
        data = os.read(fd, 1 << 18)
        more = bool(flags & k.NLM_F_DUMP)
        while len(data) >= HEADER.size:
            length, answer, _, _, _ = HEADER.unpack_from(data)
            part, data = data[HEADER.size : length], data[(length + 3) & ~3 :]
            if answer == k.NLMSG_DONE:
                return answers
            if answer == k.NLMSG_ERROR:
                errno = -struct.unpack_from("=i", part)[0]
                if errno:
                    raise KernelError(errno, f"rtnetlink, {what}: {os.strerror(errno)}")
                return answers
            answers.append(part)
    return answers
