"""A blob to a registry: not sent if it is there, or may be mounted from a neighbour; else gone on with where it broke off.

distribution-spec "Pushing Blobs": POST opens a session, PATCH appends a chunk, GET asks how far it is, PUT closes it
with the digest. A registry answers each with the Location of what comes next.
"""

from __future__ import annotations

import contextlib
import os

from minirt.image.remote.errors import Denied, RegistryError, Unreachable
from minirt.image.remote.http import TRIES, check, finish, length_of
from minirt.image.remote.together import Stopped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from urllib3 import BaseHTTPResponse

    from minirt.image.blobs import Descriptor
    from minirt.image.remote.repository import Repository

__all__ = ["upload"]

CHUNK = 64 << 20  # bytes in a request: proxies refuse long ones, and what broke is sent again from its beginning at worst


def upload(
    repository: Repository,
    fd: int,
    descriptor: Descriptor,
    progress: Callable[[int], object],
    sources: list[str] | None = None,
    stopped: Callable[[], bool] = bool,
) -> str:
    """Let a repository have a blob.

    Args: fd, of the blob; progress, called with the number of bytes that are there more than before; sources,
    repositories of the same registry that have the blob; stopped, asked now and then whether to give up.
    Returns how: "there", "mounted" or "pushed". Raises Denied, Unreachable, RegistryError, Stopped.
    """
    digest, size = str(descriptor["digest"]), int(descriptor["size"])
    if repository.has_blob(digest):
        progress(size)
        return "there"
    location: str | None = ""
    for source in sources or ():
        if location:
            _cancel(repository, location)
        location = _mount(repository, digest, source)
        if location is None:
            progress(size)
            return "mounted"
    location = location or _open(repository)
    _Upload(repository, fd, digest, size, progress, stopped).run(location)
    return "pushed"


def _mount(repository: Repository, digest: str, source: str) -> str | None:
    """Ask for a blob of another repository ("Mounting a blob from another repository").

    Returns None where it was mounted, else where it has to be uploaded to; "" where that has to be asked for: no right to read
    there is as if nobody had asked, whether the registry says so or who gives out its tokens.
    """
    from urllib.parse import quote

    path = f"blobs/uploads/?mount={digest}&from={quote(source, safe='/')}"
    try:
        response = repository.send("POST", path, "pull,push", source=source, headers={"Content-Length": "0"})
    except Denied:
        return ""
    if response.status in (401, 403, 404, 405):
        finish(response)
        return ""
    check(response, f"push to {repository}", 201, 202)
    finish(response)
    return None if response.status == 201 else _location(response, repository)


def _cancel(repository: Repository, location: str) -> None:
    """Let a registry forget an upload that is not gone on with. Not all know how; in time they forget by themselves."""
    with contextlib.suppress(RegistryError):
        finish(repository.send("DELETE", location, "pull,push", again=False))


def _open(repository: Repository) -> str:
    response = repository.send("POST", "blobs/uploads/", "pull,push", headers={"Content-Length": "0"})
    check(response, f"push to {repository}", 202)
    finish(response)
    return _location(response, repository)


def _location(response: BaseHTTPResponse, repository: Repository) -> str:
    """Return where the upload goes on. Raises RegistryError."""
    location = response.headers.get("Location", "")
    if not location:
        raise RegistryError(f"push to {repository}: the registry does not say where the upload goes on (Location)")
    return location


class _Slice:
    """A part of a file as the body of a request."""

    def __init__(
        self, fd: int, begin: int, end: int, progress: Callable[[int], object], stopped: Callable[[], bool]
    ) -> None:
        self._fd = fd
        self.begin = self._at = begin
        self._end = end
        self._progress = progress
        self._stopped = stopped

    def read(self, size: int = -1, /) -> bytes:
        if self._stopped():
            raise OSError("stopped")
        left = self._end - self._at
        data = os.pread(self._fd, left if size < 0 else min(size, left), self._at)
        self._at += len(data)
        self._progress(len(data))
        return data

    def seek(self, at: int) -> None:
        """Begin again: only to where it began."""
        self._progress(at - self._at)
        self._at = at

    def undo(self) -> None:
        """Take back what was told of progress."""
        self.seek(self.begin)


class _Upload:
    def __init__(
        self,
        repository: Repository,
        fd: int,
        digest: str,
        size: int,
        progress: Callable[[int], object],
        stopped: Callable[[], bool],
    ) -> None:
        self._repository = repository
        self._fd = fd
        self._digest = digest
        self._size = size
        self._progress = progress
        self._stopped = stopped
        self._at = 0  # bytes that the registry has
        self._location = ""

    def run(self, location: str) -> None:
        """Send all of it. Raises Unreachable where the registry goes away too often, Stopped."""
        self._location = location
        failures = 0
        while self._at < self._size or not self._size:
            try:
                self._patch()
                failures = 0
            except Unreachable:
                failures += 1
                if self._stopped():
                    raise Stopped("stopped") from None
                if failures == TRIES:
                    raise
                self._repository.auth.pause(failures)
                self._ask()
            if not self._size:
                break
        self._close()

    def _patch(self) -> None:
        """Append a chunk."""
        end = min(self._at + CHUNK, self._size)
        if end == self._at:
            return
        body = _Slice(self._fd, self._at, end, self._progress, self._stopped)
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Length": str(end - self._at),
            "Content-Range": f"{self._at}-{end - 1}",  # without "bytes": so has the specification it
        }
        try:
            response = self._repository.send("PATCH", self._location, "pull,push", headers=headers, body=body, again=False)
        except Unreachable:
            body.undo()
            raise
        if response.status == 416:  # it has another idea of where we are
            body.undo()
            response.close()
            raise Unreachable(f"push of blob {self._digest}: {self._repository} has not the {self._at} bytes that it took")
        check(response, f"push of blob {self._digest} to {self._repository}", 202, 201, 204)
        finish(response)
        self._location = _location(response, self._repository)
        self._at = end

    def _ask(self) -> None:
        """Ask how far the upload is ("Pushing a blob in chunks": GET of the location, Range: 0-N); begin again if it is gone."""
        response = self._repository.send("GET", self._location, "pull,push")
        finish(response)
        first, _, last = response.headers.get("Range", "").removeprefix("bytes=").partition("-")
        before = self._at
        if response.status == 204 and first == "0" and length_of(last) >= 0:
            self._at = min(length_of(last) + 1, self._size) if last != "0" else 0
            self._location = response.headers.get("Location") or self._location
        else:
            self._at = 0
            self._location = _open(self._repository)
        self._progress(self._at - before)

    def _close(self) -> None:
        """Say that it is all there, and what its digest has to be."""
        joiner = "&" if "?" in self._location else "?"
        url = f"{self._location}{joiner}digest={self._digest}"
        response = self._repository.send("PUT", url, "pull,push", headers={"Content-Length": "0"})
        check(response, f"push of blob {self._digest} to {self._repository}", 201, 204)
        finish(response)
