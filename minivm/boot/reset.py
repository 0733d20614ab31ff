"""Where a PC's processor begins after a reset, and its BIOS with it: here code that resets the machine, so that it ends.

Linux on hardware-reduced ACPI expects EFI to reset the machine; without EFI it does what DOS programs did, goes back to real
mode and jumps to the BIOS at ffff:0000 (arch/x86/kernel/reboot.c, reboot_init and machine_real_restart). A guest that
panicked or rebooted would there find zeroes, and execute them for ever.

    ffff:0000  b0 fe   mov al, 0xfe
               e6 64   out 0x64, al     the keyboard controller pulses the reset line (minivm/devices/i8042.py)
               f4      hlt
               eb fd   jmp to the hlt
"""

from __future__ import annotations

from minivm.boot.start import Piece

__all__ = ["ENTRY", "piece"]

ENTRY = 0xFFFF0  # guest-physical
CODE = bytes.fromhex("b0fe e664 f4 ebfd")


def piece() -> Piece:
    """Return the code, at its place."""
    return Piece(ENTRY, CODE, "reset code", "Where a BIOS would be entered to reset the machine: a kernel may jump there.")
