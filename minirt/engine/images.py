"""The image that a container stands on: found, unpacked, and kept for as long as the container is there."""

from __future__ import annotations

import os

from minirt.errors import MinirtError
from minirt.paths import data_root, policy_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image, Store

__all__ = ["drop", "find_image", "hold", "is_for", "tell_image", "wants_mounts"]


def find_image(name: str) -> Image:
    """Return an image of the store, unpacked; `busybox` is made at its first use. Raises: ImageError with exit code 125."""
    from minirt.image.busybox import find
    from minirt.image.store import Store

    try:
        store = Store(os.path.join(data_root(), "image"))
        image = find(store, name)
        if policy_path():
            from minirt.image.signing.policy import check as check_policy

            check_policy(store, image)
        image.layers()
        return image
    except MinirtError as error:
        error.exit_code = 125
        raise


def tell_image(action: str, name: str, id: str = "") -> None:
    """Write down that something happens to an image.

    Args:
        action: docker's word: pull, push, tag, untag, delete, import, load, save.
        name: the image's, or its id where it has none.
        id: what docker says it happens to: the image's id, or for pull and push its name.
    """
    from minirt.state.events import tell

    tell("image", action, id or name, {"name": name})


def hold(image: Image, container: Container) -> None:
    """Keep the image's layers for as long as the container is there, whatever becomes of the image's name.

    Raises: ImageError with exit code 125.
    """
    from minirt.image.store import Store

    try:
        Store(os.path.join(data_root(), "image")).hold(container.id, image)
    except MinirtError as error:
        error.exit_code = 125
        raise


def wants_mounts(options: RunOptions, image: Image) -> bool:
    """Say whether a container has any mounts of its own: most have none, and need nothing of volumes."""
    asked = options.volume or options.mount or options.tmpfs or options.volumes_from
    return bool(asked or (image.config.get("config") or {}).get("Volumes"))


def drop(store: Store, image: Image, word: str, force: bool = False) -> tuple[list[str], list[str]]:
    """Take a name from an image; with its last one, or where the word is its ID, the image goes.

    Args:
        store: where it is.
        image: found by the word.
        word: a name of it, or its ID or the beginning of that.
        force: also where it has several names, or a container stands on it: that keeps the content it needs.

    Returns: the names taken, and the digests of the content that went with them. Raises: Conflict, ImageError.
    """
    from minirt.engine.container import Conflict, containers
    from minirt.engine.image_view import names_of
    from minirt.engine.inspect import image_of

    by_id = any(digest.startswith((word, f"sha256:{word}")) for digest in (image.id, image.digest))
    tags = names_of(store, image)[0]
    names = (tags or [image.name or image.digest]) if by_id else [store.stored(word)[0]]
    if by_id and len(tags) > 1 and not force:
        raise Conflict(f"conflict: unable to delete {word} (must be forced) - image is referenced in multiple repositories")
    if not force and not set(tags) - set(names):
        for container in containers():
            held = image_of(container)
            if held is not None and held.digest == image.digest:
                raise Conflict(
                    f"conflict: unable to remove repository reference {word!r} (must force) - container {container.id[:12]} is"
                    f" using its referenced image {image.id.removeprefix('sha256:')[:12]}"
                )
    gone = []
    for name in names:
        gone += store.remove(name)
        if name != image.digest:
            gone += forget_signatures(store, image, name)
            tell_image("untag", name, image.id)
    if image.id in gone:
        tell_image("delete", image.id)
    return [name for name in names if name != image.digest], gone


def forget_signatures(store: Store, image: Image, name: str) -> list[str]:
    """Remove the signatures of an image in a repository, where the name that was taken was its last there.

    Returns the digests of the content that went with them. Raises: ImageError.
    """
    from minirt.engine.image_view import names_of, repository_of
    from minirt.image.reference import Reference
    from minirt.image.signing.attach import attachment

    if f"{repository_of(name)}@{image.digest}" in names_of(store, image)[1]:
        return []
    signatures = attachment(Reference.parse(name), image.digest).familiar
    return store.remove(signatures) if store.index.find(signatures) is not None else []


def is_for(image: Image, platform: str) -> bool:
    """Say whether an image is for a platform, OS/ARCHITECTURE[/VARIANT]. Raises: ImageError where that is none."""
    from minirt.image.remote.platform import Platform

    wanted = Platform.parse(platform)
    return (image.config.get("os"), image.config.get("architecture")) == (wanted.os, wanted.architecture)
