"""A blob from a registry into the store: begun where it ended before, hashed as it arrives, given up when it is a lie."""

from __future__ import annotations

from minirt.image.errors import Damaged
from minirt.image.remote.errors import Lied
from minirt.image.remote.http import length_of
from minirt.image.remote.together import Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from minirt.image.blobs import Descriptor
    from minirt.image.partial import Partial
    from minirt.image.remote.repository import Repository
    from minirt.image.store import Store

__all__ = ["fetch"]

PIECE = 256 << 10  # bytes written at a time
IDLE = 4  # tries in a row that bring nothing, before it is called a lie


def fetch(
    store: Store,
    repository: Repository,
    descriptor: Descriptor,
    progress: Callable[[int], object],
    stopped: Callable[[], bool] = bool,
    verified: Callable[[], object] = bool,
) -> None:
    """Let the store have a blob. Call it inside `Store.adding`.

    Args: progress, called with the number of bytes that are there more than before, a negative one where it begins
    again; stopped, asked now and then whether to give up; verified, called when `Partials.read` has it, before the disk does.
    Raises Lied, NotThere, Denied, Unreachable, Stopped, StoreError. What arrived of a lie is removed.
    """
    with store.partials.open(descriptor) as partial:
        if partial.whole:
            progress(partial.total)
            verified()
            return
        progress(partial.size)
        best, idle = partial.size, 0  # how far it ever came; tries in a row that came no farther
        while early := _receive(repository, partial, progress, stopped, verified):
            idle = 0 if partial.size > best else idle + 1
            best = max(best, partial.size)
            if idle == IDLE:
                raise Lied(f"{early}, each time")
            repository.auth.pause(idle)


def _receive(
    repository: Repository, partial: Partial, progress: Callable[[int], object], stopped: Callable[[], bool],
    verified: Callable[[], object],
) -> str:  # fmt: skip
    """Ask for what is missing, write it, and commit it when it is all there.

    Returns "", or in what way it ended too early. Raises Lied, of which nothing is kept, and what `Repository.blob` does.
    """
    try:
        early = _ask(repository, partial, progress, stopped) if partial.size < partial.total else ""
        if not early:
            partial.commit(verified)
        return early
    except (Lied, Damaged) as error:
        progress(-partial.size)
        recovered = partial.recovered
        partial.restart()
        if recovered:  # by an earlier command, and perhaps torn by a power cut: so the registry is not to blame yet
            return str(error)
        raise Lied(str(error)) from None


def _ask(
    repository: Repository, partial: Partial, progress: Callable[[int], object], stopped: Callable[[], bool]
) -> str:
    """Ask for what is missing, and write it."""
    response = repository.blob(partial.digest, partial.size)
    if response.status != 206 and partial.size:  # no ranges here: all of it again
        progress(-partial.size)
        partial.restart()
        if response.status == 416:
            response.close()
            response = repository.blob(partial.digest)
    elif response.status == 206:
        _check_range(response, partial)
    why = _copy(response, partial, progress, stopped)
    if partial.size == partial.total:
        return ""
    return f"blob {partial.digest} of {repository} ended after {partial.size} of {partial.total} bytes{why}"


def _check_range(response: BaseHTTPResponse, partial: Partial) -> None:
    """Content-Range: bytes 100-999/1000 (RFC 9110 section 14.4)."""
    begin = response.headers.get("Content-Range", "").removeprefix("bytes ").partition("-")[0].strip()
    if begin != str(partial.size):
        response.close()
        raise Lied(f"blob {partial.digest}: the registry was asked for bytes from {partial.size} on and sent {begin[:30]!r}")


def _copy(
    response: BaseHTTPResponse, partial: Partial, progress: Callable[[int], object], stopped: Callable[[], bool]
) -> str:
    """Write what a response has. Returns why it ended, where the connection is to blame."""
    import urllib3

    announced = length_of(response.headers.get("Content-Length", ""))
    if announced not in (-1, partial.total - partial.size):
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
        if stopped():
            raise Stopped("stopped") from None
        return f" ({type(error).__name__})"
    finally:
        if partial.size < partial.total:
            response.close()
        else:
            response.release_conn()
    return ""
