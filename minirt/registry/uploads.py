"""A blob that is arriving: a file that grows, until its digest makes it content (distribution-spec spec.md#pushing-blobs).

The length of the file is where the upload stands. That is all there is to resume: a server that was killed finds it
when it is asked again. Its hash so far is kept in memory, and computed from the file where it is not.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import uuid
from collections import OrderedDict

from minirt.image import digest as digests
from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Blobs
    from minirt.image.digest import Hash
    from minirt.registry.repository import Repository

__all__ = ["Upload", "Uploads"]

PIECE = 1 << 20  # bytes read at once where a hash is computed again
_REMEMBERED = 1000  # hashes
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Uploads:
    """The uploads of all repositories, and the hashes of those that this process has seen."""

    def __init__(self, blobs: Blobs) -> None:
        self.content = blobs
        self._hashes: OrderedDict[str, tuple[str, Hash, int]] = OrderedDict()

    def begin(self, repository: Repository) -> str:
        """Begin an upload. Returns its UUID."""
        name = str(uuid.uuid4())
        os.makedirs(repository.path + "/_uploads", 0o700, exist_ok=True)
        os.close(os.open(_path(repository, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return name

    def size(self, repository: Repository, name: str) -> int:
        """Return how many bytes have arrived. Raises Refusal (BLOB_UPLOAD_UNKNOWN)."""
        try:
            return os.stat(_path(repository, name)).st_size
        except FileNotFoundError:
            raise _unknown(repository, name) from None

    def open(self, repository: Repository, name: str) -> Upload:
        """Take an upload for oneself until it is closed.

        Raises Refusal: BLOB_UPLOAD_UNKNOWN, or BLOB_UPLOAD_INVALID with status 409 where another request has it.
        """
        try:
            fd = os.open(_path(repository, name), os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _unknown(repository, name) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Finished or cancelled between the two calls: what is open may be content by now, and must not grow.
            if not _same_file(fd, _path(repository, name)):
                raise _unknown(repository, name)
        except BlockingIOError:
            os.close(fd)
            raise Refusal("BLOB_UPLOAD_INVALID", "another request is writing to this upload", status=409) from None
        except BaseException:
            os.close(fd)
            raise
        return Upload(self, repository, name, fd)

    def cancel(self, repository: Repository, name: str) -> None:
        """Forget an upload. Raises Refusal, as `open` does."""
        upload = self.open(repository, name)
        try:
            upload.discard()
        finally:
            upload.close()

    def remember(self, path: str, algorithm: str, hash: Hash, size: int) -> None:
        """Keep the hash of a file's first `size` bytes."""
        self._hashes[path] = (algorithm, hash, size)
        while len(self._hashes) > _REMEMBERED:
            self._hashes.popitem(last=False)

    def recall(self, path: str, size: int) -> tuple[str, Hash] | None:
        """Return the algorithm and hash of a file, if it still has the size that it had then."""
        algorithm, hash, then = self._hashes.pop(path, ("", None, -1))
        return (algorithm, hash) if hash is not None and then == size else None


class Upload:
    """One upload, held by one request. Its methods wait for the disk: call them in a thread.

    Owns fd, which has the lock (man 2 flock); `close` gives both back.
    """

    def __init__(self, uploads: Uploads, repository: Repository, name: str, fd: int) -> None:
        self._uploads = uploads
        self._repository = repository
        self.name = name
        self._path = _path(repository, name)
        self._fd = fd
        self.size = os.fstat(fd).st_size  # bytes that have arrived
        found = uploads.recall(self._path, self.size)
        if found is None and self.size == 0:
            found = ("sha256", digests.hasher())
        self._algorithm = found[0] if found else ""
        self._hash: Hash | None = found[1] if found else None  # of what has arrived, where that is known

    def expect(self, digest: str) -> None:
        """Say how the blob will be called, if that is known before its first byte: then it is hashed only once."""
        algorithm = digest.partition(":")[0]
        if self.size == 0 and algorithm != self._algorithm:
            self._algorithm, self._hash = algorithm, digests.hasher(algorithm)

    def append(self, data: bytes) -> None:
        """Write what arrived. Raises OSError; of ENOSPC nothing remains, so that others have the space."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            self._hash = None
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                self.discard()
            raise
        self.size += len(data)
        if self._hash is not None:
            self._hash.update(data)

    def cut(self, size: int) -> None:
        """Take back what arrived after the first `size` bytes, which was not what was announced."""
        os.ftruncate(self._fd, size)
        self.size, self._hash = size, None

    def commit(self, digest: str) -> None:
        """Make the upload content of its repository. Call it inside Registry.adding.

        Raises Refusal (DIGEST_INVALID) where it is something else; the upload is gone then too, as no further
        byte can make it right.
        """
        have = self._digest(digest.partition(":")[0])
        if have != digest:
            self.discard()
            raise Refusal("DIGEST_INVALID", f"{self.size} bytes arrived, and are {have}, not {digest}")
        self._repository.blobs.touch(digest)  # before the content has its name: a link to nothing counts as none
        self._uploads.content.keep(self._path, self._fd, digest)
        self._hash = None

    def _digest(self, algorithm: str) -> str:
        hash = self._hash
        if hash is None or algorithm != self._algorithm:
            hash = digests.hasher(algorithm)
            offset = 0
            while piece := os.pread(self._fd, PIECE, offset):
                hash.update(piece)
                offset += len(piece)
        return f"{algorithm}:{hash.hexdigest()}"

    def discard(self) -> None:
        """Remove the upload."""
        try:
            os.unlink(self._path)
        except FileNotFoundError:
            pass
        os.ftruncate(self._fd, 0)
        self.size, self._hash = 0, None

    def close(self) -> None:
        """Let others have it."""
        if self._hash is not None:
            self._uploads.remember(self._path, self._algorithm, self._hash, self.size)
        os.close(self._fd)


def _path(repository: Repository, name: str) -> str:
    if not _UUID.fullmatch(name):
        raise _unknown(repository, name)
    return f"{repository.path}/_uploads/{name}"


def _same_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _unknown(repository: Repository, name: str) -> Refusal:
    return Refusal("BLOB_UPLOAD_UNKNOWN", f"{repository.name!r} has no upload {name[:60]!r}")
