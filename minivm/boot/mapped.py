"""A file that is mapped: its bytes without reading them, and its descriptor for who wants to map it elsewhere."""

from __future__ import annotations

import mmap
import os

__all__ = ["MappedFile"]


class MappedFile(mmap.mmap):
    """A regular file, mapped for reading as long as a memoryview of it is kept.

    Args:
        fd: a descriptor, which stays the caller's.
    """

    fd = -1

    def __new__(cls, fd: int) -> MappedFile:
        made = super().__new__(cls, fd, 0, prot=mmap.PROT_READ)
        made.fd = os.dup(fd)
        return made

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)

    def forget(self) -> None:
        """Let go of the pages that have been read through it; they are read anew when they are touched again."""
        self.madvise(mmap.MADV_DONTNEED)
