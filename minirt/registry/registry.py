"""All of a registry's directory: content once, and repositories that link to it.

    blobs/sha256/0123…      content, as in an image layout (image-spec image-layout.md#blobs)
    repositories/NAME/_…    what belongs to which repository: see repository.py
    tmp/                    manifests being written
    content.lock            shared by who adds content and the first link to it, exclusively by who removes content

The directory is the only state: several servers may share it, and one that is started again goes on where it was.
"""

from __future__ import annotations

import os

from minirt.image.blobs import Blobs
from minirt.image.index import replace_file
from minirt.image.scratch import Lock, Scratch
from minirt.registry.errors import ServeError
from minirt.registry.names import check_name
from minirt.registry.repository import Repository
from minirt.registry.uploads import Uploads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Registry"]


class Registry:
    """The registry in one directory. Making the object touches nothing."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.scratch = Scratch(root + "/tmp")
        self.blobs = Blobs(root + "/blobs", self.scratch)
        self.uploads = Uploads(self.blobs)
        self._repositories = root + "/repositories"

    def make(self) -> Registry:
        """Make the directory where it is not one yet. Returns itself. Raises ServeError."""
        try:
            if os.path.exists(self.root + "/holds"):
                raise ServeError(f"{self.root} is the image store of `minirt run`: give the registry a directory of its own")
            for name in ("blobs/sha256", "tmp", "repositories"):
                os.makedirs(f"{self.root}/{name}", 0o700, exist_ok=True)
            with self.adding():
                replace_file(self.root + "/oci-layout", b'{"imageLayoutVersion":"1.0.0"}\n')
        except OSError as error:
            raise ServeError(f"cannot make a registry in {self.root}: {error.strerror}") from None
        return self

    def must_exist(self) -> Registry:
        """Return itself. Raises ServeError where the directory is none of a registry."""
        if not os.path.isdir(self._repositories):
            raise ServeError(f"no registry in {self.root}: `minirt registry serve --root {self.root}` makes one")
        return self

    def adding(self) -> Lock:
        """Keep content that has no link yet from being removed, while the body runs."""
        return Lock(self.root + "/content.lock", shared=True)

    def removing(self) -> Lock:
        """Keep content from being added, while the body runs."""
        return Lock(self.root + "/content.lock")

    def repository(self, name: str) -> Repository:
        """Return the repository of a name, whether it exists or not. Raises Refusal (NAME_INVALID)."""
        return Repository(self._repositories, check_name(name), self.blobs)

    def all(self) -> Iterator[Repository]:
        """Yield the repositories in order of their names, those too that hold only blobs or uploads."""
        for name in sorted(_below(self._repositories, "")):
            yield Repository(self._repositories, name, self.blobs)

    def names(self) -> list[str]:
        """Return the names of the repositories to which a manifest was pushed, in ASCII order."""
        return [repository.name for repository in self.all() if repository.exists]


def _below(root: str, name: str) -> Iterator[str]:
    """Yield the names of the repositories at and below a name."""
    here = name != ""  # a directory is a repository when it has one of a repository's own directories
    own = False
    with os.scandir(f"{root}/{name}") as entries:
        for entry in entries:
            if entry.name.startswith("_"):
                own = own or entry.name != "_lock"
            elif entry.is_dir(follow_symlinks=False):
                yield from _below(root, f"{name}/{entry.name}".lstrip("/"))
    if here and own:
        yield name
