"""A blob from a registry into the store: begun where it ended before, hashed as it arrives, given up when it is a lie."""

from __future__ import annotations

from minirt.image.errors import Damaged
from minirt.image.remote.errors import Lied, RegistryError, Unreachable
from minirt.image.remote.http import TRIES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from minirt.image.blobs import Descriptor
    from minirt.image.partial import Partial
    from minirt.image.remote.repository import Repository
    from minirt.image.store import Store

__all__ = ["Stopped", "fetch"]

PIECE = 256 << 10  # bytes written at a time


class Stopped(RegistryError):
    """Another part of the same pull failed: there is no use in going on."""


def fetch(
    store: Store,
    repository: Repository,
    descriptor: Descriptor,
    progress: Callable[[int], object],
    stopped: Callable[[], bool] = bool,
) -> None:
    """Let the store have a blob. Call it inside `Store.adding`.

    Args: progress, called with the number of bytes that are there more than before, a negative one where it begins
    again; stopped, asked now and then whether to give up.
    Raises Lied, NotThere, Denied, Unreachable, Stopped, StoreError. What arrived of a lie is removed.
    """
    with store.partials.open(descriptor) as partial:
        if partial.whole:
            progress(partial.total)
            return
        progress(partial.size)
        for attempt in range(TRIES):
            begin = partial.size
            try:
                _receive(repository, partial, progress, stopped)
                break
            except Unreachable:
                if attempt == TRIES - 1 or (attempt > 1 and partial.size == begin):
                    raise
                repository.auth.pause(attempt)
            except (Lied, Damaged) as error:
                progress(-partial.size)
                recovered = partial.recovered
                partial.restart()
                if not recovered:  # else what an earlier command left may have been torn by a power cut
                    raise Lied(str(error)) from None


def _receive(
    repository: Repository, partial: Partial, progress: Callable[[int], object], stopped: Callable[[], bool]
) -> None:
    """Ask for what is missing, and write it. Raises Unreachable where it ends too early."""
    if partial.size < partial.total:
        response = repository.blob(partial.digest, partial.size)
        if response.status != 206 and partial.size:  # no ranges here: all of it again
            progress(-partial.size)
            partial.restart()
            if response.status == 416:
                response.close()
                response = repository.blob(partial.digest)
        elif response.status == 206:
            _check_range(response, partial)
        _copy(response, partial, progress, stopped)
    if partial.size < partial.total:
        raise Unreachable(f"blob {partial.digest} of {repository} ended after {partial.size} of {partial.total} bytes")
    partial.commit()


def _check_range(response: BaseHTTPResponse, partial: Partial) -> None:
    """Content-Range: bytes 100-999/1000 (RFC 9110 section 14.4)."""
    begin = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0].strip()
    if begin != str(partial.size):
        response.close()
        raise Lied(f"blob {partial.digest}: the registry was asked for bytes from {partial.size} on and sent {begin[:30]!r}")


def _copy(
    response: BaseHTTPResponse, partial: Partial, progress: Callable[[int], object], stopped: Callable[[], bool]
) -> None:
    import urllib3

    announced = response.headers.get("Content-Length", "")
    if announced.isdigit() and int(announced) != partial.total - partial.size:
        response.close()
        missing = partial.total - partial.size
        raise Lied(f"blob {partial.digest} is announced with {announced} bytes where its manifest says {missing}")
    try:
        while piece := response.read(PIECE, decode_content=False):
            partial.write(piece)
            progress(len(piece))
            if stopped():
                raise Stopped("stopped")
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable(f"blob {partial.digest} ended after {partial.size} of {partial.total} bytes: {error}") from None
    finally:
        if partial.size < partial.total:
            response.close()
        else:
            response.release_conn()
