"""What the namespaces hold besides files: the host name, kernel settings, the loopback interface."""

from __future__ import annotations

import struct

from minirt.errors import MinirtError
from minirt.linux import constants as k
from minirt.oci import procfs
from minirt.oci.step import Context, step
from minirt.plan import Plan, Slot

__all__ = ["hostname", "loopback", "net_devices", "network", "sysctl_path", "sysctls"]


@step("hostname", "namespaces", why="give the container a name of its own")
def hostname(p: Plan, c: Context) -> None:
    """Only in a UTS namespace that config.json names, new or joined: else the host would be renamed."""
    if not any(namespace["type"] == "uts" for namespace in c.linux.get("namespaces") or ()):
        return
    if c.config.get("hostname"):
        p.sethostname(c.config["hostname"], why="only this UTS namespace is renamed (man 7 uts_namespaces)")
    if c.config.get("domainname"):
        p.setdomainname(c.config["domainname"])


@step("sysctls", "pivot_root", "proc", why="set kernel settings that belong to these namespaces")
def sysctls(p: Plan, c: Context) -> None:
    """Through the container's own /proc/sys, before it becomes read-only (runtime-spec config-linux.md#sysctl)."""
    wanted = c.linux.get("sysctl")
    if not wanted:
        return
    proc = procfs.open_proc(p, c)
    for name, value in wanted.items():
        procfs.write(p, proc, "sys/" + sysctl_path(name), str(value), why=f"{name} = {value}")
    p.close(proc)


def sysctl_path(name: str) -> str:
    """Return a sysctl's path below /proc/sys. Whichever of `.` and `/` comes first is what separates (man 5 sysctl.d).

    So `net.ipv4.conf.eth0/100.forwarding` and `net/ipv4/conf/eth0.100/forwarding` are one and the same.
    """
    dot, slash = name.find("."), name.find("/")
    if dot < 0 or 0 <= slash < dot:
        return name
    return name.translate({ord("."): "/", ord("/"): "."})


@step("netdevices", "namespaces", why="move network interfaces of the host into the container")
def net_devices(p: Plan, c: Context) -> None:
    """Only from outside: the parent moves them, and names them by a socket of the container's network namespace."""
    if not c.linux.get("netDevices"):
        return
    if not any(ns["type"] == "network" for ns in c.linux.get("namespaces") or ()):
        raise MinirtError("config.json: linux.netDevices: the container has the host's network, where they are already")
    fd = Slot("rtnetlink")
    p.socket(k.AF_NETLINK, k.SOCK_RAW | k.SOCK_CLOEXEC, k.NETLINK_ROUTE, store=fd, why="man 7 rtnetlink")
    p.barrier("netdevices", give=fd, why="minirt moves them here, gives them their addresses back, and sets them up")
    p.close(fd)


@step("network", "namespaces", why="lead a network into the container")
def network(p: Plan, c: Context) -> None:
    """One end of a pair of interfaces comes from the parent, which then sets it up through a socket made in here."""
    if not c.network:
        return
    fd = Slot("rtnetlink")
    p.socket(k.AF_NETLINK, k.SOCK_RAW | k.SOCK_CLOEXEC, k.NETLINK_ROUTE, store=fd, why="it acts where it was made (man 7 netlink)")
    p.barrier("network", give=fd, why="minirt makes a veth pair from the bridge to here, with an address and a way out")
    p.close(fd)


@step("loopback", "namespaces", why="let programs in the container talk to each other over 127.0.0.1",
      common=lambda c: "network" in c.fresh)  # fmt: skip
def loopback(p: Plan, c: Context) -> None:
    """A new network namespace has the loopback interface alone, and that is down (man 7 network_namespaces)."""
    if "network" not in c.fresh:
        return
    fd = Slot("socket")
    request = struct.pack("16sH14x8x", b"lo", k.IFF_UP | k.IFF_RUNNING)  # struct ifreq
    p.socket(k.AF_INET, k.SOCK_DGRAM | k.SOCK_CLOEXEC, 0, store=fd)
    p.ioctl(fd, k.SIOCSIFFLAGS, request, why="interface lo up (man 7 netdevice)")
    p.close(fd)
