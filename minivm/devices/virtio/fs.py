"""virtio-fs: a directory of the host as a file system of the guest (VIRTIO 1.2, 5.11): `mount -t virtiofs TAG /mnt`.

    config    | tag (36), UTF-8, padded with zeroes | request queues (4): 1 |

Queue 0 is for requests that may not wait behind others (FORGET, INTERRUPT), queue 1 for the rest. What passes is FUSE:
the guest's kernel asks as any kernel asks a file system in user space (man 4 fuse). The server is virtiofsd, a process of its
own that sees this directory and no other, by vhost-user (vhost_user.py). So a file's bytes go between the host's page
cache and the guest's memory in one copy, and our process neither parses a request nor opens a file: what a guest may do to
its share is virtiofsd's to guard, in its own namespaces.

Why not 9P, which would need no other program: it is a server for files, paths and permissions in our own process, beside
the guest's memory, and Debian's cloud kernel has no 9P.
"""

from __future__ import annotations

from struct import pack

from minivm.devices.virtio.mmio import F_RING_PACKED
from minivm.devices.virtio.vhost_user import Backend, Remote
from minivm.kvm._kvm import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minivm.devices.virtio.mmio import Mmio
    from minivm.kvm.memory import GuestMemory

__all__ = ["Fs"]

TAG_BYTES = 36


class Fs:
    """The device.

    Args:
        backend: virtiofsd.
        tag: what the guest calls the share, at most 36 bytes of UTF-8.
        memory: (guest-physical address, pages) of each slot of RAM, which virtiofsd is to map.

    Raises ValueError for a tag that is too long.
    """

    name = "virtio-fs"
    device_id = 26
    queues = 2

    def __init__(self, backend: Backend, tag: str, memory: Sequence[tuple[int, GuestMemory]]) -> None:
        self._tag, self._backend, self._memory = tag.encode(), backend, memory
        if not 0 < len(self._tag) <= TAG_BYTES:
            raise ValueError(f"a tag has 1 to {TAG_BYTES} bytes")
        self.features = 0  # of its own it has none
        # A packed ring begins elsewhere than at 0: SET_VRING_BASE would have to carry its wrap counters.
        self.ring_features = backend.features & ~F_RING_PACKED
        self.transport: Mmio | None = None

    def config(self) -> bytes:
        """Return what the driver finds behind the registers."""
        return self._tag.ljust(TAG_BYTES, b"\0") + pack("<I", self.queues - 1)

    def connect(self, registers: Any, interrupt: int) -> list[Remote]:
        """Return what stands for virtiofsd."""
        lib.registers_always(registers)
        self._remote = Remote(self._backend, self.queues, interrupt, self._gone)
        return [self._remote]

    def begin(self, features: int) -> None:
        """The driver has agreed on these features."""
        self._remote.agree(features, self._memory)

    def _gone(self) -> None:
        """virtiofsd has ended: the device is out of order until the driver resets it, and then as well."""
        assert self.transport is not None
        self.transport.fail()
