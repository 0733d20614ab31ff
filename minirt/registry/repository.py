"""One repository: which blobs and manifests are its own, what its tags mean, who refers to what.

    repositories/team/app/_blobs/sha256/0123…          empty; its time says when somebody last built on it
    repositories/team/app/_manifests/sha256/0123…      the manifest's descriptor
    repositories/team/app/_tags/latest=                the descriptor of what the tag means
    repositories/team/app/_referrers/sha256/0123…/     for a subject: the descriptors of its referrers
    repositories/team/app/_uploads/UUID                what has arrived of a blob

No path component of a name begins with `_`. Each file is replaced whole, and each step leaves what is right by itself:
content before the link to it, the link before the tag. So a killed server leaves nothing that has to be mended.
"""

from __future__ import annotations

import json
import os

from minirt.image import digest as digests
from minirt.image.errors import Damaged
from minirt.image.scratch import Lock
from minirt.registry.errors import Refusal
from minirt.registry.links import Links
from minirt.registry.tags import Tags

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Blobs, Descriptor
    from minirt.registry.manifest import Manifest

__all__ = ["Repository"]


class Repository:
    """A repository; making the object touches nothing.

    Args: root, the directory of all repositories; name, checked by names.check_name; blobs, the store's content.
    """

    def __init__(self, root: str, name: str, blobs: Blobs) -> None:
        self.name = name
        self.path = f"{root}/{name}"
        self._content = blobs
        self.blobs = Links(self.path + "/_blobs")
        self.manifests = Links(self.path + "/_manifests")
        self.tags = Tags(self.path + "/_tags")

    @property
    def exists(self) -> bool:
        """Whether a manifest was ever pushed to it."""
        return os.path.isdir(self.manifests.root)

    def must_exist(self) -> Repository:
        """Return itself. Raises Refusal (NAME_UNKNOWN)."""
        if not self.exists:
            raise Refusal("NAME_UNKNOWN", f"no repository {self.name!r}")
        return self

    def lock(self) -> Lock:
        """Keep other writers of manifests and tags away while the body runs."""
        os.makedirs(self.path, 0o700, exist_ok=True)
        return Lock(self.path + "/_lock")

    # -- blobs

    def blob_size(self, digest: str) -> int:
        """Return the bytes of a blob, or -1 where the repository has none of this digest."""
        if digest not in self.blobs and digest not in self.manifests:  # a manifest is a blob too
            return -1
        try:
            return os.stat(self._content.path(digest)).st_size
        except FileNotFoundError:
            return -1

    # -- manifests

    def find(self, reference: str) -> Descriptor:
        """Return the descriptor of the manifest that a tag or digest means. Raises Refusal (MANIFEST_UNKNOWN)."""
        digest = reference
        if ":" not in reference:
            digest = self.tags.digest(reference)
        found = self.manifests.get(digest) if digests.is_digest(digest) else None
        if found is None:
            self.must_exist()
            raise Refusal("MANIFEST_UNKNOWN", f"{self.name!r} has no manifest {reference[:200]!r}")
        return found

    def read(self, descriptor: Descriptor) -> bytes:
        """Return a manifest's bytes, compared with their digest. Raises Refusal."""
        try:
            return self._content.read(descriptor)
        except Damaged as error:
            raise Refusal("UNKNOWN", f"the registry's copy is damaged: {error}") from None

    def put(self, manifest: Manifest, digest: str, tag: str = "", *, complete: bool = True) -> None:
        """Keep a manifest, and let a tag mean it. Call it under the lock and Registry.adding.

        Args: complete, whether what it leads to must be here. Raises Refusal where it is not.
        """
        if complete:
            self._must_be_complete(manifest)
        self.blobs.sync()
        algorithm = digest.partition(":")[0]
        with self._content.writer(algorithm) as blob:
            blob.write(manifest.data)
            blob.commit(manifest.media_type, digest=digest)
        if manifest.subject is not None:
            self.referrers_of(manifest.subject["digest"]).set(digest, manifest.as_referrer(digest))
        self.manifests.set(digest, manifest.descriptor(digest))
        if tag:
            self.tags.set(tag, manifest.descriptor(digest))

    def _must_be_complete(self, manifest: Manifest) -> None:
        """Raise where what the manifest leads to, other than its subject, is not here (distribution-spec spec.md#push)."""
        for item in manifest.blobs:
            have = self.blob_size(item["digest"])
            if have < 0:
                raise Refusal("MANIFEST_BLOB_UNKNOWN", f"blob {item['digest']} is not in {self.name!r}")
            if have != item["size"]:
                raise Refusal("MANIFEST_INVALID", f"blob {item['digest']} has {have} bytes, not {item['size']}")
        for item in manifest.manifests:
            if item["digest"] not in self.manifests:
                raise Refusal("MANIFEST_BLOB_UNKNOWN", f"manifest {item['digest']} is not in {self.name!r}")

    def delete(self, digest: str) -> None:
        """Remove a manifest, and the tags that mean it. Call it under the lock. Raises Refusal."""
        descriptor = self.find(digest)
        subject = self._subject(descriptor)
        self.manifests.remove(digest)  # first: from here on nothing finds it, whatever else is still there
        for tag in self.tags.all():
            if self.tags.digest(tag) == digest:
                self.tags.remove(tag)
        if subject:
            self.referrers_of(subject).remove(digest)

    def _subject(self, descriptor: Descriptor) -> str:
        try:
            return str((json.loads(self._content.read(descriptor)).get("subject") or {}).get("digest", ""))
        except (Damaged, ValueError):
            return ""  # a damaged one can be deleted as well

    # -- referrers

    def referrers_of(self, subject: str) -> Links:
        """Return the links to what has this subject, which need not be here itself."""
        return Links(f"{self.path}/_referrers/{digests.path_of(subject)}")

    def referrers(self, subject: str) -> list[Descriptor]:
        """Return the descriptors of what has this subject."""
        links = self.referrers_of(subject)
        return [found for digest in links if digest in self.manifests and (found := links.get(digest))]
