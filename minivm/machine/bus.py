"""The I/O bus: which device answers to which port, and how often each is asked."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    class Device(Protocol):
        """What the bus asks of a device; see minivm/devices/__init__.py."""

        name: str
        ports: range

        def read(self, offset: int, size: int) -> int: ...

        def write(self, offset: int, size: int, value: int) -> None: ...

    class MemoryDevice(Protocol):
        """A device whose registers are a page of guest-physical addresses."""

        name: str

        def read(self, offset: int, size: int) -> int: ...

        def write(self, offset: int, size: int, value: int) -> None: ...


__all__ = ["Bus", "MemoryBus"]


PORTS = 0x10000


class Bus:
    """Ports 0 to 0xffff. A port that nobody answers to reads as all ones, and what is written there is lost."""

    def __init__(self) -> None:
        self._readers: dict[int, tuple[Callable[[int, int], int], int]] = {}
        self._writers: dict[int, tuple[Callable[[int, int, int], None], int]] = {}
        self._names: dict[int, str] = {}

    def add(self, device: Device) -> None:
        """Let a device answer to its ports. Raises ValueError where another one does already."""
        for offset, port in enumerate(device.ports):
            if port in self._names:
                raise ValueError(f"port {port:#x}: both {self._names[port]} and {device.name} want it")
            self._names[port] = device.name
            self._readers[port] = device.read, offset
            self._writers[port] = device.write, offset

    def name(self, port: int) -> str:
        """Return the name of the device at a port, or ""."""
        return self._names.get(port, "")

    def absent(self) -> bytes:
        """Return a bit for each port, bit N % 8 of byte N / 8 for port N: it is set where there is no device."""
        bits = bytearray(b"\xff" * (PORTS // 8))
        for port in self._names:
            bits[port // 8] &= ~(1 << port % 8)
        return bytes(bits)

    def read(self, port: int, size: int) -> int:
        """Do an `in` of 1, 2 or 4 bytes."""
        found = self._readers.get(port)
        if found is None:
            return (1 << 8 * size) - 1
        return found[0](found[1], size)

    def write(self, port: int, size: int, value: int) -> None:
        """Do an `out` of 1, 2 or 4 bytes."""
        found = self._writers.get(port)
        if found is not None:
            found[0](found[1], size, value)


PAGE = 0x1000


class MemoryBus:
    """Guest-physical addresses where there is no RAM, a page to a device; elsewhere reads give all ones."""

    def __init__(self) -> None:
        self._devices: dict[int, MemoryDevice] = {}

    def add(self, address: int, device: MemoryDevice) -> None:
        """Let a device answer to the page at a multiple of 4096. Raises ValueError where another one does already."""
        if address % PAGE or address in self._devices:
            raise ValueError(f"no page for {device.name} at {address:#x}")
        self._devices[address] = device

    def name(self, address: int) -> str:
        """Return the name of the device at an address, or ""."""
        device = self._devices.get(address & -PAGE)
        return device.name if device else ""

    def read(self, address: int, size: int) -> int:
        """Do a read of 1, 2, 4 or 8 bytes."""
        device = self._devices.get(address & -PAGE)
        return device.read(address % PAGE, size) if device else (1 << 8 * size) - 1

    def write(self, address: int, size: int, value: int) -> None:
        """Do a write of 1, 2, 4 or 8 bytes."""
        device = self._devices.get(address & -PAGE)
        if device:
            device.write(address % PAGE, size, value)
