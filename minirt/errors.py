"""What can go wrong, as one tree; the command line prints each in one line and exits with its code.

    MinirtError                           125  ours: docker and podman use the same number
    ├── UsageError                        125  the words on the command line (docker run has the same code for them)
    │   ├── NameTaken                     125  another container has the name
    │   └── TemplateError                 1    a --format that is no template, or asks for what is not there
    ├── Mistake                           125  ... while its place in the template is still to be put before it
    ├── Jumped                            125  a template's break or continue, on its way to its range
    ├── KernelError(OSError)              125  a system call failed: its name, its arguments, why that is usual here
    │   └── PlanFailed                    125  ... and it was a record of a plan: which, in which step
    ├── NotExecutable                     126  the container's command was found and cannot be run
    ├── NotFound                          127  the container's command was not found
    ├── CapabilityError(ValueError)       125  a capability that nobody knows
    ├── CgroupError                       125  a limit that cannot be set here
    │   └── DeviceFilterError             125  a rule for devices, or the program made of them
    ├── BusError                          125  a call over D-Bus that was answered with an error, or not at all
    ├── CriuError                         1    CRIU is not there, or does not save or restore
    ├── SeccompError(ValueError)          125  a profile that cannot become a filter
    ├── TooLong                           125  a filter with more instructions than the kernel takes
    ├── StateError                        125  a database of ours cannot be opened, read or written
    ├── BadDocument                       125  a text that is not JSON
    ├── ConfigError                       125  a config.json that breaks a rule of the specification
    ├── Wrong                             125  ... while its JSON path is still being put together
    ├── ContainerError                    1    a container is not there, or not in the state that is needed
    │   ├── NoContainer                   1    no container has this name or id
    │   ├── Conflict                      1    ... as it runs, or does not run, or is another minirt's
    │   └── FileError                     1    a path in a container that is not there, or cannot be copied
    ├── ComposeError                      1    a compose file that cannot be, or a project that cannot be made as it says
    ├── VolumeError                       1    a volume is not there, is in use, or cannot be
    │   ├── BadName                       1    no volume can have this name
    │   ├── NoVolume                      1    no volume has this name
    │   └── VolumeInUse                   1    ... as a container uses it
    ├── NetworkError                      1    a network of containers cannot be
    │   ├── NoNetwork                     1    ... is not there
    │   └── NetworkConflict               1    ... or somebody else has, or uses, what is asked for
    ├── RuntimeFailure                    1    the OCI runtime cannot do what it is asked for
    ├── NotATerminal                      1    -i and -t, and standard input is not a terminal
    ├── Interrupted                       128+n  signal n ended our stay with the container
    ├── Refusal                           1    our registry's answer to a request that it cannot do
    │   └── Offline                       1    ... as the registry that it caches does not answer
    ├── ServeError                        1    a registry that cannot begin to serve
    ├── ApiError                          1    a request to `minirt serve` that is answered with an error
    ├── Gone                              1    ... that nobody waits for any more
    ├── BuildError                        1    a step of a build cannot be done: the text begins with its line
    │   ├── DockerfileError               1    the Dockerfile is wrong: known before anything is run
    │   ├── BadWord                       1    ... while its line is still to be put before it
    │   ├── StepFailed                    1    a step was tried; a shell can look at what was before it
    │   └── Cancelled                     1    another part of the build has failed
    └── ImageError                        1    an image cannot be found, read, made or kept
        ├── BadReference                  1    a name that is no image name
        ├── UnknownImage                  1    a well-formed name that the store does not have
        ├── BadArchive                    1    not a tar, truncated, hostile or beyond the limits
        ├── BadChange                     1    no instruction that changes a configuration
        ├── Damaged                       1    content that is not what its digest says
        ├── StoreError                    1    the file system said no
        ├── SigningError                  1    nothing can be signed or verified
        │   ├── BadKey                    1    a key cannot be read
        │   └── Unsigned                  1    an image lacks the signature that is asked for
        └── RegistryError                 1    a registry cannot be talked to, or said no
            ├── Denied                    1    the registry wants other credentials
            ├── NotThere                  1    the registry does not have what was asked for
            ├── Lied                      1    the registry sent something else than it announced
            ├── Unreachable               1    the registry does not answer, or is too busy
            └── Stopped                   1    another part of the same pull failed

Here are those that every room may raise; the others stand in their rooms. A second base is for callers from Python,
who expect it of a bad value or of a failed call.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KernelError", "MinirtError", "NotExecutable", "NotFound", "UsageError", "complain", "nearest", "unread"]


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


def complain(text: str) -> None:
    """Say in a line on stderr what is wrong, if anybody reads it."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        unread()


def nearest(word: str, known: Iterable[str], like: float = 0.7) -> str:
    """Return the known word that is most like another, "" where none is: what may have been meant.

    Args:
        like: how much it is to be like it (difflib); 1 is the same.
    """
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1, like)), "")


def unread() -> int:
    """Let go of the output that nobody reads, as with `minirt ps | true`: else the interpreter's last flush would fail too.

    Returns the exit code for that: what a shell says of a program that SIGPIPE ended, 128 + 13.
    """
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except BrokenPipeError:
            setattr(sys, name, None)  # so it is passed over; /dev/null cannot be opened where a machine is in a jail
    return 141
