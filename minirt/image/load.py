"""Images out of an archive, an OCI layout or docker's, in one pass: it may come through a pipe.

Each file of it becomes a blob as it comes, whatever it may be for; what no image needs goes again at the end.
"""

from __future__ import annotations

import json
import posixpath

from minirt.image.blobs import DOCUMENT_LIMIT
from minirt.image.compression import Bounded, Tap, decompressed, media_type, open_archive, sniff
from minirt.image.digest import is_digest
from minirt.image.errors import Attempt, BadArchive, Damaged, ImageError
from minirt.image.index import INDEXES, REF_NAME
from minirt.image.reference import Reference
from minirt.image.save import CONTAINERD_NAME
from minirt.image.tar import Archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.image.compression import Reader
    from minirt.image.header import Entry
    from minirt.image.store import Image, Store

__all__ = ["load"]

ENTRIES_LIMIT = 100_000
PACKED_LIMIT = 256 << 30  # bytes that an archive may unpack to


class _File:
    """A file of the archive, which is a blob now."""

    def __init__(self, digest: str, size: int, first: bytes) -> None:
        self.digest = digest
        self.size = size
        self.first = first  # its first bytes, which show the compression

    def descriptor(self, media: str) -> Descriptor:
        return {"mediaType": media, "digest": self.digest, "size": self.size}


def load(
    store: Store, fd: int, *, origin: str = "-", tag: str = "", platform: str = "", progress: Callable[[int], object] = bool
) -> list[Image]:
    """Take the images of an archive into the store.

    Args: fd, to read it from, a pipe or a file; origin, what to call it in errors; tag, a name for an image that has none;
    platform, of an index, by default this machine's; progress, called with the number of bytes just read.
    Returns the images. Raises BadArchive, Damaged, BadReference, ImageError, StoreError; then nothing is kept.
    """
    try:
        with Attempt(f"load {origin}"), store.adding():
            names = _Loader(store, tag, platform).load(fd, progress)
    except BadArchive as error:
        store.collect(wait=False)
        raise BadArchive(f"cannot load {origin}: {error}") from error
    except ImageError:
        store.collect(wait=False)
        raise
    store.collect(wait=False)
    return [store.resolve(name) for name in names]


class _Loader:
    def __init__(self, store: Store, tag: str, platform: str) -> None:
        self._store = store
        self._tag = tag
        self._platform = platform
        self._files: dict[str, _File] = {}  # by name in the archive
        self._links: dict[str, str] = {}

    def load(self, fd: int, progress: Callable[[int], object]) -> list[str]:
        """Read the archive, and name what is in it. Returns the names, of an image without one its digest."""
        compression, packed = open_archive(fd)
        source: Reader = decompressed(compression, Tap(packed, lambda data: progress(len(data))))
        if compression:  # else it can be no more than what came
            source = Bounded(source, PACKED_LIMIT, "an archive")
        archive = Archive(source, whole=True)
        for count, entry in enumerate(archive, 1):
            if count > ENTRIES_LIMIT:
                raise BadArchive(f"it has more than {ENTRIES_LIMIT} entries")
            self._take(entry, archive)
        if "index.json" in self._files:
            images = self._oci()
        elif "manifest.json" in self._files:
            images = self._docker()
        else:
            raise BadArchive("it has neither an index.json nor a manifest.json: `minirt image import` takes a root file system")
        for name, descriptor in images:  # now that all of them are known to be right
            if name:
                self._store.set_name(name, descriptor)
            else:
                self._store.add_nameless(descriptor)
        return [name or str(descriptor["digest"]) for name, descriptor in images]

    def _take(self, entry: Entry, archive: Archive) -> None:
        name = posixpath.normpath(entry.name.decode(errors="replace"))
        if entry.kind in ("symlink", "hardlink"):  # docker's way to have one layer twice
            target = entry.link.decode(errors="replace")
            base = posixpath.dirname(name) if entry.kind == "symlink" else ""
            self._links[name] = posixpath.normpath(posixpath.join(base, target))
        elif entry.kind == "file" and entry.segments is None:
            parts = name.split("/")
            digest = ":".join(parts[1:]) if len(parts) == 3 and parts[0] == "blobs" else ""
            digest = digest if is_digest(digest) else ""
            self._files[name] = self._blob(entry, archive, digest)

    def _blob(self, entry: Entry, archive: Archive, digest: str) -> _File:
        first = b""
        with self._store.blobs.writer(digest.partition(":")[0] or "sha256") as blob:
            for piece in archive.data(entry.stored):
                first = first or bytes(piece[:16])
                blob.write(piece)
            found = blob.commit("", digest=digest)
        return _File(found["digest"], found["size"], first)

    def _file(self, name: object) -> _File:
        """Return a file by its name in the archive. Raises BadArchive."""
        path = posixpath.normpath(str(name))
        for _ in range(10):
            if path in self._files:
                return self._files[path]
            path = self._links.get(path, "")
        raise BadArchive(f"it says that it has {str(name)[:200]!r}, and has not")

    def _document(self, file: _File) -> Any:
        if file.size > DOCUMENT_LIMIT:
            raise BadArchive(f"a document in it has {file.size} bytes")
        try:
            return json.loads(self._store.blobs.read(file.descriptor("")))
        except (ValueError, RecursionError):
            raise BadArchive("a document in it is not JSON") from None

    # -- an OCI layout

    def _oci(self) -> list[tuple[str, Descriptor]]:
        index = self._document(self._files["index.json"])
        try:
            entries = [entry for entry in index["manifests"] if isinstance(entry, dict)]
        except (TypeError, KeyError):
            raise BadArchive("its index.json is not an image index") from None
        return [self._oci_image(entry, self._oci_name(entry, len(entries))) for entry in entries]

    def _oci_name(self, entry: Descriptor, count: int) -> str:
        notes = entry.get("annotations")
        notes = notes if isinstance(notes, dict) else {}
        name = str(notes.get(CONTAINERD_NAME) or notes.get(REF_NAME) or "")
        if self._tag and count == 1:
            name = self._tag
        return self._named(name)

    def _named(self, name: str) -> str:
        """Return a name as the store has it; "" where the archive has none: then the image's ID leads to it."""
        return Reference.parse(name).familiar if name else ""

    def _oci_image(self, entry: Descriptor, name: str) -> tuple[str, Descriptor]:
        from minirt.image.remote.platform import Platform, choose

        if entry.get("mediaType") in INDEXES:
            inner = self._store.blobs.read_json
            entry = choose(inner(entry), Platform.parse(self._platform), name, inner)
        descriptor: Descriptor = {key: entry[key] for key in ("mediaType", "digest", "size", "platform") if key in entry}
        self._check(name, descriptor)
        return name, descriptor

    def _check(self, name: str, descriptor: Descriptor) -> None:
        """See that an image is all there and what it says, and unpack it."""
        from minirt.image.shape import wrong_in
        from minirt.image.store import Image

        image = Image(self._store, name, descriptor)
        if wrong := wrong_in(image.config):
            raise BadArchive(f"image {name!r} has a configuration in which {wrong}")
        for layer in image.manifest["layers"]:
            if not self._store.blobs.has(layer):
                raise Damaged(f"image {name!r}: its layer {layer['digest']} is not in the archive")
        if all("tar" in str(layer.get("mediaType")) for layer in image.manifest["layers"]):  # else they are signatures
            image.layers()  # docker's archives have no digest of a layer but this one

    # -- docker's

    def _docker(self) -> list[tuple[str, Descriptor]]:
        images: list[tuple[str, Descriptor]] = []
        entries = self._document(self._files["manifest.json"])
        try:
            for entry in entries:
                images += self._docker_image(entry, self._docker_names(entry, len(entries)))
        except (TypeError, KeyError, AttributeError):
            raise BadArchive("its manifest.json is not docker's") from None
        return images

    def _docker_names(self, entry: dict[str, Any], count: int) -> list[str]:
        tags = [self._tag] if self._tag and count == 1 else entry.get("RepoTags") or [""]
        return [self._named(str(tag)) for tag in tags]

    def _docker_image(self, entry: dict[str, Any], names: list[str]) -> list[tuple[str, Descriptor]]:
        config = self._document(self._file(entry["Config"]))
        layers = []
        for path in entry["Layers"]:
            file = self._file(path)
            layers.append(file.descriptor(media_type(sniff(file.first))))
        descriptor = self._store.add_manifest(
            self._file(entry["Config"]).descriptor("application/vnd.oci.image.config.v1+json"), layers, config
        )
        self._check(names[0], descriptor)
        return [(name, descriptor) for name in names]
