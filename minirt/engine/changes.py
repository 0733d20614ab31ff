"""What a container has changed, and all of its files: `diff` and `export`, from its upper directory and its image's layers."""

from __future__ import annotations

import os
import stat

from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.engine.container import Container

__all__ = ["changes", "files"]


def changes(container: Container) -> Iterator[tuple[str, str]]:
    """Yield (A, C or D; path) of what was added, changed or deleted, in the order of the paths. Raises: ImageError."""
    from minirt.image.view import View
    from minirt.image.whiteouts import is_whiteout

    below = View(layers(container))
    upper = os.fsencode(f"{container.path}/upper")

    def walk(path: bytes) -> Iterator[tuple[str, str]]:
        for name in sorted(os.listdir(upper + b"/" + path)):
            inner = path + b"/" + name if path else name
            status = os.lstat(upper + b"/" + inner)
            there = below.find(inner) is not None
            hidden = is_whiteout(status)
            if there or not hidden:
                yield "D" if hidden else "C" if there else "A", "/" + os.fsdecode(inner)
            if stat.S_ISDIR(status.st_mode):
                yield from walk(inner)

    yield from walk(b"")


def files(container: Container) -> Iterator[bytes]:
    """Yield a tar of all files of a container as they are now. Raises: ImageError, OSError."""
    from minirt.image.export import export

    yield from export([f"{container.path}/upper", *layers(container)])


def layers(container: Container) -> list[str]:
    """Return the directories of a container's image, the top one first. Raises: ImageError."""
    from minirt.image.store import Store

    return Store(os.path.join(data_root(), "image")).held(container.id).layers()
