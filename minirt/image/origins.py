"""Which repositories have a blob, as it came from them or went to them: a push to another of the same registry need not send it.

`origins/sha256-…` has a line a repository, HOST/NAME, the last one newest. It is a hint, and may be wrong: somebody may have
removed the blob there, or our right to it. Whoever asks a registry for it hears that, and sends the bytes.
"""

from __future__ import annotations

import os

from minirt.image import digest as digests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Origins"]

LIMIT = 4096  # bytes of a file: about a hundred repositories


class Origins:
    """The hints of one store. Args: root, their directory; it is made when the first is kept."""

    def __init__(self, root: str) -> None:
        self._root = root

    def of(self, digest: str) -> list[str]:
        """Return the repositories that may have a blob, the newest first."""
        try:
            with open(self._place(digest), encoding="utf-8", errors="replace") as file:
                return file.read(2 * LIMIT).split()[::-1]
        except OSError:
            return []

    def add(self, digests: Iterable[str], repository: str) -> None:
        """Note that a repository has blobs; call it inside `Store.adding`.

        Where it cannot be written, as the disk is full, nothing is noted: what it is about has succeeded.
        """
        line = f"{repository}\n".encode()
        for digest in digests:
            if repository in self.of(digest):
                continue
            try:
                os.makedirs(self._root, 0o700, exist_ok=True)
                fd = os.open(self._place(digest), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
                with open(fd, "wb", buffering=0) as file:
                    if os.fstat(fd).st_size + len(line) > LIMIT:
                        file.truncate(0)
                    file.write(line)  # one write that appends: two commands at once lose neither's line (man 2 open)
            except OSError:
                return

    def forget(self, needed: set[str]) -> None:
        """Remove what is noted of other blobs than these. The caller has `content.lock` alone."""
        keep = {os.path.basename(self._place(digest)) for digest in needed}
        try:
            names = os.listdir(self._root)
        except FileNotFoundError:
            return
        for name in names:
            if name not in keep:
                os.unlink(f"{self._root}/{name}")

    def _place(self, digest: str) -> str:
        return f"{self._root}/{digests.path_of(digest).replace('/', '-')}"
