"""Steps of builds that were done: which layers each gave, by the fingerprint of all that made it.

A file of `steps/` keeps its layers from being removed, name or no name, so a killed or repeated build finds what was done.
Its time of change says when it was last used; what nobody used for long goes.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from minirt.image.blobs import Descriptor
    from minirt.image.scratch import Lock

__all__ = ["Step", "Steps"]

UNUSED_LIMIT = 14 * 86400  # seconds


class Step:
    """What one step gave: all layers up to its own (descriptors and diff_ids, lowest first), when (RFC 3339), when last used."""

    __slots__ = ("created", "diff_ids", "layers", "used")

    def __init__(self, layers: list[Descriptor], diff_ids: list[str], created: str, used: float = 0.0) -> None:
        self.layers = layers
        self.diff_ids = diff_ids
        self.created = created
        self.used = used  # s since 1970


class Steps:
    """The steps of one store. Args: root, their directory; it is made when the first is kept."""

    def __init__(self, root: str) -> None:
        self._root = root

    def using(self, *, alone: bool = False) -> Lock:
        """Say that a build runs, while the body does; alone: that none does, else entering raises BlockingIOError."""
        from minirt.image.scratch import ENDLESS, Lock

        os.makedirs(self._root, 0o700, exist_ok=True)
        return Lock(self._root + ".lock", shared=not alone, wait=0 if alone else ENDLESS)

    def find(self, key: str) -> Step | None:
        """Return what a step gave, and note that it was used; None where it is not known."""
        step = self._read(key)
        if step is not None:
            os.utime(f"{self._root}/{key}")
        return step

    def keep(self, key: str, step: Step) -> None:
        """Remember a step. Call it while its content cannot be removed (Store.adding). Raises OSError."""
        import json

        from minirt.image.index import replace_file

        os.makedirs(self._root, 0o700, exist_ok=True)
        document = {"layers": step.layers, "diff_ids": step.diff_ids, "created": step.created}
        # Each process, and each of its threads, writes under a name of its own: two may do the same step at once.
        temporary = f"{self._root}/.{key}.{os.urandom(6).hex()}"
        replace_file(temporary, json.dumps(document).encode(), sync=False)
        os.rename(temporary, f"{self._root}/{key}")

    def all(self) -> Iterator[Step]:
        """Yield all steps that can be read."""
        for key in self._keys():
            step = self._read(key)
            if step is not None:
                yield step

    def forget(self, unused: float = UNUSED_LIMIT) -> int:
        """Forget what was not used for so many seconds, and what a killed build was writing. Returns how many steps."""
        import time

        count, now = 0, time.time()
        for name in self._names():
            path = f"{self._root}/{name}"
            try:
                age = now - os.stat(path).st_mtime
                if age >= (unused if not name.startswith(".") else 3600):
                    os.unlink(path)
                    count += not name.startswith(".")
            except FileNotFoundError:
                continue
        return count

    def _names(self) -> list[str]:
        try:
            return sorted(os.listdir(self._root))
        except FileNotFoundError:
            return []

    def _keys(self) -> list[str]:
        return [name for name in self._names() if not name.startswith(".")]

    def _read(self, key: str) -> Step | None:
        import json

        try:
            with open(f"{self._root}/{key}", "rb") as file:
                document: dict[str, Any] = json.loads(file.read())
                used = os.fstat(file.fileno()).st_mtime
            return Step(document["layers"], document["diff_ids"], document["created"], used)
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
