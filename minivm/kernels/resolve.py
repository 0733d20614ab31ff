"""What a word after --kernel means: a file, or a kernel that is kept."""

from __future__ import annotations

import os

from minivm.errors import UsageError

__all__ = ["is_path", "resolve"]


def is_path(text: str, directory: str = "") -> bool:
    """Say whether a word is a file's path, seen from a directory, rather than a kernel's name.

    A directory in the way is none: `debian` is one in the source of each Debian package.
    """
    path = os.path.join(directory, text)
    return "/" in text or (os.path.exists(path) and not os.path.isdir(path))


def resolve(text: str, boot: str) -> str:
    """Return the path of the kernel that a word names.

    Args:
        text: a path; or a name or a release, as `minivm kernel ls` has them, where there is no such file.
        boot: how it is to be started ("bzimage" takes the vmlinuz, anything else the vmlinux in it).

    Raises UsageError for a name whose kernel has not been fetched.
    """
    if is_path(text):
        return text
    from minivm.kernels.cache import find
    from minivm.kernels.debian import NAMES

    kernel = find(text)
    if kernel is not None:
        return kernel.file(boot)
    if text in NAMES:
        raise UsageError(f"kernel {text!r} is not here yet: minivm kernel fetch {text}")
    return text
