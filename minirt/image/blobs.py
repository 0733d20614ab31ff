"""Content, named by its digest: `blobs/sha256/…` (image-spec image-layout.md#blobs).

A blob is written under a temporary name, hashed as it streams, fsynced and only then given its name.
So a name is a promise: whole, and right when it was written. A reader checks it all the same.
"""

from __future__ import annotations

import os

from minirt.image import digest as digests
from minirt.image.errors import Damaged
from minirt.image.scratch import Scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

    Descriptor = dict[str, Any]  # mediaType, digest, size: image-spec descriptor.md

__all__ = ["BlobWriter", "Blobs", "sync_directory"]

DOCUMENT_LIMIT = 4 << 20  # bytes of a manifest or configuration; registries take no more either


class Blobs:
    """The blobs of one store."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self._root = root
        self._scratch = scratch

    def path(self, digest: str) -> str:
        """Return the path of a blob, whether it exists or not. Raises Damaged for what is no digest."""
        return f"{self._root}/{digests.path_of(digest)}"

    def open(self, descriptor: Descriptor) -> int:
        """Open a blob for reading. Returns an fd. Raises Damaged where it is missing or has another size."""
        digest, size = str(descriptor.get("digest")), descriptor.get("size")
        try:
            fd = os.open(self.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise Damaged(f"blob {digest} is missing") from None
        have = os.fstat(fd).st_size
        if have != size or type(size) is not int:  # 5.0 and True are equal to some, and no sizes
            os.close(fd)
            word = "truncated" if isinstance(size, int) and have < size else "altered"
            raise Damaged(f"blob {digest} is {word}: {have} bytes where {repr(size)[:40]} were written")
        return fd

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a document's bytes, checked against its digest. Raises Damaged."""
        digest = str(descriptor.get("digest"))
        fd = self.open(descriptor)
        try:
            if descriptor["size"] > DOCUMENT_LIMIT:
                raise Damaged(f"blob {digest} is {descriptor['size']} bytes: too long for a document")
            data = os.read(fd, descriptor["size"])
        finally:
            os.close(fd)
        if digests.of(data, digest.partition(":")[0]) != digest:
            raise Damaged(f"blob {digest} is altered")
        return data

    def read_json(self, descriptor: Descriptor) -> dict[str, Any]:
        """Return a JSON document, checked against its digest. Raises Damaged."""
        import json

        try:
            document = json.loads(self.read(descriptor))
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise Damaged(f"blob {descriptor['digest']} is not a JSON object")
        return document

    def has(self, descriptor: Descriptor) -> bool:
        """Return whether a blob is here, with the size that it should have. Raises Damaged for what is no digest."""
        try:
            return os.stat(self.path(str(descriptor.get("digest")))).st_size == descriptor.get("size")
        except FileNotFoundError:
            return False

    def writer(self, algorithm: str = "sha256") -> BlobWriter:
        """Begin a blob; a context manager, which keeps nothing unless `commit` is called."""
        return BlobWriter(self, algorithm)

    def add(self, data: bytes, media_type: str) -> Descriptor:
        """Write a blob. Returns its descriptor."""
        with self.writer() as blob:
            blob.write(data)
            return blob.commit(media_type)

    def add_json(self, document: object, media_type: str) -> Descriptor:
        """Write a document as JSON, always in the same bytes. Returns its descriptor."""
        import json

        text = json.dumps(document, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
        return self.add(text.encode(), media_type)

    def keep(self, path: str, fd: int, digest: str) -> None:
        """Give a file, which was found to be what a digest says, its name as a blob, durably."""
        final = self.path(digest)
        os.fsync(fd)
        os.fchmod(fd, 0o444)
        try:
            os.rename(path, final)  # over one of the same name, which heals a damaged one
        except FileNotFoundError:  # the first of its algorithm
            os.makedirs(os.path.dirname(final), 0o700, exist_ok=True)
            os.rename(path, final)
        sync_directory(os.path.dirname(final))

    def all(self) -> list[str]:
        """Return the digests of all blobs."""
        found = []
        for algorithm in os.listdir(self._root):
            found += [f"{algorithm}:{name}" for name in os.listdir(f"{self._root}/{algorithm}")]
        return sorted(filter(digests.is_digest, found))


class BlobWriter:
    """One blob being written."""

    def __init__(self, blobs: Blobs, algorithm: str) -> None:
        self._blobs = blobs
        self._algorithm = algorithm
        self._hash = digests.hasher(algorithm)
        self.size = 0  # bytes so far

    def __enter__(self) -> BlobWriter:
        self._path, self._fd = self._blobs._scratch.file()
        return self

    def write(self, data: bytes | memoryview) -> None:
        """Append data."""
        self._hash.update(data)
        self.size += len(data)
        while data:
            data = data[os.write(self._fd, data) :]

    @property
    def digest(self) -> str:
        """The digest of what was written so far."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def commit(self, media_type: str, *, digest: str = "", size: int = -1) -> Descriptor:
        """Give the blob its name, durably.

        Args: media_type for the descriptor; digest and size (bytes), where known before, to be checked.
        Returns the descriptor. Raises Damaged where it is not what was announced.
        """
        have = self.digest
        if (digest and digest != have) or size not in (-1, self.size):
            raise Damaged(f"blob {digest or have} arrived as {have} of {self.size} bytes")
        self._blobs.keep(self._path, self._fd, have)
        self._path = ""
        return {"mediaType": media_type, "digest": have, "size": self.size}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._path:
            os.unlink(self._path)
        os.close(self._fd)


def sync_directory(path: str) -> None:
    """Make a rename last through a power cut (man 2 fsync: the directory has to be synced as well)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
