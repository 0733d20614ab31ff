"""setup_data: what a boot loader tells Linux beside the zero page (the kernel's Documentation/arch/x86/boot.rst, setup_data).

A list in guest memory, whose first address stands in the setup header:

    struct setup_data      offset  bytes
        next                  0      8    address of the next one; 0 ends the list
        type                  8      4    SETUP_*
        len                  12      4    bytes of data
        data                 16

    SETUP_RNG_SEED (9)     random bytes, by which the guest's generator is ready from its first line on (Linux 6.0). A machine
                           has little that is random otherwise, and two that start alike could draw the same keys. Linux
                           overwrites them.
"""

from __future__ import annotations

import os
from struct import pack

from minivm.boot import layout
from minivm.boot.start import Piece

__all__ = ["seed"]

RNG_SEED = 9
SEED_BYTES = 32  # what the kernel's generator takes for its key


def seed() -> Piece:
    """Return the list, of one element: random bytes of the host's."""
    data = pack("<QII", 0, RNG_SEED, SEED_BYTES) + os.urandom(SEED_BYTES)
    return Piece(layout.SETUP_DATA, data, "setup_data", "Random bytes for the guest's generator: there is little else that is.")
