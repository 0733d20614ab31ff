"""A blob that arrives in pieces, perhaps in more than one command: `partial/sha256-…`.

What `blobs.py` writes is gone with its writer. What comes over a network is kept when its writer is killed, and the
next command goes on where it ended: it hashes what is there, and asks the registry for the rest. Nobody trusts it
before its digest was right. `Store.collect` removes what is left, as it does with blobs that have no name.
"""

from __future__ import annotations

import os

from minirt.image import digest as digests
from minirt.image.errors import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from minirt.image.blobs import Blobs, Descriptor

__all__ = ["Partial", "Partials"]

PIECE = 1 << 20  # bytes read at a time


class Partials:
    """The directory of what has partly arrived."""

    def __init__(self, root: str, blobs: Blobs) -> None:
        self._root = root
        self._blobs = blobs

    def open(self, descriptor: Descriptor) -> Partial:
        """Return a blob to be gone on with; a context manager. Call it inside `Store.adding`."""
        return Partial(self._root, self._blobs, descriptor)

    def read(self, descriptor: Descriptor) -> int:
        """Return an fd of a blob that is in the store, or that has arrived and is found right, and waits for the disk.

        Raises Damaged where it is neither.
        """
        if not self._blobs.has(descriptor):
            try:
                fd = os.open(_place(self._root, str(descriptor["digest"])), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return self._blobs.open(descriptor)  # it got its name just now
            if os.fstat(fd).st_size == descriptor["size"]:
                return fd
            os.close(fd)  # it got its name just now, and this is a new one, of somebody who has not seen that
        return self._blobs.open(descriptor)

    def sweep(self) -> None:
        """Remove everything; nobody adds content meanwhile."""
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in names:
            os.unlink(f"{self._root}/{name}")


def _place(root: str, digest: str) -> str:
    return f"{root}/{digests.path_of(digest).replace('/', '-')}"


class Partial:
    """One blob that is arriving.

    While it is entered no other command or thread has it: who comes second waits, and then finds the blob whole.
    `size` is how many bytes have arrived, `whole` whether the blob was found to be in the store already.
    """

    def __init__(self, root: str, blobs: Blobs, descriptor: Descriptor) -> None:
        self._root = root
        self._blobs = blobs
        self._descriptor = descriptor
        self.digest = str(descriptor["digest"])
        self.total = int(descriptor["size"])  # bytes, as announced
        self.size = 0
        self.whole = False
        self.recovered = 0  # bytes of it that an earlier command left
        self._path = _place(root, self.digest)

    def __enter__(self) -> Partial:
        os.makedirs(self._root, 0o700, exist_ok=True)
        self._fd = self._lock()
        try:
            if self._blobs.has(self._descriptor):
                os.unlink(self._path)
                self.whole = True
            else:
                self._recover()
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def _lock(self) -> int:
        """Open the file and wait until it is ours; then see whether it still has its name."""
        import fcntl

        while True:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                ours, named = os.fstat(fd), os.stat(self._path)
                if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino):
                    return fd
            except FileNotFoundError:
                pass
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)  # who had it gave it the blob's name, or removed it

    def _recover(self) -> None:
        """Hash what an earlier command left."""
        self._hash = digests.hasher(self.digest.partition(":")[0])
        if os.fstat(self._fd).st_size > self.total:
            os.ftruncate(self._fd, 0)
        while piece := os.read(self._fd, PIECE):
            self._hash.update(piece)
            self.size += len(piece)
        self.recovered = self.size

    def write(self, data: bytes | memoryview) -> None:
        """Append what arrived. Raises Damaged where it is more than was announced."""
        if self.size + len(data) > self.total:
            raise Damaged(f"blob {self.digest} is longer than the {self.total} bytes that its manifest says")
        self._hash.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.size += len(data)

    def commit(self, verified: Callable[[], object] = bool) -> None:
        """Give the blob its name, when it is on the disk. Raises Damaged where it is not what was announced.

        Args: verified, called when it is known to be right, and the disk is still to be waited for.
        """
        have = f"{self.digest.partition(':')[0]}:{self._hash.hexdigest()}"
        if self.size != self.total or have != self.digest:
            raise Damaged(f"blob {self.digest} arrived as {have} of {self.size} bytes")
        verified()
        self._blobs.keep(self._path, self._fd, self.digest)
        self.whole = True

    def restart(self) -> None:
        """Forget what arrived: it is not what it should be, or the registry begins again."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._hash = digests.hasher(self.digest.partition(":")[0])
        self.size = self.recovered = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)
