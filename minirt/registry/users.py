"""Users and their passwords: a file as Apache's htpasswd writes it, with bcrypt (`htpasswd -B`).

A bcrypt hash takes some 0.1 s to compare, on purpose. A client sends its password with each request, so what was right
is remembered, as a keyed hash that is worth nothing outside this process.
"""

from __future__ import annotations

import hmac
import os

from minirt.registry.errors import ServeError
from minirt.registry.watched import Watched

__all__ = ["Users", "set_password"]

_COST = 12  # bcrypt's: 2 to this power rounds
NOBODY = b"$2b$12$C6UzMDM.H6dfI/f/IKcEeO7ZBpZ1pTz1QUcXzOQRvSYAaWFA8bO5e"  # compared with for a user who does not exist


class Users:
    """The users in a file (watched.py). Raises ServeError."""

    def __init__(self, path: str) -> None:
        self._file = Watched(path, read_htpasswd, "users")
        self._key = os.urandom(32)
        self._hashes: dict[str, bytes] = {}
        self._right: dict[str, bytes] = {}  # marks of passwords that were found right, by user, as long as _hashes holds

    def _refresh(self) -> None:
        hashes = self._file.now()
        if hashes is not self._hashes:
            self._hashes, self._right = hashes, {}

    def known(self, name: str, password: str) -> bool:
        """Return whether this password was found right before; at once."""
        self._refresh()
        return hmac.compare_digest(self._right.get(name, b""), self._mark(password))

    def check(self, name: str, password: str) -> bool:
        """Return whether it is the user's password. Takes its time: call it in a thread."""
        import bcrypt

        hash = self._hashes.get(name, NOBODY)
        try:
            # bcrypt reads 72 bytes and no more; its library refuses longer ones, htpasswd cuts them
            right = bcrypt.checkpw(password.encode()[:72], hash) and name in self._hashes
        except ValueError:
            right = False
        if right:
            self._right[name] = self._mark(password)
        return right

    def _mark(self, password: str) -> bytes:
        return hmac.digest(self._key, password.encode(), "sha256")


def read_htpasswd(path: str) -> dict[str, bytes]:
    """Return the hashes by user. Raises ServeError where one is not bcrypt's, OSError."""
    found = {}
    with open(path, encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            name, colon, hash = line.strip().partition(":")
            if not line.strip() or line.startswith("#"):
                continue
            if not colon or not hash.startswith(("$2a$", "$2b$", "$2y$")):
                raise ServeError(f"{path}, line {number}: not USER:HASH with a bcrypt hash (`minirt registry passwd` makes one)")
            found[name] = hash.encode()
    return found


def set_password(path: str, name: str, password: str) -> None:
    """Write a user's password into a file, which is made where there is none. Raises ServeError."""
    import bcrypt

    from minirt.image.index import replace_file

    if not name or ":" in name or not name.isprintable():
        raise ServeError(f"{name!r} cannot be a user's name")
    if not password or len(password.encode()) > 72:
        raise ServeError("a password has 1 to 72 bytes")
    try:
        lines = []
        if os.path.exists(path):
            read_htpasswd(path)
            with open(path, encoding="utf-8") as stream:
                lines = [line.rstrip("\n") for line in stream if line.partition(":")[0] != name]
        lines.append(f"{name}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(_COST)).decode()}")
        replace_file(path, "".join(line + "\n" for line in lines).encode())
    except OSError as error:
        raise ServeError(f"cannot write {path}: {error.strerror}") from None
