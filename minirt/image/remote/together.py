"""Work that several threads do together: the first failure ends the rest, and is what is told of it."""

from __future__ import annotations

from minirt.image.remote.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["Stopped", "raise_first"]


class Stopped(RegistryError):
    """Another part of the same work failed: there is no use in going on."""


def raise_first(futures: list[Future[None]]) -> None:
    """Raise what went wrong; that others were stopped by it is not worth telling. Args: futures, all of which have ended."""
    errors = [error for future in futures if not future.cancelled() and (error := future.exception())]
    for error in sorted(errors, key=lambda error: isinstance(error, Stopped)):
        raise error
