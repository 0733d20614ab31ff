"""Linux's bzImage, by its 64-bit boot protocol: entered in long mode, with the zero page at RSI.

A bzImage is three things one behind the other: real-mode code of `setup_sects` sectors for a BIOS, which we skip; the
setup header inside it, which says what the kernel wants and takes what we tell it; and the protected-mode kernel,
which is a small program that decompresses the real one. Documentation/arch/x86/boot.rst ("The Linux/x86 Boot
Protocol") and zero-page.rst in the kernel's source; names and offsets are theirs.

    file      0x1f1  setup_sects   the real-mode part has so many sectors of 512 bytes, and one more
              0x202  "HdrS"        and the protocol's version
              0x236  xloadflags    bit 0: there is a 64-bit entry point, 0x200 bytes into the kernel
              0x248  payload       where in the kernel the compressed vmlinux lies (extract.py)
              0x258  pref_address  where it would like to lie; no relocation is needed there
              0x260  init_size     how much memory from there on it uses before it knows the memory map
"""

from __future__ import annotations

from struct import calcsize, pack, pack_into, unpack_from

from minivm.boot import layout, longmode, setup_data
from minivm.boot.start import Piece, Start
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.start import Bytes

__all__ = ["SetupHeader", "is_bzimage", "prepare", "read_header"]

SECTOR = 512
HEADER_START = 0x1F1
# Fields of the setup header from there on, as far as protocol 2.12 has them: (name, struct letter).
FIELDS = (
    ("setup_sects", "B"), ("root_flags", "H"), ("syssize", "I"), ("ram_size", "H"), ("vid_mode", "H"), ("root_dev", "H"),
    ("boot_flag", "H"), ("jump", "H"), ("header", "4s"), ("version", "H"), ("realmode_swtch", "I"), ("start_sys_seg", "H"),
    ("kernel_version", "H"), ("type_of_loader", "B"), ("loadflags", "B"), ("setup_move_size", "H"), ("code32_start", "I"),
    ("ramdisk_image", "I"), ("ramdisk_size", "I"), ("bootsect_kludge", "I"), ("heap_end_ptr", "H"), ("ext_loader_ver", "B"),
    ("ext_loader_type", "B"), ("cmd_line_ptr", "I"), ("initrd_addr_max", "I"), ("kernel_alignment", "I"),
    ("relocatable_kernel", "B"), ("min_alignment", "B"), ("xloadflags", "H"), ("cmdline_size", "I"),
    ("hardware_subarch", "I"), ("hardware_subarch_data", "Q"), ("payload_offset", "I"), ("payload_length", "I"),
    ("setup_data", "Q"), ("pref_address", "Q"), ("init_size", "I"), ("handover_offset", "I"),
)  # fmt: skip
FORMAT = "<" + "".join(letter for _, letter in FIELDS)
OLDEST = 0x020C  # the first version with xloadflags

XLF_KERNEL_64 = 1 << 0
XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1
ENTRY_64 = 0x200  # bytes into the protected-mode kernel
LOADER_UNKNOWN = 0xFF  # type_of_loader: none of those with a number

# The zero page, struct boot_params: a page of zeroes with these filled in.
ACPI_RSDP_ADDR, E820_ENTRIES, E820_TABLE, E820_MAX = 0x070, 0x1E8, 0x2D0, 128
ZERO_PAGE_SIZE = 4096


class SetupHeader:
    """What a bzImage says of itself."""

    __slots__ = ("_fields", "kernel_start")

    def __init__(self, fields: dict[str, int]) -> None:
        self._fields = fields
        self.kernel_start = ((fields["setup_sects"] or 4) + 1) * SECTOR  # byte in the file; 0 means 4, for old ones

    def __getitem__(self, name: str) -> int:
        """Return a field by its name in boot.rst."""
        return self._fields[name]


def is_bzimage(image: Bytes) -> bool:
    """Say whether the setup header's signature is there."""
    return len(image) >= 0x206 and image[0x202:0x206] == b"HdrS"


def read_header(image: Bytes) -> SetupHeader:
    """Read the setup header. Raises BootError where there is none, or the protocol is too old for 64 bits."""
    if not is_bzimage(image):
        raise BootError("not a bzImage: no setup header")
    if len(image) < HEADER_START + calcsize(FORMAT):
        raise BootError(f"truncated bzImage: {len(image)} bytes end within its setup header")
    values = unpack_from(FORMAT, image, HEADER_START)
    header = SetupHeader({name: value for (name, _), value in zip(FIELDS, values, strict=True)})
    version = header["version"]
    if version < OLDEST:
        raise BootError(f"bzImage of boot protocol {version >> 8}.{version & 0xFF:02}: Linux 3.8 and newer have 2.12")
    if header.kernel_start >= len(image):
        raise BootError(f"truncated bzImage: the kernel should begin at byte {header.kernel_start} of {len(image)}")
    return header


def kernel_release(image: Bytes) -> str:
    """Return the version that the kernel calls itself, as "6.1.0-9-amd64", or "" where it does not say, or says no name.

    It is the name of its directory below /lib/modules. Source: boot.rst, kernel_version.
    """
    place = read_header(image)["kernel_version"]
    if not place:
        return ""
    text = bytes(image[place + SECTOR : place + SECTOR + 256]).partition(b"\0")[0].partition(b" ")[0]
    release = text.decode("ascii", "replace")
    plain = all(char.isalnum() or char in "._+~-" for char in release) and not release.startswith(".")
    return release if plain else ""


def prepare(image: Bytes, memory: int, cmdline: str, initrd: Bytes = b"", rsdp: int = 0) -> Start:
    """Say how to start a bzImage.

    Args:
        image: the file.
        memory: bytes of RAM.
        cmdline: the kernel's.
        initrd: the initial RAM file system, or nothing.
        rsdp: guest-physical address of the ACPI tables' root pointer, 0 for none (uint64_t).

    Raises BootError.
    """
    header = read_header(image)
    if not header["xloadflags"] & XLF_KERNEL_64:
        raise BootError("a 32-bit Linux kernel: it has no 64-bit entry point")
    text = layout.cmdline_bytes(cmdline, header["cmdline_size"])
    load = header["pref_address"]
    kernel = image[header.kernel_start :]
    layout.check_room(load, max(header["init_size"], len(kernel)), memory, "Linux")
    end = load + max(header["init_size"], len(kernel))
    highest = (1 << 64) - 1 if header["xloadflags"] & XLF_CAN_BE_LOADED_ABOVE_4G else header["initrd_addr_max"]
    at = layout.place_high(len(initrd), memory, end, highest, "the initrd") if initrd else 0
    table = longmode.boot_gdt()
    tables = longmode.identity_map(layout.PAGE_TABLES, layout.ram_ranges(memory)).tobytes()
    zero_page, seed = _zero_page(image, memory, initrd_at=at, initrd_size=len(initrd), rsdp=rsdp), setup_data.seed()
    pieces = [
        Piece(layout.GDT, table, "GDT", "The boot protocol wants code at selector 0x10 and data at 0x18."),
        Piece(layout.PAGE_TABLES, tables, "page tables", "Long mode has no life without paging: map memory to itself."),
        Piece(layout.BOOTINFO, zero_page, "zero page", "struct boot_params: all that a boot loader tells Linux."),
        Piece(layout.CMDLINE, text, "command line", "The zero page points here."),
        seed,
        Piece(load, kernel, "Linux, compressed", "Code that decompresses the kernel, and the kernel behind it."),
    ]
    if initrd:
        pieces.append(Piece(at, initrd, "initrd", "As high as it may lie, out of the way of what Linux unpacks."))
    return Start(
        pieces,
        longmode.special_registers(
            layout.PAGE_TABLES, layout.GDT, len(table), longmode.BOOT_CODE, longmode.BOOT_DATA
        ),
        {"rip": load + ENTRY_64, "rflags": 1 << 1, "rsi": layout.BOOTINFO},
        irqchip=True,
        why_sregs="Linux's 64-bit boot protocol: long mode, memory mapped to itself, interrupts off.",
        why_regs="RIP is the kernel's address + 0x200, its 64-bit entry point; RSI the zero page.",
    )


def _zero_page(image: Bytes, memory: int, initrd_at: int, initrd_size: int, rsdp: int) -> bytes:
    """Return struct boot_params: the file's own setup header, with the loader's fields filled in."""
    page = bytearray(ZERO_PAGE_SIZE)
    end = min(0x202 + image[0x201], E820_TABLE)  # the header ends where the jump at its beginning goes to
    page[HEADER_START:end] = image[HEADER_START:end]
    for name, value in (
        ("type_of_loader", LOADER_UNKNOWN),
        ("cmd_line_ptr", layout.CMDLINE),
        ("ramdisk_image", initrd_at & 0xFFFF_FFFF),
        ("ramdisk_size", initrd_size),
        ("setup_data", layout.SETUP_DATA),
    ):
        letter = dict(FIELDS)[name]
        pack_into("<" + letter, page, _offset(name), value)
    pack_into("<I", page, 0x0C0, initrd_at >> 32)  # ext_ramdisk_image
    pack_into("<Q", page, ACPI_RSDP_ADDR, rsdp)
    ranges = layout.memory_map(memory)
    page[E820_ENTRIES] = len(ranges)
    for number, (address, length, kind) in enumerate(ranges[:E820_MAX]):
        page[E820_TABLE + 20 * number : E820_TABLE + 20 * number + 20] = pack("<QQI", address, length, kind)
    return bytes(page)


def _offset(name: str) -> int:
    """Return where a field of the setup header lies, in the file as in the zero page."""
    place = [field for field, _ in FIELDS].index(name)
    return HEADER_START + calcsize("<" + "".join(letter for _, letter in FIELDS[:place]))
