"""What the namespaces hold besides files: the host name, kernel settings, the loopback interface."""

from __future__ import annotations

import struct

from minirt.linux import constants as k
from minirt.oci.step import Context, step
from minirt.plan import Plan, Slot

__all__ = ["hostname", "loopback", "sysctls"]


@step("hostname", "namespaces", why="give the container a name of its own")
def hostname(p: Plan, c: Context) -> None:
    """Only in a UTS namespace of its own: else the host would be renamed."""
    if "uts" not in c.fresh:
        return
    if c.config.get("hostname"):
        p.sethostname(c.config["hostname"], why="only this UTS namespace is renamed (man 7 uts_namespaces)")
    if c.config.get("domainname"):
        p.setdomainname(c.config["domainname"])


@step("sysctls", "pivot_root", "proc", why="set kernel settings that belong to these namespaces")
def sysctls(p: Plan, c: Context) -> None:
    """Through the container's own /proc/sys, before it becomes read-only (runtime-spec config-linux.md#sysctl)."""
    for name, value in (c.linux.get("sysctl") or {}).items():
        fd = Slot(name)
        text = str(value).encode()
        p.openat(k.AT_FDCWD, "/proc/sys/" + name.replace(".", "/"), k.O_WRONLY | k.O_CLOEXEC, store=fd)
        p.write(fd, text, len(text), why=f"{name} = {value}")
        p.close(fd)


@step("loopback", "namespaces", why="let programs in the container talk to each other over 127.0.0.1")
def loopback(p: Plan, c: Context) -> None:
    """A new network namespace has the loopback interface alone, and that is down (man 7 network_namespaces)."""
    if "network" not in c.fresh:
        return
    fd = Slot("socket")
    request = struct.pack("16sH14x8x", b"lo", k.IFF_UP | k.IFF_RUNNING)  # struct ifreq
    p.socket(k.AF_INET, k.SOCK_DGRAM | k.SOCK_CLOEXEC, 0, store=fd)
    p.ioctl(fd, k.SIOCSIFFLAGS, request, why="interface lo up (man 7 netdevice)")
    p.close(fd)
