"""A running machine's memory: its balloon, and what is plugged in and out (firecracker.yaml, /balloon and /hotplug/memory)."""

from __future__ import annotations

from time import monotonic, sleep

from minivm.devices.virtio.mem import BLOCK
from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.balloon import Balloon
    from minivm.devices.virtio.mem import Mem
    from minivm.machine.machine import Machine

__all__ = ["aim", "config", "plugged", "request", "statistics"]

MIB = 1 << 20
PATIENCE = 0.5  # seconds for a guest to renew its statistics; one that is busy gives those of the last time


def _device(machine: Machine, name: str, flag: str) -> Any:
    """Return a device of the machine. Raises MinivmError where it has none."""
    for transport in machine.transports:
        if transport.name == f"virtio-{name}":
            return transport.device
    raise MinivmError(f"the machine has no virtio-{name}: make it with {flag}")


def balloon_of(machine: Machine) -> Balloon:
    """Return its balloon. Raises MinivmError where it has none."""
    balloon: Balloon = _device(machine, "balloon", "--balloon")
    return balloon


def hotplug_of(machine: Machine) -> Mem:
    """Return what memory is plugged into. Raises MinivmError where there is none."""
    mem: Mem = _device(machine, "mem", "--hotplug")
    return mem


def _amount(body: dict[str, Any], name: str, most: int) -> int:
    """Return the bytes that a request asks for in MiB. Raises MinivmError."""
    amount = body.get(name)
    if isinstance(amount, bool) or not isinstance(amount, int) or not 0 <= amount <= most // MIB:
        raise MinivmError(f"{name}: must be a whole number from 0 to {most // MIB}, not {amount!r}")
    return amount * MIB


def config(machine: Machine) -> dict[str, Any]:
    """Return what it is to be, in Firecracker's words."""
    return {"amount_mib": balloon_of(machine).aimed // MIB, "deflate_on_oom": True}


def aim(machine: Machine, body: dict[str, Any]) -> None:
    """Have it hold so many MiB. Raises MinivmError."""
    balloon_of(machine).aim(_amount(body, "amount_mib", machine.config.memory))


def plugged(machine: Machine) -> dict[str, Any]:
    """Return how much memory there may be beside that from the start, how much is to be, and is."""
    mem = hotplug_of(machine)
    sizes = {"total_size_mib": mem.size, "plugged_size_mib": mem.plugged, "requested_size_mib": mem.requested}
    return {name: size // MIB for name, size in sizes.items()} | {"block_size_mib": BLOCK // MIB}


def request(machine: Machine, body: dict[str, Any]) -> None:
    """Have the guest plug memory, or give some back, until it has so many MiB. Raises MinivmError."""
    mem = hotplug_of(machine)
    mem.request(_amount(body, "requested_size_mib", mem.size) // BLOCK * BLOCK)


def statistics(machine: Machine) -> dict[str, Any]:
    """Return how large it is to be and is, and the guest's own statistics: asked for now, unless it does not answer."""
    balloon = balloon_of(machine)
    balloon.ask()
    end = monotonic() + PATIENCE
    while not balloon.answered and monotonic() < end:
        sleep(0.002)
    pages = balloon.aimed // 4096
    sizes = {"target_pages": pages, "actual_pages": balloon.held, "target_mib": pages >> 8, "actual_mib": balloon.held >> 8}
    return sizes | balloon.statistics | {"dropped_bytes": balloon.dropped}
