"""What the values of a machine file must be that their kinds (document.py) do not say: names that the host takes, sizes that fit
into each other, and what needs something else. The flags of `minivm run` have the same rules (cli/config.py, machine/devices.py).
"""

from __future__ import annotations

from minivm.boot.layout import VIRTIO_INTERRUPTS
from minivm.errors import UsageError
from minivm.machine.config import HOTPLUG_BLOCK, host_memory, parse_affinity
from minivm.machine.devices import (
    LEGACY_KINDS,
    MOST_PORTS,
    is_mac,
    is_port_name,
    is_socket_path,
    is_tag,
    is_tap_name,
    is_vsock_path,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    Fault = tuple[str, str]  # path of a field, and what is wrong with it

__all__ = ["faults"]

MIB = 1 << 20
BLOCK = HOTPLUG_BLOCK // MIB
VIRTIO = ("drives", "network-interfaces", "vsock", "balloon", "memory-hotplug")
KINDS = {  # what asks for a virtio device, and for which
    "drives": "blk", "network-interfaces": "net", "vsock": "vsock", "balloon": "balloon", "memory-hotplug": "mem",
    "entropy": "rng", "minivm.ports": "console", "minivm.console": "console", "minivm.shares": "fs",
}  # fmt: skip


def faults(document: dict[str, Any]) -> Iterator[Fault]:
    """Yield what is wrong in a document whose fields are all of their kinds."""
    ours = document.get("minivm") or {}
    yield from _machine(document["machine-config"], ours)
    yield from _cards(document.get("network-interfaces") or [])
    yield from _sockets(document.get("vsock") or {}, ours.get("ports") or [])
    yield from _memory(document, ours)
    yield from _roots(document.get("drives") or [], ours)
    for number, share in enumerate(ours.get("shares") or []):
        if not is_tag(share["tag"]):
            yield f"minivm.shares[{number}].tag", "must have 1 to 36 bytes, and no comma"
    needs = [name for name in VIRTIO if document.get(name)] + ["entropy"] * (document.get("entropy") is not None)
    needs += [f"minivm.{name}" for name in ("ports", "shares") if ours.get(name)]
    needs += ["minivm.console"] * (ours.get("console") == "virtio")
    count = sum(len(value) if isinstance(value := document.get(name), list) else bool(value) for name in VIRTIO)
    count += (document.get("entropy") is not None) + len(ours.get("shares") or [])
    count += bool(ours.get("ports") or ours.get("console") == "virtio")
    if count > len(VIRTIO_INTERRUPTS):
        yield needs[0], f"with them there are {count} virtio devices; {len(VIRTIO_INTERRUPTS)} have an interrupt"
    if ours.get("irqchip") == "none" and needs:
        yield "minivm.irqchip", f"must be kernel for {needs[0]}: virtio devices interrupt through the IOAPIC"
    newer = [name for name in needs if KINDS[name] not in LEGACY_KINDS]
    if ours.get("virtio") == "legacy" and newer:
        yield "minivm.virtio", f"must be modern for {newer[0]}: that device has no legacy interface"


def _machine(machine: dict[str, Any], ours: dict[str, Any]) -> Iterator[Fault]:
    size, most = machine["mem_size_mib"], host_memory() // MIB
    if size > most:
        yield "machine-config.mem_size_mib", f"{size} is more than this host has ({most})"
    count, lists = machine["vcpu_count"], len(ours.get("cpu_affinity") or [])
    for number, text in enumerate(ours.get("cpu_affinity") or []):
        try:
            parse_affinity(text)
        except UsageError as error:
            yield f"minivm.cpu_affinity[{number}]", str(error)
    if count > 1 and ours.get("irqchip") == "none":
        yield "minivm.irqchip", f"must be kernel for {count} processors: they start each other through their local APICs"
    if lists > 1 and lists != count:
        yield "minivm.cpu_affinity", f"must have one list, or one for each of {count} processors"


def _cards(cards: list[dict[str, Any]]) -> Iterator[Fault]:
    for number, card in enumerate(cards):
        tap, mac = card.get("host_dev_name"), card.get("guest_mac")
        if tap and not is_tap_name(tap):
            yield f"network-interfaces[{number}].host_dev_name", "must be the name of a tap: at most 15 bytes, and no /"
        if mac and not is_mac(mac):
            yield f"network-interfaces[{number}].guest_mac", "must be six bytes, the first of them even: 52:54:00:12:34:56"


def _sockets(vsock: dict[str, Any], ports: list[dict[str, Any]]) -> Iterator[Fault]:
    if vsock and not is_vsock_path(vsock["uds_path"]):
        yield "vsock.uds_path", "with _PORT behind it, must not be longer than the 107 bytes that a socket's name may have"
    if len(ports) > MOST_PORTS:
        yield "minivm.ports", f"{len(ports)} ports are too many; {MOST_PORTS} is the most"
    for number, port in enumerate(ports):
        if not is_port_name(port["name"]):
            yield f"minivm.ports[{number}].name", "must be a name without a /"
        if not is_socket_path(port["path"]):
            yield f"minivm.ports[{number}].path", "must have 1 to 107 bytes: it is a socket's name"


def _memory(document: dict[str, Any], ours: dict[str, Any]) -> Iterator[Fault]:
    """What comes and goes beside the memory from the start, and what a balloon takes of that."""
    balloon, hotplug, plugged = document.get("balloon"), document.get("memory-hotplug"), ours.get("plugged_mib") or 0
    if balloon and balloon["amount_mib"] > document["machine-config"]["mem_size_mib"]:
        yield "balloon.amount_mib", "must not be more than machine-config.mem_size_mib"
    if hotplug and hotplug["total_size_mib"] % BLOCK:
        yield "memory-hotplug.total_size_mib", f"must be a multiple of {BLOCK}"
    if plugged and not hotplug:
        yield "minivm.plugged_mib", "needs memory-hotplug"
    elif plugged % BLOCK or plugged > (hotplug or {}).get("total_size_mib", 0):
        yield "minivm.plugged_mib", f"must be a multiple of {BLOCK}, and not more than memory-hotplug.total_size_mib"


def _roots(drives: list[dict[str, Any]], ours: dict[str, Any]) -> Iterator[Fault]:
    """At most one root, and one for what runs there."""
    roots = [f"drives[{number}].is_root_device" for number, drive in enumerate(drives) if drive.get("is_root_device")]
    if len(roots) > 1:
        yield roots[1], f"{roots[0].partition('.')[0]} is the root already"
    for name in ("init", "program", "modules_directory"):
        if ours.get(name) and not roots and not ours.get("root_directory"):
            yield f"minivm.{name}", "needs a root: a drive that is_root_device, or minivm.root_directory"
    if ours.get("init"):
        import shlex

        try:
            shlex.split(ours["init"])
        except ValueError as error:
            yield "minivm.init", f"is no command: {error}"
    if ours.get("program") and not ours["program"]["args"]:
        yield "minivm.program.args", "must name a program"
