"""The virtio devices of a machine, each behind its registers: from what the configuration says to objects."""

from __future__ import annotations

import os

from minivm.devices.virtio.mmio import Mmio
from minivm.devices.virtio.queue import Ram
from minivm.machine.devices import bucket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.mmio import VirtioDevice
    from minivm.machine.config import Config
    from minivm.machine.machine import Machine

__all__ = ["transport"]


def transport(machine: Machine, number: int, eventfd: int) -> Mmio:
    """Return the registers of a device, with the device behind them.

    Args:
        machine: whose memory is there; machine.made.opened is what the plan has opened for this device.
        number: of its slot.
        eventfd: raises its interrupt.

    Raises KvmError.
    """
    what = machine.config.virtio()[number]
    device = MAKERS[what.kind](machine, what)
    made = _interface(machine.config)(device, Ram(machine.memory), eventfd, machine.registers, number, packed=machine.config.packed)
    if hasattr(device, "changed"):
        device.changed = made.changed
    return made


def _interface(config: Config) -> type[Mmio]:
    """Return which registers the devices have: only an old driver's are worth another file to load."""
    if not config.legacy:
        return Mmio
    from minivm.devices.virtio.legacy import Legacy

    return Legacy


def _blk(machine: Machine, disk: Any) -> VirtioDevice:
    from minivm.devices.virtio.blk import Blk

    fd = machine.made.opened[0]
    size = os.lseek(fd, 0, os.SEEK_END) // 512 * 512  # of a block device st_size is 0
    more: dict[str, Any] = {}
    if disk.overlay is not None:
        from minivm.machine.overlay import Overlay

        overlay = Overlay(machine.made.opened[1], fd, size)
        machine.undo("save overlay", overlay.close)
        more["overlay"] = overlay.c
    limits = *bucket(disk.rate), *bucket(disk.requests)
    name = os.path.basename(disk.path)
    return Blk(fd, size, read_only=disk.read_only, serial=name, queues=disk.queues, limits=limits, **more)


def _rng(machine: Machine, _: Any) -> VirtioDevice:
    from minivm.devices.virtio.rng import Rng

    return Rng()


def _console(machine: Machine, console: Any) -> VirtioDevice:
    from minivm.devices.virtio.console import Console, Port
    from minivm.machine import host

    out, is_socket = host.without_blocking(machine.console)
    machine.undo("close console", lambda: os.close(out))
    ports = []
    for name, path in console.ports:
        listener = host.listen(path)
        machine.undo(f"close {path}", lambda listener=listener, path=path: host.unlisten(listener, path))  # type: ignore[misc]
        ports.append(Port(name, listener))
    size = host.terminal_size(out)
    return Console(out, ports, room=lambda: machine.wake(), gone=machine.unread, size=size, socket=is_socket)


def _net(machine: Machine, net: Any) -> VirtioDevice:
    from minivm.devices.virtio.net import Net
    from minivm.machine.host import offload

    fd = machine.made.opened[0]
    # a random address of one's own: bit 1 of the first byte says that no manufacturer gave it, bit 0 would be a group
    mac = bytes.fromhex(net.mac.replace(":", "")) if net.mac else b"\2" + os.urandom(5)
    tell = (lambda *what: offload(fd, *what)) if net.tap else None
    return Net(fd, mac, tell, (*bucket(net.incoming), *bucket(net.outgoing)))


def _vsock(machine: Machine, vsock: Any) -> VirtioDevice:
    from minivm.devices.virtio.vsock import Vsock
    from minivm.machine import host

    listener = host.listen(vsock.path)
    machine.undo(f"close {vsock.path}", lambda: host.unlisten(listener, vsock.path))
    return Vsock(vsock.cid, vsock.path, listener, machine.made.connector)


def _balloon(machine: Machine, balloon: Any) -> VirtioDevice:
    from minivm.devices.virtio.balloon import Balloon

    return Balloon(Ram(machine.memory), balloon.size)


def _mem(machine: Machine, hotplug: Any) -> VirtioDevice:
    from minivm.boot.layout import hotplug_address
    from minivm.devices.virtio.mem import Mem

    return Mem(Ram(machine.memory), hotplug_address(machine.config.memory), hotplug.size, hotplug.requested)


def _fs(machine: Machine, share: Any) -> VirtioDevice:
    from minivm.devices.virtio.fs import Fs
    from minivm.devices.virtio.vhost_user import Backend

    return Fs(Backend(machine.made.opened[0], "virtiofsd"), share.tag, machine.memory)


MAKERS = {"balloon": _balloon, "blk": _blk, "rng": _rng, "console": _console, "fs": _fs, "mem": _mem, "net": _net, "vsock": _vsock}
