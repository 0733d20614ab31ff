"""The store: names, content and unpacked layers together.

    store = Store("/var/lib/minirt/image")
    image = store.resolve("busybox")
    image.config["config"]["Env"], image.layers()

Two locks keep writers from each other. `index.json.lock` is held while a name changes. `content.lock` is
held shared by whoever adds content that has no name yet, and exclusively by whoever removes what no name
leads to. Where both are needed, content comes first. Reading needs none.
"""

from __future__ import annotations

import os

from minirt.image.blobs import Blobs
from minirt.image.errors import Attempt, BadReference, Damaged, ImageError, UnknownImage
from minirt.image.holds import Holds
from minirt.image.image import MEDIA_CONFIG, Image
from minirt.image.index import MEDIA_MANIFEST, Index, name_of, replace_file
from minirt.image.layers import Layers
from minirt.image.origins import Origins
from minirt.image.partial import Partials
from minirt.image.reference import Reference
from minirt.image.scratch import Lock, Scratch, remove_tree
from minirt.image.steps import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.image.blobs import Descriptor

__all__ = ["MEDIA_CONFIG", "MEDIA_MANIFEST", "Image", "Store"]

MOMENT = 2.0  # seconds that who removes content waits for those who add some
LEFT = "/collect"  # a file that says that content was left for others to remove


class Store:
    """Images in one directory. Making the object touches nothing.

    Args: root, path of the directory; it is made, with mode 0700 (layers hold setuid programs), when
    something is first written.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        scratch = self.scratch = Scratch(root + "/tmp")
        self.index = Index(root)
        self.blobs = Blobs(root + "/blobs", scratch)
        self.layers = Layers(root + "/layers", scratch)
        self.steps = Steps(root + "/steps")
        self.holds = Holds(root + "/holds")
        self.partials = Partials(root + "/partial", self.blobs)
        self.origins = Origins(root + "/origins")

    # -- reading

    def resolve(self, name: str) -> Image:
        """Find an image by name (`busybox`, `busybox:1.35`, `busybox@sha256:…`) or by the start of its ID.

        Returns it. Raises BadReference, UnknownImage, Damaged, StoreError.
        """
        with Attempt(f"read the image store {self.root}"):
            try:
                reference = Reference.parse(name)
            except BadReference:
                found = self._by_id(name)
                if found is None:
                    raise
                return found
            entry = self.index.find(reference.familiar)
            if entry is None and reference.digest is not None:
                entry = self._by_digest(reference)
            if entry is not None:
                return self._read(entry, name)
            found = self._by_id(name) or self._by_short_name(reference, name)
        if found is None:
            raise UnknownImage(
                f"no image named {name!r}: `minirt image ls` lists what is here; "
                f"`minirt pull {name}` fetches it, `minirt image import ROOTFS.tar {name}` makes one"
            )
        return found

    def image(self, entry: Descriptor) -> Image:
        """Return the image that an entry of the index means. Raises Damaged."""
        return Image(self, name_of(entry), entry)  # "" where its name went to another image

    def _read(self, entry: Descriptor, name: str) -> Image:
        try:
            return self.image(entry)
        except Damaged:
            if entry in self.index.entries():
                raise
            return self.resolve(name)  # the name was given to another image while we read

    def images(self) -> list[Image]:
        """Return all images in order of their names. Raises Damaged, StoreError."""
        with Attempt(f"read the image store {self.root}"):
            return [self.image(entry) for entry in self.index.entries()]

    def listed(self) -> Iterator[tuple[str, Image | None]]:
        """Yield all names in order, each with its image, or None where that cannot be read: so a list is always to be had.

        Raises Damaged where there is no list of names, StoreError.
        """
        with Attempt(f"read the image store {self.root}"):
            for entry in self.index.entries():
                try:
                    yield name_of(entry), self.image(entry)
                except ImageError:
                    yield name_of(entry), None

    def readable(self) -> list[Image]:
        """Return the images that can be read, in order of their names. Raises as `listed` does."""
        return [image for _, image in self.listed() if image is not None]

    def _by_digest(self, reference: Reference) -> Descriptor | None:
        for entry in self.index.entries():
            try:
                other = Reference.parse(name_of(entry))
            except BadReference:  # another tool wrote it
                continue
            same = (other.registry, other.repository) == (reference.registry, reference.repository)
            if same and entry.get("digest") == reference.digest:
                return entry
        return None

    def _by_id(self, text: str) -> Image | None:
        """Find an image by the first digits of its ID or of its manifest's digest."""
        algorithm, _, start = text.rpartition(":")
        if len(start) < 4 or start.strip("0123456789abcdef"):
            return None
        start = (algorithm or "sha256") + ":" + start
        found: dict[str, Image] = {}
        for entry in self.index.entries():
            try:
                image = self.image(entry)
            except ImageError:
                continue
            if image.id.startswith(start) or image.digest.startswith(start):
                found.setdefault(image.digest, image)
        if len(found) > 1:
            raise BadReference(f"{text!r} is the start of {len(found)} images' IDs")
        return next(iter(found.values()), None)

    def _by_short_name(self, reference: Reference, name: str) -> Image | None:
        """Find an image by a name without its registry, as registries.conf lets one be pulled. Raises BadReference."""
        if name.startswith(("docker.io/", "index.docker.io/")) or reference.registry != "docker.io" or reference.digest:
            return None
        end = f"/{reference.familiar}"
        found = [entry for entry in self.index.entries() if name_of(entry).endswith(end)]
        if len(found) > 1:
            raise BadReference(f"{name!r} may be {' or '.join(map(name_of, found))}")
        return self.image(found[0]) if found else None

    # -- writing

    def adding(self) -> Lock:
        """Keep content that has no name yet from being removed, while the body runs."""
        self._make()
        return Lock(self.root + "/content.lock", shared=True)

    def _make(self) -> None:
        """Make an empty image layout (image-spec image-layout.md), or add what a store has to another tool's layout."""
        if os.path.exists(self.root + "/oci-layout") and os.path.exists(self.root + "/holds"):
            return
        with Attempt(f"make the image store {self.root}"):
            os.makedirs(self.root, exist_ok=True)
            os.chmod(self.root, 0o700)
            for name in ("blobs/sha256", "layers", "tmp", "holds"):
                os.makedirs(f"{self.root}/{name}", 0o700, exist_ok=True)
            with Lock(self.root + "/content.lock"):
                if not os.path.exists(self.root + "/index.json"):
                    replace_file(self.root + "/index.json", b'{"schemaVersion":2,"manifests":[]}\n')
                replace_file(self.root + "/oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')

    def add_image(
        self,
        config: dict[str, Any],
        layers: list[Descriptor],
        annotations: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Descriptor:
        """Write an image's configuration and manifest. Call it inside `adding`, and `set_name` after it.

        Returns the manifest's descriptor.
        """
        return self.add_manifest(self.blobs.add_json(config, MEDIA_CONFIG), layers, config, annotations, more)

    def add_manifest(
        self,
        descriptor: Descriptor,
        layers: list[Descriptor],
        config: dict[str, Any],
        annotations: dict[str, str] | None = None,
        more: dict[str, Any] | None = None,
    ) -> Descriptor:
        """Write the manifest of an image whose configuration is a blob already. Call it as `add_image`.

        Args: descriptor, of the configuration; config, what it says; more, other fields of the manifest: `subject`.
        Returns the manifest's descriptor.
        """
        manifest: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": MEDIA_MANIFEST,
            "config": descriptor,
            "layers": layers,
            **(more or {}),
        }
        if annotations:
            manifest["annotations"] = annotations
        written = self.blobs.add_json(manifest, MEDIA_MANIFEST)
        written["platform"] = {"architecture": config["architecture"], "os": config["os"]}
        return written

    def nameless(self) -> int:
        """Return an fd of a file for what is needed only for a moment: it has no name, and goes with its last fd."""
        self._make()
        path, fd = self.scratch.file()
        os.unlink(path)
        return fd

    def set_name(self, name: str, descriptor: Descriptor, *, keep: bool = True) -> str:
        """Let a name mean a manifest.

        Args: keep, whether the image that had the name stays without one, if it has no other; else `collect` removes it.
        Returns the digest of that image, or "". Raises BadReference, StoreError.
        """
        with Attempt(f"write the image store {self.root}"):
            return self.index.set(_tagged(name), descriptor, keep=keep)

    def add_nameless(self, descriptor: Descriptor) -> None:
        """Keep an image that has no name: its ID leads to it. Raises StoreError."""
        with Attempt(f"write the image store {self.root}"):
            self.index.add(descriptor)

    def pin(self, name: str, descriptor: Descriptor) -> str:
        """Let a name with a digest mean what a registry has under that digest: the manifest, or one of an index's.

        Returns and raises what `set_name` does.
        """
        with Attempt(f"write the image store {self.root}"):
            return self.index.set(Reference.parse(name).familiar, descriptor)

    def tag(self, source: str, name: str) -> None:
        """Give an image another name. Raises UnknownImage, BadReference, StoreError."""
        _tagged(name)
        with self.adding():
            self.set_name(name, dict(self.resolve(source).descriptor))

    def remove(self, name: str) -> list[str]:
        """Remove a name, or the image with an ID that has none, and the content that no other name and no hold leads to.

        Returns the digests of the blobs removed. Raises UnknownImage, BadReference, StoreError.
        """
        with Attempt(f"write the image store {self.root}"):
            self.index.remove(*self.stored(name))
        return self.collect()

    def stored(self, name: str) -> tuple[str, str]:
        """Return a name as the index has it, or "" and the digest of an image that has none.

        It is not read where that can be: a damaged one can be removed too. Raises UnknownImage, BadReference.
        """
        try:
            familiar = Reference.parse(name).familiar
        except BadReference:  # an ID in full
            familiar = ""
        if familiar and self.index.find(familiar) is not None:
            return familiar, ""
        image = self.resolve(name)
        return image.name, image.digest

    def collect(self, *, wait: bool = True) -> list[str]:
        """Remove the blobs and layers that no name and no hold leads to, and what killed processes left.

        Args: wait, a moment for those who add content. They may be at it for an hour: then it is left to who is last of them
        (`settle`).
        Returns the digests of the blobs. Where an image that stays cannot be read, no content is removed, as
        what it needs is not known.
        """
        from minirt.image.collect import remove_unneeded

        self._make()
        with Attempt(f"write the image store {self.root}"):
            try:
                with Lock(self.root + "/content.lock", wait=MOMENT if wait else 0):
                    remove_tree(self.root + LEFT)
                    self.scratch.sweep()
                    self.partials.sweep()
                    self.holds.sweep()
                    return remove_unneeded(self)
            except BlockingIOError:
                os.close(os.open(self.root + LEFT, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
                return []

    def settle(self) -> None:
        """Remove what somebody could not remove while we were adding content. Call it after `adding`; it waits for nobody."""
        if os.path.exists(self.root + LEFT):
            self.collect(wait=False)

    # -- holds: a container needs its image even when the name is gone

    def hold(self, owner: str, image: Image) -> None:
        """Keep an image's content for an owner (a container's ID) until `release`.

        Raises UnknownImage where it was removed a moment ago.
        """
        with self.adding(), Attempt(f"write the image store {self.root}"):
            if not os.path.exists(self.blobs.path(image.digest)):
                raise UnknownImage(f"image {image.label!r} was removed just now")
            self.holds.write(owner, image.descriptor)

    def held(self, owner: str) -> Image:
        """Return the image that an owner holds, whatever has become of its name. Raises UnknownImage, Damaged."""
        return self.image(self.holds.read(owner))

    def release(self, owner: str) -> None:
        """End an owner's hold; the content goes with the next removal. No hold is no error."""
        self.holds.release(owner)

    def holders(self) -> list[str]:
        """Return all owners of holds."""
        return self.holds.owners()


def _tagged(name: str) -> str:
    """Return the form of a name that index.json has. Raises BadReference where it has a digest."""
    reference = Reference.parse(name)
    if reference.digest is not None:
        raise BadReference(f"{name!r} has a digest: only an image gives itself one")
    return reference.familiar
