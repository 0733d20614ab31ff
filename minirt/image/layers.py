"""A stack of layers as directories: `layers/CHAIN`, each ready to be one of overlayfs's lower directories.

A directory is named by its chain ID, which stands for the layer and all that lie below it (image-spec
config.md#layer-chainid), so images share the directories of a common base. It appears whole, by a rename.

Simplified: the files are not synced before the rename. After a power cut (not after a kill) a layer
may hold empty files; a real system calls syncfs first, or mounts the layer as an erofs image.
"""

from __future__ import annotations

import errno
import os

from minirt.image import digest as digests
from minirt.image.errors import Attempt, BadArchive, Damaged
from minirt.image.scratch import Scratch, remove_tree
from minirt.image.whiteouts import is_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.image.blobs import Blobs
    from minirt.image.compression import Reader
    from minirt.image.layer import Limits

__all__ = ["Layers", "Unpacking", "chain_ids"]


def chain_ids(diff_ids: list[str]) -> list[str]:
    """Return a chain ID for each layer, lowest first."""
    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(digests.of(f"{chain[-1]} {diff_id}".encode()) if chain else diff_id)
    return chain


class Layers:
    """The unpacked layers of one store."""

    def __init__(self, root: str, scratch: Scratch) -> None:
        self._root = root
        self._scratch = scratch

    def path(self, chain_id: str) -> str:
        """Return a layer's directory, whether it exists or not. Raises Damaged for what is no digest."""
        return f"{self._root}/{digests.path_of(chain_id).rpartition('/')[2]}"

    def has(self, path: str) -> bool:
        """Return whether a layer's directory is there."""
        return os.path.isdir(path)

    def find(self, diff_ids: list[str]) -> list[str] | None:
        """Return the directories of a stack, in the order of overlayfs's `lowerdir=`: topmost first.

        None where one of them is not unpacked yet. Below a layer whose root is opaque the rest is left out:
        overlayfs itself looks at no opaque mark on a layer's root.
        """
        found: list[str] = []
        for chain_id in reversed(chain_ids(diff_ids)):
            path = self.path(chain_id)
            try:
                os.stat(path)
            except FileNotFoundError:
                return None
            found.append(path)
            if is_opaque(path):
                break
        return found

    def unpack(self, blobs: Blobs, layers: list[dict[str, Any]], diff_ids: list[str]) -> list[str]:
        """Unpack what is missing of a stack.

        Args: layers, descriptors lowest first; diff_ids, the digest of each one's uncompressed tar.
        Returns what `find` does. Raises Damaged for a blob that is not what it should be, BadArchive, StoreError.
        """
        below: list[str] = []
        for layer, diff_id, chain_id in zip(layers, diff_ids, chain_ids(diff_ids), strict=True):
            path = self.path(chain_id)
            if not self.has(path):
                self._unpack_one(blobs, layer, diff_id, path, below)
            below.insert(0, path)
        found = self.find(diff_ids)
        assert found is not None
        return found

    def _unpack_one(self, blobs: Blobs, layer: dict[str, Any], diff_id: str, path: str, below: list[str]) -> None:
        from minirt.image.compression import FdReader

        fd = blobs.open(layer)
        try:
            self.unpack_one(FdReader(fd), layer, diff_id, path, below)
        finally:
            os.close(fd)

    def unpack_one(
        self,
        source: Reader,
        layer: dict[str, Any],
        diff_id: str,
        path: str,
        below: list[str] | Callable[[], list[str]],
        ready: Callable[[], object] = bool,
    ) -> None:
        """Unpack one layer.

        Args: source, of its blob; layer, its descriptor; path, of the directory to be; below as in Unpacking;
        ready, called when all is unpacked and right: the layer appears when it returns.
        Raises Damaged for a blob that is not what it should be, BadArchive, StoreError, and what `ready` raises.
        """
        from minirt.image.compression import compression_of

        compression = compression_of(str(layer.get("mediaType")))
        try:
            with Unpacking(self, compression, source, below, algorithm=diff_id.partition(":")[0]) as unpacking:
                if unpacking.diff_id != diff_id:
                    have = unpacking.diff_id
                    raise Damaged(f"blob {layer['digest']} is altered: it unpacks to {have}, not {diff_id}")
                ready()
                unpacking.commit(path)
        except BadArchive as error:
            raise Damaged(f"blob {layer['digest']} cannot be unpacked: {error}") from error

    def all(self) -> list[str]:
        """Return the names of all directories here: chain IDs without their algorithm."""
        return sorted(os.listdir(self._root))

    def remove(self, name: str) -> None:
        """Remove a directory: first its name, so that a crash leaves no half layer."""
        path, fd = self._scratch.directory()
        try:
            os.rename(f"{self._root}/{name}", f"{path}/layer")
            remove_tree(path)
        finally:
            os.close(fd)


class Unpacking:
    """A layer on its way from an archive to a directory; a context manager that keeps nothing by itself.

    Args: layers, where it goes; compression, "", "gzip" or "zstd"; source, the archive; below, the directories
    of the layers under it, topmost first, or a function that returns them, called when all entries are made; whole and
    limits as in layer.unpack; algorithm, of the diff_id.
    Entering it reads the source to its end. `diff_id` is then the digest of the uncompressed tar and
    `size` its length in bytes.
    """

    def __init__(
        self,
        layers: Layers,
        compression: str,
        source: Reader,
        below: list[str] | Callable[[], list[str]],
        *,
        whole: bool = False,
        limits: Limits | None = None,
        algorithm: str = "sha256",
    ) -> None:
        self._layers = layers
        self._compression = compression
        self._source = source
        self._below = below
        self._whole = whole
        self._limits = limits
        self._algorithm = algorithm
        self._hash = digests.hasher(algorithm)
        self.size = 0

    def __enter__(self) -> Unpacking:
        from minirt.image.compression import Tap, decompressed
        from minirt.image.layer import unpack

        self._path, self._fd = self._layers._scratch.directory()
        try:
            tar = Tap(decompressed(self._compression, self._source), self._hash.update, self._count)
            with Attempt("unpack the layer"):
                unpack(tar, self._path, lower=self._below, whole=self._whole, limits=self._limits)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _count(self, data: bytes) -> None:
        self.size += len(data)

    @property
    def diff_id(self) -> str:
        """The digest of the uncompressed tar."""
        return f"{self._algorithm}:{self._hash.hexdigest()}"

    def commit(self, path: str) -> None:
        """Give the directory its name; if another process was faster, keep the other's."""
        try:
            os.rename(self._path, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise

    def __exit__(self, *_: object) -> None:
        remove_tree(self._path)
        os.close(self._fd)
