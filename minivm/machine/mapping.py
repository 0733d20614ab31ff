"""How the bytes of a file come into guest memory: mapped, where its pages fit, or read.

A kernel of 50 MB is so in place at once, and only what the guest touches of it is ever read. But a file's pages are small
ones: where guest memory comes in large pages (csrc/kvm/memory.c) they are filled by preadv(2), one fault for 512 of a
mapping's, which was the faster in the lab (Debian's kernel, five boots of each in turn: 18.2 s copied, 23.5 s mapped). What is
mapped is this process's own (MAP_PRIVATE): what the guest writes goes nowhere else. Simplified: who shortens the file meanwhile
ends the machine by SIGBUS; kernels are replaced by a rename, as dpkg and minivm's cache do, and not written to.

What is read is read by two threads, a half each. The host has to find and to clear each of those large pages first, and that
is most of the work; on two processors of the lab a boot took 2.18 s, with one thread 2.25 s (medians of 15, in turn).
"""

from __future__ import annotations

import os
import threading

from minivm.kvm import offset_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minivm.boot.mapped import MappedFile
    from minivm.boot.start import Bytes, Piece

__all__ = ["file_behind", "mappable", "read"]

PAGE = 4096
LARGE_GUEST = 128 << 20  # as in csrc/kvm/memory.c
LARGE_PAGE = 2 << 20
READERS = 2  # threads; where no processor is free for the second nothing is won


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


def read(view: memoryview, fd: int, place: int) -> int:
    """Fill guest memory with a file's bytes from `place` on. Returns how many there were: less than asked for where the file ends.

    man 2 preadv. Raises OSError. The threads beside the caller's have ended on return.
    """
    count = max(1, min(READERS, len(view) // LARGE_PAGE))
    length = max(1, -(-len(view) // count // LARGE_PAGE)) * LARGE_PAGE  # bytes a thread: whole large pages
    done: list[int | OSError] = []

    def work(at: int) -> None:
        try:
            done.append(_read(view[at : at + length], fd, place + at))
        except OSError as error:
            done.append(error)

    others = [threading.Thread(target=work, args=(at,)) for at in range(length, len(view), length)]
    for thread in others:
        thread.start()
    work(0)
    for thread in others:
        thread.join()
    for each in done:
        if isinstance(each, OSError):
            raise each
    return sum(each for each in done if isinstance(each, int))


def _read(view: memoryview, fd: int, place: int) -> int:
    """Read until the view is full or the file at its end. Returns how many bytes."""
    done = 0
    while done < len(view) and (now := os.preadv(fd, [view[done:]], place + done)):
        done += now
    return done
