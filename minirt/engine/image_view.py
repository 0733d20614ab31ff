"""Images as they are listed, chosen and told of, in the words of Docker's Engine API."""

from __future__ import annotations

from minirt.engine.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.image.store import Image, Store

__all__ = ["chosen", "created", "described", "fits", "history", "images", "listed", "names_of"]

KEYS = ("before", "dangling", "label", "label!", "reference", "since", "until")


def names_of(store: Store, image: Image) -> tuple[list[str], list[str]]:
    """Return an image's names with tags, and those with digests."""
    from minirt.image.index import name_of

    return parted((name_of(entry) for entry in store.index.entries() if entry.get("digest") == image.digest), image)


def parted(names: Iterable[str], image: Image) -> tuple[list[str], list[str]]:
    """Return those of an image's names that have tags, and what each is called by the digest."""
    known = [name for name in names if name]
    return [name for name in known if "@" not in name], sorted({f"{repository_of(name)}@{image.digest}" for name in known})


def repository_of(name: str) -> str:
    """Return a name without tag and digest."""
    bare = name.partition("@")[0]
    return bare[: bare.rfind(":")] if bare.rfind(":") > bare.rfind("/") else bare


def created(image: Image) -> float:
    """Return when an image was made, s since 1970; 0 where it does not say so."""
    from datetime import UTC, datetime

    try:
        made = datetime.fromisoformat(str(image.config.get("created") or ""))
        return (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return 0.0


def labels_of(image: Image) -> dict[str, str]:
    """Return an image's labels."""
    return (image.config.get("config") or {}).get("Labels") or {}


def listed(names: list[str], image: Image) -> dict[str, Any]:
    """Return an image as an element of the list, with those of its names that are wanted."""
    tags, digests = parted(names, image)
    return {
        "Id": image.id, "ParentId": "", "RepoTags": tags, "RepoDigests": digests, "Created": int(created(image)),
        "Size": image.size, "SharedSize": -1, "VirtualSize": image.size, "Labels": labels_of(image) or None, "Containers": -1,
    }  # fmt: skip


def images(store: Store, filters: Filters) -> list[tuple[list[str], Image]]:
    """Return the images that filters choose, each once with those of its names that are wanted, the newest first.

    Raises: UsageError, ImageError.
    """
    names: dict[str, list[str]] = {}
    found: dict[str, Image] = {}
    for name, image in chosen(store, filters):
        if image is not None:
            names.setdefault(image.digest, []).append(name)
            found.setdefault(image.digest, image)
    return [(names[image.digest], image) for image in sorted(found.values(), key=created, reverse=True)]


def chosen(store: Store, filters: Filters, signatures: bool = False) -> list[tuple[str, Image | None]]:
    """Return the names that filters choose, each with its image, or None where that cannot be read.

    Args:
        store: where they are.
        filters: with docker's keys and meaning: a name is looked at for `reference`, else its image.
        signatures: what is attached to images, too.

    Raises: UsageError, ImageError.
    """
    from minirt.image.signing.attach import is_attachment

    filters.only("before", "dangling", "label", "label!", "reference", "since", "until")
    everything = [(name, image) for name, image in store.listed() if signatures or not is_attachment(name)]
    tagged = {image.digest for name, image in everything if image is not None and name and "@" not in name}
    dangling, limit, patterns = filters.truth("dangling"), filters.before(), filters.of("reference")
    older, newer = ([created(store.resolve(name)) for name in filters.of(key)] for key in ("before", "since"))

    def wanted(name: str, image: Image | None) -> bool:
        if patterns and not (name and any(is_like(name, pattern) for pattern in patterns)):
            return False
        if image is None:  # nothing is known of it but its name
            return dangling in (None, not name or "@" in name) and not (older or newer or limit or filters.of("label"))
        return (
            dangling in (None, image.digest not in tagged)
            and all(created(image) < edge for edge in older)
            and all(created(image) > edge for edge in newer)
            and fits(image, filters, limit)
        )

    return [(name, image) for name, image in everything if wanted(name, image)]


def fits(image: Image, filters: Filters, limit: float | None) -> bool:
    """Say whether an image has the labels that are asked for, and was made before a moment (s since 1970; None: whenever)."""
    return (limit is None or created(image) < limit) and filters.has_labels(labels_of(image))


def is_like(name: str, pattern: str) -> bool:
    """Say whether a name is as a pattern says, which may leave out the tag; what is between slashes is matched by itself."""
    from fnmatch import fnmatchcase

    parts = pattern.split("/")
    return any(
        len(parts) == len(form) and all(map(fnmatchcase, form, parts)) for form in (name.split("/"), repository_of(name).split("/"))
    )


def described(store: Store, image: Image) -> dict[str, Any]:
    """Return all that is known of an image."""
    tags, digests = names_of(store, image)
    history = image.config.get("history") or [{}]
    return {
        "Id": image.id,
        "RepoTags": tags,
        "RepoDigests": digests,
        "Parent": "",
        "Comment": history[-1].get("comment", ""),
        "Created": image.config.get("created") or "0001-01-01T00:00:00Z",
        "DockerVersion": "",
        "Author": image.config.get("author", ""),
        "Config": image.config.get("config") or {},
        "Architecture": image.config.get("architecture", ""),
        "Variant": image.config.get("variant", ""),
        "Os": image.config.get("os", ""),
        "Size": image.size,
        "VirtualSize": image.size,
        "GraphDriver": {"Name": "overlay2", "Data": None},
        "RootFS": {"Type": "layers", "Layers": image.diff_ids},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": {key: value for key, value in image.descriptor.items() if key in ("mediaType", "digest", "size")},
    }


def history(store: Store, image: Image) -> list[dict[str, Any]]:
    """Return how an image came about, the newest step first, each with the bytes of its layer."""
    from datetime import datetime

    sizes = [int(layer["size"]) for layer in image.manifest["layers"]]
    steps: list[dict[str, Any]] = []
    for step in image.config.get("history") or []:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        try:
            when = int(datetime.fromisoformat(f"{str(step.get('created'))[:19]}+00:00").timestamp())
        except ValueError:
            when = 0
        steps.append({"Id": "<missing>", "Created": when, "CreatedBy": str(step.get("created_by", "")), "Tags": None, "Size": size,
                      "Comment": str(step.get("comment", ""))})  # fmt: skip
    if steps:
        steps[-1] |= {"Id": image.id, "Tags": names_of(store, image)[0]}
    return steps[::-1]
