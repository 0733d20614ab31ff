"""What can go wrong with an image.

    ImageError(MinirtError)     1
    ├── BadReference            a name that is no image name
    ├── UnknownImage            a well-formed name that the store does not have
    ├── BadArchive              not a tar, truncated, hostile or beyond the limits
    ├── Damaged                 content that is not what its digest says
    └── StoreError              the file system said no

`minirt run` of an image that it cannot have exits with 125 all the same: the engine sees to that.
"""

from __future__ import annotations

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Attempt", "BadArchive", "BadReference", "Damaged", "ImageError", "StoreError", "UnknownImage", "printable"]


def printable(text: str) -> str:
    """Return a text of somebody else as a line that moves no cursor and changes no colour: what is not to be printed is `?`."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))


class ImageError(MinirtError):
    """An image cannot be found, read, made or kept."""

    exit_code = 1


class BadReference(ImageError):
    """The text is not an image name."""


class UnknownImage(ImageError):
    """No image has this name."""


class BadArchive(ImageError):
    """An archive that is not what it should be; nothing of it is kept."""


class Damaged(ImageError):
    """A blob is missing, truncated or altered."""


class StoreError(ImageError):
    """The file system refused; the text says what was tried and why it failed."""


class Attempt:
    """Turn an OSError of the body into one line: `cannot WHAT: No space left on device`."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, MinirtError):
            raise StoreError(f"cannot {self._what}: {error.strerror or error}") from error
