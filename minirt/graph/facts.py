"""What the picture is of: which namespaces, cgroups, mounts, interfaces and ports there are, as the kernel says.

From minirt's own files comes only which containers there are, what they are called, and which process is the first of each;
all else is asked of the kernel now, so the picture shows what is, also where that is not what was asked for.

    /proc/PID/ns/*            two links with the same number are one namespace (man 7 namespaces)
    /proc/PID/mountinfo       mounts, and of the root the overlay with its layers (man 5 proc_pid_mountinfo)
    cgroup files              what each group uses (Documentation/admin-guide/cgroup-v2.rst)
    RTM_GETLINK, RTM_GETADDR  interfaces here, and in each network namespace by a socket made there
    nft -j list table         published ports
"""

from __future__ import annotations

import json
import os
import subprocess

from minirt.engine.container import Container, containers
from minirt.errors import MinirtError
from minirt.linux import mountinfo, rtnetlink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["KINDS", "collect"]

KINDS = ("user", "mnt", "pid", "uts", "ipc", "net", "cgroup", "time")
EVERYWHERE = ("/proc", "/dev", "/sys")  # below these every container has the same mounts


def collect() -> dict[str, Any]:
    """Return the facts as a JSON object: `host`, `containers`, `networks`, `groups`."""
    running = [container for container in containers() if container.running]
    host = namespaces("self")
    shown = [facts for container in running if (facts := of_container(container, host)) is not None]
    for one in shown:
        one["shares"] = shares(one, shown)
    networks = of_networks()
    links = host_links()
    tie(shown, links)
    return {
        "host": {"name": os.uname().nodename, "kernel": os.uname().release, "namespaces": host, "links": links},
        "containers": shown,
        "networks": networks,
        "ports": published(shown),
        "groups": group_tree([one["cgroup"] for one in shown if one["cgroup"]]),
    }


# -- a container ---------------------------------------------------------------------------------------------------------


def of_container(container: Container, host: dict[str, int]) -> dict[str, Any] | None:
    """Return what the kernel says of a container that runs, None of one that has ended meanwhile."""
    pid = container.state["pid"]
    try:
        own = namespaces(pid)
        mounts, layers = of_mounts(pid)
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
            program = plain(file.read().rstrip("\n"))
    except OSError:
        return None
    return {
        "id": container.id,
        "name": container.label,
        "image": str(container.state.get("image") or ""),
        "pid": pid,
        "program": program,
        "namespaces": {kind: {"number": number, "host": number == host.get(kind)} for kind, number in own.items()},
        "cgroup": usage(group.path) if (group := container.cgroup) is not None else None,
        "mounts": mounts,
        "layers": layers,
        "links": inner_links(container) if own.get("net") != host.get("net") else [],
    }


def namespaces(pid: int | str) -> dict[str, int]:
    """Return the number of each namespace that a process is in, by kind. Raises: OSError."""
    return {kind: os.stat(f"/proc/{pid}/ns/{kind}").st_ino for kind in KINDS if os.path.exists(f"/proc/{pid}/ns/{kind}")}


def shares(one: dict[str, Any], others: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return with whom a container shares namespaces that are not the host's, by kind."""
    return {
        kind: names for kind, space in one["namespaces"].items() if not space["host"]
        if (names := [o["name"] for o in others if o is not one and o["namespaces"].get(kind, {}).get("number") == space["number"]])
    }  # fmt: skip


def of_mounts(pid: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return a process's mounts, but those that every container has, and the layers of its root. Raises: OSError."""
    found: list[dict[str, Any]] = []
    layers: dict[str, Any] = {"upper": "", "lower": []}
    for mount in mountinfo.read(f"/proc/{pid}/mountinfo"):
        if mount.point == "/" and mount.kind == "overlay":
            words = dict(word.partition("=")[::2] for word in mount.superblock)
            layers = {"upper": words.get("upperdir", ""), "lower": words.get("lowerdir", "").split(":")}
        if mount.point != "/" and not mount.point.startswith(EVERYWHERE):
            shown = mount.root if mount.kind not in ("tmpfs", "proc", "sysfs", "devpts", "mqueue") else mount.source
            read_only = "ro" in mount.options
            found.append({"target": plain(mount.point), "type": mount.kind, "source": plain(shown), "read_only": read_only})
    return found, layers


def plain(text: str) -> str:
    """Return a text with what is no visible sign written out: a container's words are to draw nothing by themselves."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


# -- cgroups -------------------------------------------------------------------------------------------------------------


def usage(path: str) -> dict[str, Any]:
    """Return what a group uses; None for what is not counted here. Memory in bytes, processor time in microseconds."""
    cpu = dict(line.split() for line in read(f"{path}/cpu.stat").splitlines() if line.count(" ") == 1)
    limit = read(f"{path}/memory.max")
    return {
        "path": path,
        "memory": number(read(f"{path}/memory.current")),
        "limit": number(limit),
        "processes": len(read(f"{path}/cgroup.procs").split()),
        "pids": number(read(f"{path}/pids.current")),
        "cpu": number(cpu.get("usage_usec", "")),
        "frozen": "frozen 1" in read(f"{path}/cgroup.events"),
    }


def read(path: str) -> str:
    """Return a file's text, nothing where it is not there."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def number(text: str) -> int | None:
    """Return a number, None for `max` and for nothing."""
    return int(text) if text.isdecimal() else None


def group_tree(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the groups' common ancestors and them, as a tree: what a parent uses has its children's in it."""
    from minirt.linux.cgroup_tree import find_mount

    top = find_mount()
    trees: dict[str, dict[str, Any]] = {}
    for group in groups:
        words = group["path"].removeprefix(top).strip("/").split("/")
        node = trees.setdefault(top, {**usage(top), "name": top, "children": []})
        path = top
        for word in words:
            path = f"{path}/{word}"
            child = next((one for one in node["children"] if one["path"] == path), None)
            if child is None:
                child = {**usage(path), "name": word, "children": []}
                node["children"].append(child)
            node = child
    return list(trees.values())


# -- networks ------------------------------------------------------------------------------------------------------------


def host_links() -> list[dict[str, Any]]:
    """Return the interfaces of this network namespace, with their addresses and which bridge each is at."""
    fd = rtnetlink.open_socket()
    try:
        return links_of(fd)
    finally:
        os.close(fd)


def inner_links(container: Container) -> list[dict[str, Any]]:
    """Return the interfaces of a container, but lo; none where we may not enter."""
    from minirt.engine.networks import inside

    try:
        with inside(container) as (_, fd):
            return [link for link in links_of(fd) if link["name"] != "lo"]
    except MinirtError:
        return []


def links_of(fd: int) -> list[dict[str, Any]]:
    """Return the interfaces of the namespace that a socket is of."""
    links = rtnetlink.links(fd)
    names = {link.index: link.name for link in links.values()}
    return [
        {
            "name": link.name, "index": link.index, "kind": link.kind, "up": bool(link.flags & 1), "hardware": link.hardware,
            "bridge": names.get(link.master, ""), "peer": link.peer, "addresses": addresses(fd, link.index),
            "end": None, "shared": False,
        }
        for link in links.values()
    ]  # fmt: skip


def addresses(fd: int, index: int) -> list[str]:
    """Return an interface's addresses as `10.89.0.2/24`."""
    from ipaddress import ip_address

    found = []
    for address in rtnetlink.addresses(fd, index):
        data = next(iter(address.attributes.values()), b"")
        found.append(f"{ip_address(data)}/{address.prefix}")
    return found


def tie(shown: list[dict[str, Any]], links: list[dict[str, Any]]) -> None:
    """Note at each end of a pair where the other is: each knows the other's number in the other's namespace.

    Numbers are of a namespace, and many containers have an interface 2: so both must point at each other.
    """
    by_index = {link["index"]: link for link in links}
    for one in shown:
        for link in one["links"]:
            other = by_index.get(link["peer"])
            if other is not None and link["kind"] == "veth" and other["peer"] == link["index"]:
                link["end"], link["shared"] = other["name"], other["end"] is not None  # two may share a namespace
                other["end"] = other["end"] or {"container": one["name"], "name": link["name"]}


def of_networks() -> list[dict[str, Any]]:
    """Return the networks that are written down: which bridge is whose."""
    from minirt.network.store import Store

    with Store(look=True) as store:
        return [
            {"name": network.name, "driver": network.driver, "bridge": network.bridge, "internal": network.internal,
             "subnets": [str(ipam.subnet) for ipam in network.ipams]}
            for network in store.networks()
        ]  # fmt: skip


def published(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the ports of the host that nftables leads to containers."""
    owners = {address.partition("/")[0]: one["name"] for one in shown for link in one["links"] for address in link["addresses"]}
    found = []
    for rule in nft_rules():
        port = parse_rule(rule)
        if port is not None and port["to"] in owners:
            found.append({**port, "container": owners[port["to"]]})
    return found


def nft_rules() -> list[list[dict[str, Any]]]:
    """Return the expressions of each rule of our table; none where there is no such table, or none may look."""
    from minirt.network.firewall import table_name

    try:
        done = subprocess.run(["nft", "-j", "list", "table", "inet", table_name()], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return []
    if done.returncode:
        return []
    return [entry["rule"]["expr"] for entry in json.loads(done.stdout)["nftables"] if "rule" in entry]


def parse_rule(rule: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return a rule with dnat as host address and port, and where they lead; None of another rule (man 5 libnftables-json)."""
    dnat = next((part["dnat"] for part in rule if "dnat" in part), None)
    if dnat is None:
        return None
    matches = [part["match"] for part in rule if "match" in part]
    fields = [(match["left"]["payload"], match["right"]) for match in matches if "payload" in match["left"]]
    port = next(((left["protocol"], right) for left, right in fields if left.get("field") == "dport"), ("", 0))
    address = next((right for left, right in fields if left.get("field") == "daddr"), "")
    inside = dnat.get("port", port[1])
    return {"address": str(address), "port": port[1], "protocol": port[0], "to": str(dnat["addr"]), "inside": inside}
