"""Garbage collection, while the registry serves.

What goes: uploads that nobody went on with; links of a repository to blobs that none of its manifests leads to; content
that no repository links to. What protects a push that is under way, whose manifest comes last:

  - a link that was touched a moment ago stays. A client that asks whether a blob is here touches it (HEAD), so what it
    was told holds for `grace` seconds, time to push the manifest;
  - content and its first link appear under the shared lock, and content goes under the exclusive one. Marks are made
    without it; under it only manifests that came since are read. So pushes wait for a listing of directories, not for
    the reading of all manifests, and pulls never wait: who has opened a blob reads it to its end.
"""

from __future__ import annotations

import json
import os
import time

from minirt.image.errors import Damaged
from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.registry.registry import Registry
    from minirt.registry.repository import Repository

__all__ = ["GRACE", "STALE", "Found", "collect"]

GRACE = 3600  # seconds that a link without a manifest stays
STALE = 7 * 86400  # seconds that an upload stays after its last byte


class Found:
    """Something that goes.

    Args: kind, one of upload, manifest, link, blob; name, its digest or UUID; repository, or "" for a blob; size, the
    bytes that are free without it.
    """

    def __init__(self, kind: str, name: str, repository: str = "", size: int = 0) -> None:
        self.kind = kind
        self.name = name
        self.repository = repository
        self.size = size

    def as_dict(self) -> dict[str, object]:
        """Return it for JSON."""
        return {"kind": self.kind, "name": self.name, "repository": self.repository, "size": self.size}


class Marks:
    """What each manifest leads to; read once, as content does not change."""

    def __init__(self) -> None:
        self._known: dict[str, set[str] | None] = {}

    def of(self, repository: Repository, digest: str) -> set[str] | None:
        """Return the digests that a manifest leads to, or None where it cannot be read."""
        if digest not in self._known:
            self._known[digest] = _leads_to(repository, digest)
        return self._known[digest]

    def needed(self, repository: Repository) -> set[str] | None:
        """Return the digests that all manifests of a repository lead to, or None where that cannot be known."""
        needed: set[str] = set()
        for digest in repository.manifests:
            found = self.of(repository, digest)
            if found is None:
                return None
            needed |= found | {digest}
        return needed


def _leads_to(repository: Repository, digest: str) -> set[str] | None:
    try:
        document = json.loads(repository.read(repository.find(digest)))
        items = [document.get("config"), *(document.get("layers") or []), *(document.get("manifests") or [])]
        return {str(item["digest"]) for item in items if item}
    except (Refusal, Damaged, ValueError, TypeError, KeyError):
        return None


def collect(
    registry: Registry, *, grace: float = GRACE, stale: float = STALE, untagged: bool = False, dry_run: bool = False
) -> Iterator[Found]:
    """Remove what nothing leads to, and yield it.

    Args: grace, seconds that links without a manifest stay; stale, seconds that uploads stay; untagged, whether
    manifests go that no tag leads to; dry_run, only say what would go.
    """
    now = time.time()
    marks = Marks()
    removed: list[Found] = []
    for repository in registry.all():
        yield from _uploads(registry, repository, now - stale, dry_run)
        if untagged:
            yield from _untagged(repository, marks, now, grace, dry_run)
    registry.scratch.sweep()
    for repository in registry.all():
        marks.needed(repository)  # most of the work, while others push
    with registry.removing():
        linked: set[str] = set()
        for repository in registry.all():
            gone = _links(repository, marks, now, grace)
            linked |= (set(repository.blobs) - {found.name for found in gone}) | set(repository.manifests)
            for found in gone:
                if not dry_run:
                    repository.blobs.remove(found.name)
            removed += gone
        removed += _content(registry, linked, dry_run)
    yield from removed  # not before the lock is free: who reads us may be slow


def _uploads(registry: Registry, repository: Repository, before: float, dry_run: bool) -> Iterator[Found]:
    for name, found in _listing(repository.path + "/_uploads"):
        if found.st_mtime < before:
            try:
                if not dry_run:
                    registry.uploads.cancel(repository, name)
            except Refusal:
                continue  # somebody goes on with it at this moment
            yield Found("upload", name, repository.name, found.st_size)


def _untagged(repository: Repository, marks: Marks, now: float, grace: float, dry_run: bool) -> Iterator[Found]:
    """Remove the manifests that no tag leads to, by itself, through an index, or as what refers to one that stays."""
    with repository.lock():
        kept: set[str] = set()
        new = {repository.tags.digest(tag) for tag in repository.tags.all()}
        new |= {digest for digest in repository.manifests if repository.manifests.age(digest, now) <= grace}
        while new:
            kept |= new
            for digest in list(new):
                below = marks.of(repository, digest)
                new |= (below or set()) | {item["digest"] for item in repository.referrers(digest)}
            new -= kept
        for digest in [digest for digest in repository.manifests if digest not in kept]:
            size = int((repository.manifests.get(digest) or {}).get("size", 0))
            if not dry_run:
                repository.delete(digest)
            yield Found("manifest", digest, repository.name, size)


def _links(repository: Repository, marks: Marks, now: float, grace: float) -> list[Found]:
    """Return the links of a repository that nothing needs. Where a manifest is damaged, nothing is known, and all stay."""
    needed = marks.needed(repository)
    if needed is None:
        return []
    return [
        Found("link", digest, repository.name)
        for digest in repository.blobs
        if digest not in needed and repository.blobs.age(digest, now) > grace
    ]


def _content(registry: Registry, linked: set[str], dry_run: bool) -> Iterator[Found]:
    for digest in registry.blobs.all():
        if digest not in linked:
            path = registry.blobs.path(digest)
            size = os.stat(path).st_size
            if not dry_run:
                os.unlink(path)
            yield Found("blob", digest, size=size)


def _listing(path: str) -> list[tuple[str, os.stat_result]]:
    found = []
    try:
        names = os.listdir(path)
    except FileNotFoundError:
        return []
    for name in names:
        try:
            found.append((name, os.stat(f"{path}/{name}")))
        except FileNotFoundError:
            continue
    return found
