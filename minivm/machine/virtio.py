"""The virtio devices of a machine, each behind its registers: from what the configuration says to objects."""

from __future__ import annotations

import os

from minivm.devices.virtio.mmio import Mmio
from minivm.devices.virtio.queue import Ram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.mmio import VirtioDevice
    from minivm.machine.machine import Machine

__all__ = ["transport"]


def transport(machine: Machine, number: int, eventfd: int) -> Mmio:
    """Return the registers of a device, with the device behind them.

    Args:
        machine: whose memory is there; what the plan opened for the device was opened last.
        number: of its slot.
        eventfd: raises its interrupt.

    Raises KvmError.
    """
    kind, what = machine.config.virtio()[number]
    return Mmio(MAKERS[kind](machine, what), Ram(machine.memory), eventfd, machine.registers, number)


def _blk(machine: Machine, disk: Any) -> VirtioDevice:
    from minivm.devices.virtio.blk import Blk

    fd = machine.opened
    size = os.lseek(fd, 0, os.SEEK_END)  # of a block device st_size is 0
    return Blk(fd, size, read_only=disk.read_only, serial=os.path.basename(disk.path), queues=disk.queues)


def _rng(machine: Machine, _: Any) -> VirtioDevice:
    from minivm.devices.virtio.rng import Rng

    return Rng()


def _console(machine: Machine, _: Any) -> VirtioDevice:
    from minivm.devices.virtio.console import Console

    return Console(machine.send, lambda: machine.wake())


MAKERS = {"blk": _blk, "rng": _rng, "console": _console}
