"""An image from a registry into the store, its layers several at a time, each unpacked while others still arrive.

    manifest ─▶ configuration ─▶ layer ─fetch─▶ blob ─unpack─▶ directory ─▶ name
                                 layer ─fetch─▶ blob ─unpack─▶ directory
"""

from __future__ import annotations

from minirt.image.errors import Attempt, Damaged, ImageError, StoreError
from minirt.image.index import INDEXES
from minirt.image.remote.errors import Denied, Lied, NotThere, Unreachable
from minirt.image.remote.platform import Platform, choose
from minirt.image.remote.registries import Registries
from minirt.image.remote.registry import connect
from minirt.image.remote.together import Stopped
from minirt.image.signing import policy as signing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from minirt.image.blobs import Descriptor
    from minirt.image.reference import Reference
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.repository import Repository
    from minirt.image.store import Image, Store

    class Progress(Protocol):
        """Who is told how far a transfer is; by several threads."""

        def begin(self, digest: str, size: int) -> None: ...
        def advance(self, digest: str, count: int) -> None: ...
        def say(self, digest: str, text: str) -> None: ...


__all__ = ["Quiet", "pull"]

LAYERS_LIMIT = 2000  # an image with more is a trap


class Quiet:
    """Tells nobody."""

    def begin(self, digest: str, size: int) -> None:
        """Called when a blob begins; size in bytes."""

    def advance(self, digest: str, count: int) -> None:
        """Called when bytes have arrived, or left."""

    def say(self, digest: str, text: str) -> None:
        """Called when something is done with a blob."""


def pull(
    store: Store,
    name: str,
    *,
    platform: str = "",
    verify: bool = True,
    credentials: Credentials | None = None,
    progress: Progress | None = None,
    unpacked: bool = True,
    wanted: Callable[[], bool] = lambda: True,
) -> Image:
    """Fetch an image, unpack it and give it its name.

    Args: name, as a person types it; platform, OS/ARCHITECTURE[/VARIANT], by default this machine's; verify, as in
    Http; credentials, in place of those that the files have; unpacked, whether to unpack it: what only looks like an
    image cannot be; wanted, asked meanwhile whether to go on.
    Returns the image. Raises Stopped where it is not wanted any more, BadReference, RegistryError and those below it, ImageError,
    StoreError.
    """
    machine = Platform.parse(platform)
    registries = Registries.load()
    problems: list[ImageError] = []
    for reference in registries.candidates(name):
        for place in registries.places(reference):
            repository = connect(place, verify=verify, credentials=credentials)
            try:
                image = _pull(store, repository, reference, machine, progress or Quiet(), unpacked, wanted)
                store.settle()
                return image
            except Unreachable as error:  # what has arrived is good, and the next try goes on with it
                problems.append(error)
            except (NotThere, Denied) as error:
                store.collect(wait=False)
                problems.append(error)
            except (StoreError, Stopped):  # the same: what has arrived is good
                raise
            except ImageError:
                store.collect(wait=False)
                raise
    if len(problems) == 1 and name in str(problems[0]):
        raise problems[0]
    text = "; ".join(map(str, problems))
    raise type(problems[-1])(text if name in text else f"{name}: {text}")


def _pull(
    store: Store, repository: Repository, reference: Reference, machine: Platform, progress: Progress, unpacked: bool,
    wanted: Callable[[], bool],
) -> Image:  # fmt: skip
    from minirt.image.remote.layers import arrive

    with store.adding(), Attempt(f"pull {reference.familiar}"):
        data, top = repository.manifest(reference.digest or reference.tag or "latest")
        descriptor = top
        if top["mediaType"] in INDEXES:
            chosen = choose(_json(data), machine, str(reference), lambda entry: _json(_follow(repository, entry, reference)[0]))
            data, found = _follow(repository, chosen, reference)
            descriptor = {**found, "platform": chosen.get("platform") or {}}
            if found["mediaType"] in INDEXES:
                raise Lied(f"{reference} has an index that it calls an image: {found['digest']}")
        config, layers = _read(_json(data), reference)
        diff_ids = _configuration(store, repository, config, layers, reference)
        arrive(store, repository, layers, diff_ids if unpacked else [], progress, wanted)
        _keep(store, descriptor, data)
        store.origins.add([str(blob["digest"]) for blob in (config, *layers)], str(repository))
        (store.pin if reference.digest else store.set_name)(reference.familiar, descriptor)
    image = store.resolve(reference.familiar)
    if unpacked and signing.wants_signature(reference):
        from minirt.image.signing.attach import fetch

        fetch(store, reference, image.digest, verify=repository.verified)
    return image


def _keep(store: Store, descriptor: Descriptor, data: bytes) -> None:
    """Write a document as a blob."""
    digest = str(descriptor["digest"])
    with store.blobs.writer(digest.partition(":")[0]) as blob:
        blob.write(data)
        blob.commit(str(descriptor.get("mediaType")), digest=digest, size=descriptor["size"])


def _json(data: bytes) -> dict[str, Any]:
    import json

    found: dict[str, Any] = json.loads(data)  # Repository.manifest has seen that it is one
    return found


def _follow(repository: Repository, entry: Descriptor, reference: Reference) -> tuple[bytes, Descriptor]:
    """Fetch what an index leads to. Raises Lied and what `Repository.manifest` does."""
    return repository.manifest(str(_checked(entry, reference)["digest"]))


def _checked(descriptor: object, reference: Reference) -> Descriptor:
    """Return a descriptor that has what it must have (image-spec descriptor.md). Raises Lied."""
    from minirt.image.digest import is_digest

    if isinstance(descriptor, dict):
        digest, size = descriptor.get("digest"), descriptor.get("size")
        if isinstance(digest, str) and is_digest(digest) and type(size) is int and 0 <= size < 1 << 50:
            return descriptor
    raise Lied(f"the manifest of {reference} has a descriptor that is none: {str(descriptor)[:100]}")


def _read(manifest: dict[str, Any], reference: Reference) -> tuple[Descriptor, list[Descriptor]]:
    """Return the descriptors of the configuration and of the layers. Raises Lied."""
    layers = manifest.get("layers")
    if not isinstance(layers, list) or len(layers) > LAYERS_LIMIT:
        raise Lied(f"the manifest of {reference} has no list of layers, or more than {LAYERS_LIMIT}")
    return _checked(manifest.get("config"), reference), [_checked(layer, reference) for layer in layers]


def _configuration(
    store: Store, repository: Repository, config: Descriptor, layers: list[Descriptor], reference: Reference
) -> list[str]:
    """Fetch the configuration, and return the layers' diff_ids. Raises Lied where they do not fit the layers."""
    from minirt.image.blobs import DOCUMENT_LIMIT
    from minirt.image.digest import is_digest
    from minirt.image.shape import wrong_in

    if config["size"] > DOCUMENT_LIMIT:
        raise Lied(f"the configuration of {reference} has {config['size']} bytes: no registry may have that")
    try:
        store.blobs.read(config)
    except Damaged:
        _keep(store, config, repository.small_blob(config))
    try:
        document = store.blobs.read_json(config)
        if wrong := wrong_in(document):
            raise Lied(f"{reference} has a configuration in which {wrong}: it is no image to run")
        diff_ids = document["rootfs"]["diff_ids"]
        if len(diff_ids) == len(layers) and all(isinstance(text, str) and is_digest(text) for text in diff_ids):
            return list(diff_ids)
    except (Damaged, KeyError, TypeError):
        pass
    raise Lied(f"{reference} has a configuration that does not fit its {len(layers)} layers: it is no image to run")
