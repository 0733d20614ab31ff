"""virtio-net: a network card (VIRTIO 1.2, 5.1). What the driver is told of it; packets go by csrc/kvm/net.c.

    config    | MAC address (6) | status (2): 1 link is up | pairs of queues (2) | MTU (2) |

Queue 0 holds buffers for packets that come, queue 1 packets that go. On a tap the card offers what "hardware" does for
a driver: checksums and segmentation, in both directions. What the driver accepts the tap is told (TUNSETOFFLOAD); then
packets of 64 KiB pass between guest and host, and are cut only where they meet a network that needs it.

An old driver (legacy.py) has a shorter header before each packet, unless it can put buffers together, and may write the MAC
address; it is only kept for whoever reads it, as what the card sends has the address that the driver gave it.
"""

from __future__ import annotations

from struct import pack

from minivm.devices.virtio.mmio import F_VERSION_1
from minivm.devices.virtio.path import Path
from minivm.kvm._kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio

__all__ = ["Net"]

F_CSUM, F_GUEST_CSUM, F_MAC, F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4, F_HOST_TSO6, F_MRG_RXBUF, F_STATUS = (
    1 << bit for bit in (0, 1, 5, 7, 8, 11, 12, 15, 16)
)
OFFLOADS = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6
LINK_UP = 1
WHOLE, FRAME = 65536 + 18, 1518  # the largest packet: with segmentation, and without
HEADER, OLD_HEADER = 12, 10  # bytes: with num_buffers, and without (5.1.6.1)
MAC_BYTES = 6


class Net:
    """The device.

    Args:
        fd: of a tap whose packets have virtio-net's header, or of passt's socket; not blocking; stays the caller's.
        mac: its address, 6 bytes.
        offload: tells the tap what the driver can take: (checksums, TSO of IPv4, of IPv6, bytes of the header). None: fd is
            passt's socket.
        changed: called when the link went down.
        limits: rate limits: (bytes in, ns to refill them, bytes out, ns to refill them); 0 is none (csrc/kvm/bucket.c).
    """

    name = "virtio-net"
    device_id = 1
    queues = 2

    def __init__(
        self, fd: int, mac: bytes, offload: Callable[[bool, bool, bool, int], None] | None,
        limits: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:  # fmt: skip
        self._fd, self._mac, self._offload, self._limits = fd, mac, offload, limits
        self._up = True
        self.transport: Mmio | None = None
        self.changed: Callable[[], None] = lambda: None
        self.features = F_MAC | F_MRG_RXBUF | F_STATUS | (OFFLOADS if offload else 0)

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return self._mac + pack("<HHH", LINK_UP if self._up else 0, 1, 0)

    def connect(self, registers: Any, interrupt: int) -> list[Path]:
        """Return the path. Raises KvmError."""
        c = lib.net_create(registers, interrupt, self._fd, self._offload is None)
        self._path = Path(c, [0, 1], self._look)
        lib.net_limit(c, *self._limits)
        return [self._path]

    def begin(self, features: int) -> None:
        """The driver has agreed on these features. Raises KvmError."""
        mergeable, large = bool(features & F_MRG_RXBUF), bool(features & (F_GUEST_TSO4 | F_GUEST_TSO6))
        header = HEADER if features & (F_VERSION_1 | F_MRG_RXBUF) else OLD_HEADER
        lib.net_agree(self._path.c, mergeable, header, header + (WHOLE if mergeable or large else FRAME))
        if self._offload:
            self._offload(bool(features & F_GUEST_CSUM), bool(features & F_GUEST_TSO4), bool(features & F_GUEST_TSO6), header)

    def write_config(self, offset: int, data: bytes) -> None:
        """An old driver writes the MAC address, as many bytes at a time as it likes (5.1.4)."""
        if self.transport is not None and self.transport.version == 1 and offset + len(data) <= MAC_BYTES:
            self._mac = self._mac[:offset] + data + self._mac[offset + len(data) :]

    def _look(self, source: int) -> None:
        """passt has gone, or speaks nonsense: for the guest, the cable is out."""
        if self._up:
            self._up = False
            self.changed()
