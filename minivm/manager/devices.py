"""Drives and network cards of a document as a machine's devices (minivm/machine/devices.py), and back."""

from __future__ import annotations

import os

from minivm.machine.devices import Disk, Net

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["card_of", "disk_of", "drive_of", "net_of"]

SECOND = 1000  # ms


def disk_of(drive: dict[str, Any]) -> Disk:
    """Return the disk that a drive means."""
    ours, limits = drive.get("minivm") or {}, drive.get("rate_limiter") or {}
    return Disk(
        drive["path_on_host"],
        bool(drive.get("is_read_only")),
        ours.get("queues") or 1,
        overlay=ours.get("overlay"),
        form=ours.get("format") or "raw",
        base=ours.get("base") or "",
        rate=_rate(limits.get("bandwidth")),
        requests=_rate(limits.get("ops")),
    )


def drive_of(number: int, disk: Disk, is_root: bool) -> dict[str, Any]:
    """Return a disk as a drive; `number` makes its id."""
    drive: dict[str, Any] = {
        "drive_id": "root" if is_root else f"disk{number}",
        "path_on_host": os.path.abspath(disk.path),
        "is_root_device": is_root,
        "is_read_only": disk.read_only,
    }
    ours: dict[str, Any] = {"format": disk.form} if disk.form != "raw" else {}
    if disk.queues != 1:
        ours["queues"] = disk.queues
    if disk.overlay is not None:
        ours["overlay"] = os.path.abspath(disk.overlay) if disk.overlay else ""
    if disk.base:
        ours["base"] = os.path.abspath(disk.base)
    limits = {name: _bucket(rate) for name, rate in (("bandwidth", disk.rate), ("ops", disk.requests)) if rate}
    return drive | ({"minivm": ours} if ours else {}) | ({"rate_limiter": limits} if limits else {})


def net_of(card: dict[str, Any]) -> Net:
    """Return the card that a network interface means; rx is into the guest."""
    incoming, outgoing = (_rate((card.get(f"{way}_rate_limiter") or {}).get("bandwidth")) for way in ("rx", "tx"))
    return Net(card.get("host_dev_name") or "", mac=card.get("guest_mac") or "", incoming=incoming, outgoing=outgoing)


def card_of(number: int, net: Net) -> dict[str, Any]:
    """Return a card as a network interface; `number` makes its id."""
    card: dict[str, Any] = {"iface_id": f"eth{number}"}
    for name, value in (("host_dev_name", net.tap), ("guest_mac", net.mac)):
        if value:
            card[name] = value
    for way, rate in (("rx", net.incoming), ("tx", net.outgoing)):
        if rate:
            card[f"{way}_rate_limiter"] = {"bandwidth": _bucket(rate)}
    return card


def _rate(bucket: dict[str, int] | None) -> int:
    """Return how many tokens a second a bucket gives; 0 is no limit."""
    return max(1, bucket["size"] * SECOND // bucket["refill_time"]) if bucket else 0


def _bucket(rate: int) -> dict[str, int]:
    return {"size": rate, "refill_time": SECOND}
