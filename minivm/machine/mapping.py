"""Which bytes of a guest's start are mapped rather than copied: those of a file, at addresses that fit its pages.

A kernel of 50 MB is so in place at once, and only what the guest touches of it is ever read. But a file's pages are small
ones: where guest memory comes in large pages (csrc/kvm/memory.c) they are filled by preadv(2), one fault for 512 of a
mapping's, which was the faster in the lab (Debian's kernel, five boots of each in turn: 18.2 s copied, 23.5 s mapped). What is
mapped is this process's own (MAP_PRIVATE): what the guest writes goes nowhere else. Simplified: who shortens the file meanwhile
ends the machine by SIGBUS; kernels are replaced by a rename, as dpkg and minivm's cache do, and not written to.
"""

from __future__ import annotations

from minivm.kvm import offset_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.mapped import MappedFile
    from minivm.boot.start import Bytes, Piece

__all__ = ["file_behind", "mappable"]

PAGE = 4096
LARGE_GUEST = 128 << 20  # as in csrc/kvm/memory.c


def file_behind(data: Bytes) -> MappedFile | None:
    """Return the mapped file that bytes are of, or None for others."""
    file: object = data.obj if isinstance(data, memoryview) else None
    if type(file).__name__ != "MappedFile":  # not isinstance: its module, and mmap, are loaded only where there is such a file
        return None
    return file  # type: ignore[return-value]


def mappable(piece: Piece, memory: int) -> tuple[int, int]:
    """Return how many bytes of a piece, from its first on, are to be mapped, and where in its file they lie; (0, 0) for none.

    Args:
        memory: bytes of the guest's.

    Whole pages only: behind the file's last bytes a mapping shows what follows there, and memory has to be zero.
    """
    file = file_behind(piece.data)
    if file is None or memory >= LARGE_GUEST:
        return 0, 0
    place = offset_in(file, memoryview(piece.data))
    if piece.address % PAGE or place % PAGE:
        return 0, 0
    return len(piece.data) & -PAGE, place
