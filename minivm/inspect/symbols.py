"""Names for addresses of a guest's kernel: from a System.map, an ELF file's symbol table, or what Linux carries in itself."""

from __future__ import annotations

from bisect import bisect_right

from minivm.errors import MinivmError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    Symbol = tuple[int, str, str]  # address, type as nm writes it, name

__all__ = ["Symbols", "parse_map", "read_symbols"]

FARTHEST = 1 << 20  # bytes behind a symbol that are still taken for its own
CODE = "TtWw"
MOVES = 0xFFFF_FFFF_8000_0000  # what lies from here up is moved by KASLR, all by the same offset
ELF = b"\x7fELF"


class Symbols:
    """Symbols in the order of their addresses.

    Args:
        symbols: (address, type, name) in any order.
    """

    def __init__(self, symbols: Iterable[Symbol]) -> None:
        self.all = sorted(symbols)
        self._code = [(address, name) for address, kind, name in self.all if kind in CODE]
        self._addresses = [address for address, _ in self._code]
        self._by_name = {name: address for address, _, name in reversed(self.all)}

    def function(self, address: int) -> tuple[str, int] | None:
        """Return (name, bytes from its beginning) of the function that an address lies in, None where it lies in none."""
        at = bisect_right(self._addresses, address) - 1
        if at < 0 or address - self._addresses[at] > FARTHEST:
            return None
        return self._code[at][1], address - self._addresses[at]

    def name(self, address: int) -> str:
        """Return `name+0x12`, or the address where it has no name."""
        found = self.function(address)
        if found is None:
            return f"{address:#x}"
        return f"{found[0]}+{found[1]:#x}" if found[1] else found[0]

    def address(self, name: str) -> int | None:
        """Return where a symbol is, None where there is none of that name."""
        return self._by_name.get(name)

    def with_code_at(self, address: int | None) -> Symbols:
        """Return the symbols of the same kernel where KASLR has put it: its _stext is at that address; None: as they are."""
        linked = self.address("_stext")
        if linked is None or address is None or address == linked:
            return self
        offset = address - linked
        return Symbols((at + offset if at >= MOVES else at, kind, name) for at, kind, name in self.all)


def parse_map(text: str) -> list[Symbol]:
    """Return the symbols of a System.map, or of what `nm` prints: `ffffffff81000000 T _stext` a line. Raises ValueError."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            address, kind, name = line.split(maxsplit=2)
            found.append((int(address, 16), kind, name.split("\t")[0]))
        except ValueError:
            raise ValueError(f"neither a kernel nor a System.map: line {number} is not `ADDRESS TYPE NAME`") from None
    if not found:
        raise ValueError("no symbols")
    return found


def read_symbols(path: str) -> Symbols:
    """Read the symbols of a file: System.map, ELF, Linux as it is in /boot. Raises MinivmError that says what it lacks."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise MinivmError(f"cannot read symbols {path!r}: {error.strerror}") from None
    try:
        return Symbols(_symbols(data))
    except (ValueError, UnicodeDecodeError) as error:
        raise MinivmError(f"no symbols in {path!r}: {error}") from None


def _symbols(data: bytes) -> list[Symbol]:
    from minivm.boot import bzimage

    if data[:4] == ELF:
        return _elf(data)
    if bzimage.is_bzimage(data):
        from minivm.boot.extract import extract
        from minivm.inspect.kallsyms import kallsyms

        return kallsyms(bytes(extract(data)))
    if b"The real System.map is" in data[:200]:
        raise ValueError("it is Debian's place-holder; name the kernel itself, which carries its symbols")
    return parse_map(data.decode("ascii"))


def _elf(data: bytes) -> list[Symbol]:
    """Return the symbol table of an ELF file; of a stripped Linux, what it carries in itself. Raises ValueError."""
    try:
        from elftools.elf.elffile import ELFFile
        from elftools.elf.sections import SymbolTableSection
    except ImportError:
        raise MinivmError("symbols of ELF files need pyelftools: pip install 'minirt[inspect]'") from None
    import io

    table = ELFFile(io.BytesIO(data)).get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        from minivm.inspect.kallsyms import kallsyms

        return kallsyms(data)
    kinds = {"STT_FUNC": "T", "STT_OBJECT": "D", "STT_NOTYPE": "T"}
    return [
        (symbol["st_value"], kinds[symbol["st_info"]["type"]], symbol.name)
        for symbol in table.iter_symbols()
        if symbol["st_info"]["type"] in kinds and symbol.name and symbol["st_shndx"] not in ("SHN_UNDEF", "SHN_ABS")
    ]
