"""What can go wrong, as one tree; the command line prints each in one line and exits with its code.

    MinirtError                 125  ours: docker and podman use the same number
    ├── UsageError              125  the words on the command line (docker run has the same code for them)
    ├── KernelError             125  a system call failed: its name, its arguments, why that is usual here
    ├── NotExecutable           126  the container's command was found and cannot be run
    └── NotFound                127  the container's command was not found

Rooms below add their own (ImageError, CgroupError, SeccompError ...), each a MinirtError.
"""

from __future__ import annotations

__all__ = ["KernelError", "MinirtError", "NotExecutable", "NotFound", "UsageError"]


class MinirtError(Exception):
    """Something the user should read in one line, with the exit code that belongs to it."""

    exit_code = 125


class UsageError(MinirtError):
    """The command line asks for something that cannot be."""


class KernelError(MinirtError, OSError):
    """A system call that failed. `errno` is the kernel's."""

    def __init__(self, errno: int, text: str) -> None:
        OSError.__init__(self, errno, text)
        self.text = text

    def __str__(self) -> str:
        return self.text


class NotExecutable(MinirtError):
    """The container's command exists and the kernel will not run it."""

    exit_code = 126


class NotFound(MinirtError):
    """The container's command does not exist in the image."""

    exit_code = 127
