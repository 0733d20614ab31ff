"""virtio-net: a network card (VIRTIO 1.2, 5.1). What the driver is told of it; packets go by csrc/kvm/net.c.

    config    | MAC address (6) | status (2): 1 link is up | pairs of queues (2) | MTU (2) |

Queue 0 holds buffers for packets that come, queue 1 packets that go. On a tap the card offers what "hardware" does for
a driver: checksums and segmentation, in both directions. What the driver accepts the tap is told (TUNSETOFFLOAD); then
packets of 64 KiB pass between guest and host, and are cut only where they meet a network that needs it.
"""

from __future__ import annotations

from struct import pack

from minivm.devices.virtio.path import Path
from minivm.kvm._kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["Net"]

F_CSUM, F_GUEST_CSUM, F_MAC, F_GUEST_TSO4, F_GUEST_TSO6, F_HOST_TSO4, F_HOST_TSO6, F_MRG_RXBUF, F_STATUS = (
    1 << bit for bit in (0, 1, 5, 7, 8, 11, 12, 15, 16)
)
OFFLOADS = F_CSUM | F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_TSO6 | F_HOST_TSO4 | F_HOST_TSO6
LINK_UP = 1
WHOLE, FRAME = 12 + 65536 + 18, 12 + 1518  # the largest packet with its header: with segmentation, and without


class Net:
    """The device.

    Args:
        fd: of a tap whose packets have a header of 12 bytes, or of passt's socket; not blocking; stays the caller's.
        mac: its address, 6 bytes.
        offload: tells the tap what the driver can take: (checksums, TSO of IPv4, of IPv6). None: fd is passt's socket.
        changed: called when the link went down.
        limits: rate limits: (bytes in, ns to refill them, bytes out, ns to refill them); 0 is none (csrc/kvm/bucket.c).
    """

    name = "virtio-net"
    device_id = 1
    queues = 2

    def __init__(
        self, fd: int, mac: bytes, offload: Callable[[bool, bool, bool], None] | None,
        limits: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:  # fmt: skip
        self._fd, self._mac, self._offload, self._limits = fd, mac, offload, limits
        self._up = True
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
        lib.net_agree(self._path.c, mergeable, WHOLE if mergeable or large else FRAME)
        if self._offload:
            self._offload(bool(features & F_GUEST_CSUM), bool(features & F_GUEST_TSO4), bool(features & F_GUEST_TSO6))

    def _look(self, source: int) -> None:
        """passt has gone, or speaks nonsense: for the guest, the cable is out."""
        if self._up:
            self._up = False
            self.changed()
