"""ADD of a URL: fetched, checked, one file (docs.docker.com/reference/dockerfile, "ADD", "Adding files from a URL")."""

from __future__ import annotations

import os
import stat

from minirt.build.copying import Item
from minirt.build.errors import BuildError

__all__ = ["fetch"]

LIMIT = 16 << 30  # bytes
PIECE = 1 << 16
SECONDS = 60  # without a byte


def fetch(url: str, checksum: str, unpack: bool, place: str) -> Item:
    """Fetch a file.

    Args: checksum, sha256:HEX, or "" where none was given; unpack, an archive's content is meant; place, a directory for it,
    which stays until the layer is written.
    Returns what to copy. Raises BuildError.
    """
    import urllib.error
    import urllib.parse
    import urllib.request

    from minirt.build.context import Tree
    from minirt.image.view import View

    name = urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]) or "download"
    folder = os.path.join(place, os.urandom(6).hex())
    os.mkdir(folder)
    path = os.path.join(folder, "file")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "minirt", "Accept-Encoding": "identity"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            _save(answer, path, checksum, url)
            mtime = _modified(answer.headers.get("Last-Modified"))
    except (OSError, ValueError) as error:  # URLError is an OSError
        raise BuildError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    os.chmod(path, 0o600)
    os.utime(path, (mtime, mtime))
    view = View([folder])
    found = view.find(b"file")
    assert found is not None and stat.S_ISREG(found.kind)
    return Item(os.fsencode(name), Tree(view, url), b"file", found, unpack=unpack)


def _save(answer: object, path: str, checksum: str, url: str) -> None:
    """Write what comes, and compare its digest."""
    from minirt.image import digest

    made, size = digest.hasher(checksum.partition(":")[0] or "sha256"), 0
    with open(path, "wb") as file:
        while piece := answer.read(PIECE):  # type: ignore[attr-defined]
            size += len(piece)
            if size > LIMIT:
                raise BuildError(f"{url}: more than {LIMIT >> 30} GiB")
            made.update(piece)
            file.write(piece)
    if checksum and made.hexdigest() != checksum.partition(":")[2]:
        raise BuildError(f"{url}: its digest is {checksum.partition(':')[0]}:{made.hexdigest()}, and --checksum={checksum}")


def _modified(text: str | None) -> int:
    """Return when the server says the file was changed, in seconds since the epoch; 0 where it does not."""
    import email.utils

    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) if text else 0
    except ValueError:
        return 0
