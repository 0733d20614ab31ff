"""Images as they are listed, chosen and told of, in the words of Docker's Engine API."""

from __future__ import annotations

import fnmatch

from minirt.engine.filters import Filters

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.image.store import Image, Store

__all__ = ["chosen", "created", "described", "history", "listed", "names_of"]

KEYS = ("before", "dangling", "label", "label!", "reference", "since", "until")


def names_of(store: Store, image: Image) -> tuple[list[str], list[str]]:
    """Return an image's names with tags, and those with digests."""
    from minirt.image.index import name_of

    names = [name_of(entry) for entry in store.index.entries() if entry.get("digest") == image.digest]
    tags = [name for name in names if name and "@" not in name]
    return tags, sorted({f"{repository_of(name)}@{image.digest}" for name in tags + [n for n in names if "@" in n]})


def repository_of(name: str) -> str:
    """Return a name without tag and digest."""
    bare = name.partition("@")[0]
    return bare[: bare.rfind(":")] if bare.rfind(":") > bare.rfind("/") else bare


def created(image: Image) -> float:
    """Return when an image was made, s since 1970; 0 where it does not say so."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(f"{str(image.config.get('created') or '')[:19]}+00:00").timestamp()
    except ValueError:
        return 0.0


def labels_of(image: Image) -> dict[str, str]:
    """Return an image's labels."""
    return (image.config.get("config") or {}).get("Labels") or {}


def listed(store: Store, image: Image) -> dict[str, Any]:
    """Return an image as an element of the list."""
    tags, digests = names_of(store, image)
    return {
        "Id": image.id, "ParentId": "", "RepoTags": tags, "RepoDigests": digests, "Created": int(created(image)),
        "Size": image.size, "SharedSize": -1, "VirtualSize": image.size, "Labels": labels_of(image) or None, "Containers": -1,
    }  # fmt: skip


def chosen(store: Store, filters: Filters) -> list[Image]:
    """Return the images that filters choose, each once, the newest first. Raises: UsageError, ImageError."""
    from minirt.image.signing.attach import is_attachment

    filters.only(*KEYS)
    found = {image.digest: image for image in reversed(store.readable()) if not is_attachment(image.name)}
    edges = {key: [created(store.resolve(name)) for name in filters.of(key)] for key in ("before", "since")}
    limit = filters.before()
    return [
        image
        for image in sorted(found.values(), key=created, reverse=True)
        if filters.has_labels(labels_of(image))
        and filters.truth("dangling") in (None, not names_of(store, image)[0])
        and all(created(image) < edge for edge in edges["before"])
        and all(created(image) > edge for edge in edges["since"])
        and (limit is None or created(image) < limit)
        and (not filters.of("reference") or any(is_like(name, filters.of("reference")) for name in names_of(store, image)[0]))
    ]


def is_like(name: str, patterns: list[str]) -> bool:
    """Say whether a name is one of some patterns, which may leave out the tag."""
    return any(fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(repository_of(name), pattern) for pattern in patterns)


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
