"""What a container has changed, and all of its files: `diff` and `export`, from its upper directory and its image's layers."""

from __future__ import annotations

import os
import stat
from contextlib import ExitStack, suppress

from minirt.engine.container import while_there
from minirt.errors import KernelError
from minirt.linux.files import open_exactly
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.engine.container import Container

__all__ = ["changes", "files"]


def changes(container: Container) -> Iterator[tuple[str, str]]:
    """Yield (A, C or D; path) of what was added, changed or deleted, in the order of the paths. Raises: ImageError, NoContainer."""
    from minirt.image.view import View

    with while_there(container), ExitStack() as undo:
        below = View(layers(container))
        upper = os.open(f"{container.path}/upper", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, upper)
        stack = [iter(inside(upper, b""))]  # directories that we are in: there may be more than functions can be called
        while stack:
            for path, status in stack[-1]:
                there = below.find(path) is not None
                hidden = stat.S_ISCHR(status.st_mode) and status.st_rdev == 0  # a whiteout, as overlayfs makes it
                if there or not hidden:
                    yield "D" if hidden else "C" if there else "A", "/" + os.fsdecode(path)
                if stat.S_ISDIR(status.st_mode):
                    stack.append(iter(inside(upper, path)))
                    break
            else:
                stack.pop()


def inside(top: int, path: bytes) -> list[tuple[bytes, os.stat_result]]:
    """Return what is in a directory below another, by path: nothing where a container that runs has removed it, or made it a link.

    Args: top, int fd.
    """
    try:
        fd = open_exactly(top, os.fsdecode(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    except KernelError:
        return []
    found = []
    try:
        for name in sorted(os.listdir(fd)):
            with suppress(FileNotFoundError):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                found.append((b"/".join(filter(None, (path, os.fsencode(name)))), status))
    finally:
        os.close(fd)
    return found


def files(container: Container) -> Iterator[bytes]:
    """Yield a tar of all files of a container as they are now. Raises: ImageError, OSError, NoContainer."""
    from minirt.image.export import export

    with while_there(container):
        yield from export([f"{container.path}/upper", *layers(container)])


def layers(container: Container) -> list[str]:
    """Return the directories of a container's image, the top one first. Raises: ImageError."""
    from minirt.image.store import Store

    return Store(os.path.join(data_root(), "image")).held(container.id).layers()
