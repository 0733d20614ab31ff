"""Where a build's context comes from: what the command line names, made a directory.

    DIRECTORY               itself
    ARCHIVE                 a file of this machine: its content (tar; gzip, bzip2, xz, zstd)
    -                       standard input: an archive, or a Dockerfile alone, whose context is empty
    http://… https://…      the same two, fetched
    a git repository        its files (git.py says what names one)

(docs.docker.com/build/concepts/context.) What is unpacked or fetched lies in the image store's scratch, and goes with the build,
however that ends.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO

    from minirt.build.git import Repository
    from minirt.image.store import Store

__all__ = ["Origin"]

TEXT_LIMIT = 1 << 20  # bytes of a Dockerfile
ARCHIVE_LIMIT = 64 << 30  # bytes on standard input
PIECE = 1 << 18


class Origin:
    """A context's place; a context manager, in which `path` is its directory.

    Args: store, for what has to be unpacked; word, what the user wrote; stdin, for `-`; keep_git, whether a repository's .git
    belongs to the context; say, told of what takes long. Entering raises BuildError.
    """

    def __init__(
        self, store: Store, word: str, stdin: IO[bytes], *, keep_git: bool = False, say: Callable[[str], object] = bool
    ) -> None:  # fmt: skip
        self.word = word
        self.path = word
        self.text: str | None = None  # the Dockerfile, where that was all there is
        self._store = store
        self._stdin = stdin
        self._keep = keep_git
        self._say = say
        self._undo = ExitStack()

    @property
    def local(self) -> bool:
        """Whether it is a directory of the user's, in whose Dockerfile's path the user's own directories count."""
        return self.path == self.word

    def __enter__(self) -> Origin:
        from minirt.build.git import Repository, is_repository

        try:
            if os.path.isdir(self.word):
                return self
            if is_repository(self.word):
                self._fetch(Repository(self.word))
            elif self.word.startswith(("http://", "https://")):
                self._download()
            elif self.word == "-":
                self._read()
            elif os.path.isfile(self.word):
                self._unpack(self.word, "give a directory, and this file with -f")
            else:
                raise BuildError(f"{self.word}: the build context is to be a directory, an archive, a URL or a git repository")
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _scratch(self) -> tuple[str, int]:
        """Return a new directory, and the fd that keeps it; both go with the build."""
        with self._store.adding():
            return self._store.scratch.kept(self._undo)

    def _fetch(self, repository: Repository) -> None:
        place, lock = self._scratch()
        self._say(f"fetching {repository.url}")
        self.path, commit = repository.fetch(place, lock, keep=self._keep)
        self._say(f"the context is the commit {commit}")

    def _download(self) -> None:
        from minirt.build.fetch import download

        path = os.path.join(self._scratch()[0], "file")
        self._say(f"fetching {self.word}")
        download(self.word, "", path)
        self._take(path)

    def _read(self) -> None:
        path = os.path.join(self._scratch()[0], "standard input")
        size = 0
        with open(path, "wb") as file:
            while piece := self._stdin.read(PIECE):
                size += len(piece)
                if size > ARCHIVE_LIMIT:
                    raise BuildError(f"standard input: more than {ARCHIVE_LIMIT >> 30} GiB")
                file.write(piece)
        self._take(path)

    def _take(self, path: str) -> None:
        """Find out what came: an archive, or else a Dockerfile alone."""
        from minirt.build.unpacking import is_archive

        if is_archive(os.fsencode(path)):
            self._unpack(path, "")
            return
        with open(path, "rb") as file:
            data = file.read(TEXT_LIMIT + 1)
        if len(data) > TEXT_LIMIT or b"\0" in data:
            raise BuildError(f"{self.word}: neither an archive nor a Dockerfile")
        self.text = data.decode("utf-8", "surrogateescape")
        self.path = self._scratch()[0]

    def _unpack(self, path: str, advice: str) -> None:
        from minirt.build.unpacking import is_archive, unpack_archive

        if not is_archive(os.fsencode(path)):
            raise BuildError(f"{path}: no archive: {advice}")
        place = self._scratch()[0]
        unpack_archive(os.fsencode(path), place)
        self.path = place
