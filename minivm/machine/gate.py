"""The gate that stands between two runs of a processor: closed, the machine is paused.

A thread inside KVM_RUN is got out as for a stop (Vcpu.interrupt), and waits here rather than go in again. Devices, and
the clocks in the host kernel, do not stop: a guest finds that time has passed. So that its watchdog does not take that
for a processor that hangs, it is told (Documentation/virt/kvm/api.rst, KVM_KVMCLOCK_CTRL), if it uses kvmclock.
"""

from __future__ import annotations

import threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.kvm import Vcpu
    from minivm.machine.machine import Machine

__all__ = ["Gate"]


class Gate:
    """The gate of one machine; any thread may close and open it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._changed = threading.Condition()
        self._closed = False
        self._waiting = 0

    @property
    def closed(self) -> bool:
        """Whether the machine is paused, or about to be."""
        return self._closed

    def close(self) -> None:
        """Pause the machine: on return no processor runs, unless it is the caller's own."""
        with self._changed:
            self._closed = True
            count = self._machine.interrupt()
            self._changed.wait_for(lambda: self._waiting >= count or not self._closed or self._machine.outcome is not None)

    def open(self) -> None:
        """Resume the machine; no harm is done where it is not paused."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()

    def wait(self, vcpu: Vcpu) -> None:
        """Wait, as the thread of a processor that is out of the guest, until the gate is open or the machine ends."""
        with self._changed:
            stood = self._stand()
            if self._machine.outcome is None:
                vcpu.go_on(stood)  # while nobody can close it again: that would be undone too

    def stand(self) -> None:
        """Wait in the same way within an exit, where something takes long that whoever pauses the machine may be the one to end."""
        with self._changed:
            self._stand()

    def _stand(self) -> bool:
        """Wait until the gate is open or the machine ends. Returns whether it was closed."""
        if not self._closed:
            return False
        self._waiting += 1
        self._changed.notify_all()
        self._changed.wait_for(lambda: not self._closed or self._machine.outcome is not None)
        self._waiting -= 1
        return True
