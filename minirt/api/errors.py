"""What goes wrong as HTTP has it: docker's status codes, and `{"message": "…"}`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from errno import ENOENT

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ApiError", "message_of", "reading", "status_of"]


class ApiError(MinirtError):
    """A request that is answered with an error. Args: status, of HTTP; message, for people."""

    exit_code = 1

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@contextmanager
def reading() -> Iterator[None]:
    """While a body is read: what is not of the type that the API has is the client's fault. Raises: ApiError."""
    try:
        yield
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        if isinstance(error, MinirtError):
            raise
        raise ApiError(400, f"the body is not what the API has: {error}") from None


def status_of(error: MinirtError) -> int:
    """Return the status code that an error of the engine becomes (Docker Engine API, "Errors")."""
    from minirt.engine.container import Conflict, NameTaken, NoContainer
    from minirt.engine.files.root import FileError
    from minirt.errors import NotExecutable, NotFound, UsageError
    from minirt.image.change import BadChange
    from minirt.image.errors import BadReference, UnknownImage
    from minirt.image.remote.errors import NotThere
    from minirt.linux.capabilities import CapabilityError
    from minirt.network.store import NetworkConflict, NoNetwork
    from minirt.volume.store import BadName, NoVolume, VolumeInUse

    if isinstance(error, ApiError):
        return error.status
    if isinstance(error, FileError):
        return 404 if str(error).endswith(os.strerror(ENOENT)) else 400
    kinds: tuple[tuple[type[MinirtError], int], ...] = (
        (NoContainer, 404), (UnknownImage, 404), (NameTaken, 409), (Conflict, 409), (UsageError, 400), (BadReference, 400),
        (NotFound, 400), (NotExecutable, 400), (NotThere, 404), (BadChange, 400), (BadName, 400), (CapabilityError, 400),
        (NoNetwork, 404), (NetworkConflict, 409), (NoVolume, 404), (VolumeInUse, 409),
    )  # fmt: skip
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


def message_of(error: MinirtError) -> str:
    """Return an error's text. docker's command line takes its exit codes 126 and 127 out of the kernel's words in it."""
    from minirt.errors import NotExecutable, NotFound

    if isinstance(error, NotFound):
        return f"{error}: no such file or directory"
    return f"{error}: permission denied" if isinstance(error, NotExecutable) else str(error)
