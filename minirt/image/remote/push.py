"""An image of the store to a registry: its blobs several at a time, then its manifest, so that who sees it can have it."""

from __future__ import annotations

import threading
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

from minirt.image.digest import is_digest
from minirt.image.errors import Attempt, BadReference
from minirt.image.reference import Reference
from minirt.image.remote.pull import Quiet
from minirt.image.remote.registries import Registries
from minirt.image.remote.registry import connect
from minirt.image.remote.together import raise_first
from minirt.image.remote.upload import upload
from minirt.image.signing.attach import attachment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.image.blobs import Descriptor
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.pull import Progress
    from minirt.image.remote.repository import Repository
    from minirt.image.store import Image, Store

__all__ = ["push", "push_image"]

UPLOADS = 4  # at a time
NEIGHBOURS = 3  # that are asked for a blob: each costs a request, which is worth less than the bytes


def push(
    store: Store,
    name: str,
    target: str = "",
    *,
    verify: bool = True,
    credentials: Credentials | None = None,
    progress: Progress | None = None,
) -> tuple[Reference, Image]:
    """Send an image, and give it its tag there; then its signatures, if it has any under the name that it has there.

    Args: name, of the image; target, its name in the registry, by default the same; verify, as in Http; credentials,
    in place of those that the files have.
    Returns what it is called there, and the image. Raises UnknownImage, BadReference, RegistryError and those below it.
    """
    image = store.resolve(name)
    target = target.removeprefix("docker://") or image.name
    if not target:
        raise BadReference(f"image {image.label} has no name: `minirt tag` gives it one")
    reference = Reference.parse(target)
    if reference.digest is not None and reference.digest != image.digest:
        raise BadReference(f"{reference} has a digest that {name!r} has not: {image.digest}")
    repository = connect(Registries.load().home(reference), verify=verify, credentials=credentials)
    with store.adding(), Attempt(f"push {name!r}"):  # nothing of it is to be removed meanwhile
        push_image(store, repository, image, reference.digest or reference.tag or image.digest, progress or Quiet())
        signatures = attachment(reference, image.digest)
        if store.index.find(signatures.familiar) is not None:
            push_image(store, repository, store.resolve(signatures.familiar), str(signatures.tag), progress or Quiet())
    store.settle()
    return reference, image


def push_image(store: Store, repository: Repository, image: Image, tag: str, progress: Progress) -> None:
    """Send an image's blobs and its manifest. Args: tag, or the manifest's digest. Raises RegistryError and those below it."""
    data = store.blobs.read(image.descriptor)
    blobs = {str(blob["digest"]): blob for blob in [*image.manifest["layers"], image.manifest["config"]]}
    if repository.manifest_digest(tag) == image.digest:
        progress.say(image.digest, "there")
        store.origins.add(blobs, str(repository))
        _refer(repository, image)  # who pushed it may have been killed in between
        return
    stopped = threading.Event()

    def send(blob: Descriptor) -> None:
        digest = str(blob["digest"])
        progress.begin(digest, blob["size"])
        with open(store.blobs.open(blob), "rb", buffering=0) as file:
            how = upload(repository, file.fileno(), blob, lambda count: progress.advance(digest, count),
                         _neighbours(store, repository, digest), stopped.is_set)  # fmt: skip
        progress.say(digest, how)

    with ThreadPoolExecutor(UPLOADS, "push") as pushers:
        futures = [pushers.submit(send, blob) for blob in blobs.values()]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            if not all(future.done() and not future.cancelled() and not future.exception() for future in futures):
                stopped.set()
                for future in futures:
                    future.cancel()
    raise_first(futures)
    response = repository.put_manifest(tag, data, str(image.descriptor["mediaType"]))
    store.origins.add(blobs, str(repository))
    if "OCI-Subject" not in response.headers:  # else the registry itself has seen what it refers to
        _refer(repository, image)


def _refer(repository: Repository, image: Image) -> None:
    """See to it that an image is listed with those that refer to the same subject, if it has one."""
    subject = image.manifest.get("subject")
    if not isinstance(subject, dict):
        return
    digest = str(subject.get("digest"))
    if not is_digest(digest) or any(entry.get("digest") == image.digest for entry in repository.referrers(digest)):
        return
    entry = {name: image.descriptor[name] for name in ("mediaType", "digest", "size")}
    entry["artifactType"] = image.manifest.get("artifactType") or image.manifest["config"]["mediaType"]
    if image.manifest.get("annotations"):
        entry["annotations"] = image.manifest["annotations"]
    repository.add_referrer(digest, entry)


def _neighbours(store: Store, repository: Repository, digest: str) -> list[str]:
    """Return other repositories of the same registry that may have a blob, the newest of which we know first."""
    host = repository.host + "/"
    others = [name for name in store.origins.of(digest) if name.startswith(host) and name != str(repository)]
    return [name.removeprefix(host) for name in others[:NEIGHBOURS]]
