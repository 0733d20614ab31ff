"""Take the kernel proper out of a bzImage, so that QEMU can start it at its PVH entry point.

A bzImage holds the kernel compressed; unpacking it in an emulated machine takes a second of every
boot. QEMU also loads the plain ELF file, as CONFIG_PVH gives that a 32-bit entry point of its own.

Run inside the lab's new root: extract_vmlinux.py BZIMAGE VMLINUX. A compression that is not known
here leaves the bzImage as it is, which boots too.

Source: Documentation/arch/x86/boot.rst (setup_sects, payload_offset, payload_length)
"""

import struct
import subprocess
import sys
from pathlib import Path

TOOLS = {b"\x28\xb5\x2f\xfd": "zstd", b"\x1f\x8b": "gzip"}  # first bytes -> program


def main(source: str, target: str) -> None:
    image = Path(source).read_bytes()
    setup_sectors = image[0x1F1]
    offset, length = struct.unpack_from("<II", image, 0x248)
    start = (setup_sectors + 1) * 512 + offset
    payload = image[start : start + length - 4]  # the last four bytes are the unpacked size
    for magic, tool in TOOLS.items():
        if payload.startswith(magic):
            unpacked = subprocess.run([tool, "-dc"], input=payload, stdout=subprocess.PIPE, check=True)
            Path(target).write_bytes(unpacked.stdout)
            return
    Path(target).write_bytes(image)


if __name__ == "__main__":
    main(*sys.argv[1:])
