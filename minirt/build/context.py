"""The build context: the directory that COPY and ADD take files from, without what .dockerignore leaves out."""

from __future__ import annotations

import os
import stat

from minirt.build.errors import BuildError, DockerfileError
from minirt.build.globs import Ignored
from minirt.image.view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.image.view import Found

__all__ = ["Context", "Tree"]


class Tree:
    """Something to copy from: the layers of a stage or an image, or the context.

    Args: view, its files; name, for messages; keeps_owners, whether its files' owners are the image's own (those of the
    context, and of what was fetched, are whoever runs the build, so to the image they are root's).
    """

    filtered = False  # something may be left out

    def __init__(self, view: View, name: str, *, keeps_owners: bool = True) -> None:
        self.view = view
        self.name = name
        self.keeps_owners = keeps_owners

    def ignored(self, path: bytes) -> bool:
        """Say whether a path is left out."""
        return False

    def walk(self, path: bytes) -> Iterator[tuple[bytes, Found]]:
        """Yield (path below it, what is there) for all below a directory, parents first, without what is left out."""
        pending: list[tuple[bytes, Found]] = []  # directories left out, in which something may not be
        for full, found in self.view.walk(path):
            inner = full[len(path) + 1 :] if path else full
            pending = [one for one in pending if inner.startswith(one[0] + b"/")]
            if found.kind == stat.S_IFSOCK:
                continue
            if self.ignored(full):
                if found.kind == stat.S_IFDIR:
                    pending.append((inner, found))
                continue
            yield from pending
            pending = []
            yield inner, found


class Context(Tree):
    """The context.

    Args: path, its directory; dockerfile, path of the Dockerfile: `NAME.dockerignore` beside it goes before .dockerignore.
    """

    def __init__(self, path: str, dockerfile: str = "") -> None:
        if not os.path.isdir(path):
            raise BuildError(f"{path}: the build context is to be a directory")
        super().__init__(View([os.path.realpath(path)]), "the build context", keeps_owners=False)
        self.path = os.path.realpath(path)
        self._ignored = _read_ignored(self.path, dockerfile)
        self.filtered = bool(self._ignored)

    def ignored(self, path: bytes) -> bool:
        return self.filtered and bool(path) and self._ignored(os.fsdecode(path))


def _read_ignored(path: str, dockerfile: str) -> Ignored:
    for name in (f"{dockerfile}.dockerignore", os.path.join(path, ".dockerignore")):
        try:
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                return Ignored(file.read())
        except OSError:
            continue
        except ValueError as error:
            raise DockerfileError(0, str(error), name) from None
    return Ignored("")
