"""ADD of what is elsewhere: a URL, fetched, checked, one file; a git repository, its files.

(docs.docker.com/reference/dockerfile, "ADD", "Adding files from a URL", "Adding files from a Git repository".)
"""

from __future__ import annotations

import os
import stat

from minirt.build.copying import Item
from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["download", "fetch", "fetch_repository", "name_of"]

LIMIT = 16 << 30  # bytes
PIECE = 1 << 16
SECONDS = 60  # without a byte


def fetch(url: str, checksum: str, unpack: bool, place: str) -> Item:
    """Fetch a file.

    Args: checksum, sha256:HEX, or "" where none was given; unpack, an archive's content is meant; place, a directory for it,
    which stays until the layer is written.
    Returns what to copy. Raises BuildError.
    """
    from minirt.build.context import Tree
    from minirt.image.view import View

    folder = os.path.join(place, os.urandom(6).hex())
    os.mkdir(folder)
    download(url, checksum, os.path.join(folder, "file"))
    view = View([folder])
    found = view.find(b"file")
    assert found is not None and stat.S_ISREG(found.kind)
    return Item(os.fsencode(name_of(url)), Tree(view, url, keeps_owners=False), b"file", found, unpack=unpack)


def fetch_repository(text: str, commit: str, keep: bool, place: str, lock: int, check: Callable[[], object]) -> Item:
    """Fetch a git repository: what is copied is its content (docs: "ADD", "Adding files from a Git repository").

    Args: text, its name; commit, that --checksum wants, or ""; keep, whether .git is copied too; place and lock, an empty
    directory and what keeps it; check, what it raises ends the fetching.
    Returns what to copy. Raises BuildError.
    """
    from minirt.build.context import Tree
    from minirt.build.git import Repository
    from minirt.image.view import View

    repository = Repository(text)
    if commit:
        repository.ref, repository.commit = repository.ref or repository.commit or "HEAD", commit
    directory, found = repository.fetch(place, lock, keep=keep, check=check)
    view = View([directory])
    identity = f"{found} {repository.directory} {keep}"  # .git itself is never twice the same
    return Item(os.fsencode(repository.name), Tree(view, text, keeps_owners=False), b"", view.find(b""), identity=identity)


def name_of(url: str) -> str:
    """Return the name that a URL gives a file."""
    import urllib.parse

    return urllib.parse.unquote(urllib.parse.urlsplit(url).path.rpartition("/")[2]) or "download"


def download(url: str, checksum: str, path: str) -> None:
    """Fetch a URL into a new file, of mode 0600, with the time that the server says. Raises BuildError."""
    import urllib.error
    import urllib.request

    from minirt.image.digest import is_digest

    if checksum and not is_digest(checksum):
        raise BuildError(f"{url}: --checksum={checksum}: for a URL it is written sha256:HEX")
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "minirt", "Accept-Encoding": "identity"})
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            _save(answer, path, checksum, url)
            mtime = _modified(answer.headers.get("Last-Modified"))
    except (OSError, ValueError) as error:  # URLError is an OSError
        raise BuildError(f"{url}: {getattr(error, 'reason', None) or error}") from None
    os.chmod(path, 0o600)
    os.utime(path, (mtime, mtime))


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
