"""virtio-rng: random bytes from the host (VIRTIO 1.2, 5.4). One queue; each buffer in it is to be filled."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minivm.devices.virtio.path import Path
    from minivm.devices.virtio.queue import Queue

__all__ = ["Rng"]

MOST = 4096  # bytes a buffer gets: a guest that asks for more asks again, and cannot keep us busy with one request


class Rng:
    """The device."""

    name = "virtio-rng"
    device_id = 4
    features = 0
    queues = 1

    def config(self) -> bytes:
        """It has no configuration."""
        return b""

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """It has no path: a few bytes now and then are no reason for a thread."""
        return []

    def notify(self, number: int, queue: Queue) -> None:
        """Fill the buffers that the driver has made available."""
        for chain in queue.chains():
            queue.push(chain, chain.write(os.urandom(min(chain.room, MOST))))
