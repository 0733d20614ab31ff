"""Tokens: who showed a password gets a text to show instead, for some minutes and some repositories.

The exchange is distribution's (distribution docs/spec/auth/token.md, jwt.md, scope.md): the registry answers 401 and
says where tokens are had; the client asks there, with its password, for a scope such as `repository:team/app:pull,push`;
what it gets back goes into the next requests as `Authorization: Bearer`. Registry and issuer are one process here, so one
secret signs and checks (HS256), and no certificates are needed between them.
"""

from __future__ import annotations

import os
import time

from minirt.registry.errors import ServeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Grant = dict[str, Any]  # type, name, actions

__all__ = ["Tokens", "parse_scope"]

LIFETIME = 300  # seconds
SERVICE = "minirt-registry"


class Tokens:
    """Makes tokens and reads them.

    Args: root, the registry's directory, where the secret is kept: a server that is started again knows its tokens.
    Raises ServeError.
    """

    def __init__(self, root: str) -> None:
        path = root + "/token.key"
        try:
            if not os.path.exists(path):
                _make_key(path)
            with open(path, "rb") as stream:
                self._key = stream.read()
        except OSError as error:
            raise ServeError(f"cannot read {path}: {error.strerror}") from None
        if len(self._key) != 32:
            raise ServeError(f"{path} is not a key: remove it, and a new one is made")

    def make(self, user: str, access: list[Grant]) -> str:
        """Return a token that lets a user do what the list says."""
        import jwt

        now = int(time.time())
        claims = {"iss": SERVICE, "aud": SERVICE, "sub": user, "iat": now, "exp": now + LIFETIME, "access": access}
        return jwt.encode(claims, self._key, algorithm="HS256")

    def read(self, token: str) -> tuple[str, list[Grant]] | None:
        """Return the user and what the token lets it do, or None where it is not ours, or too old."""
        import jwt

        try:
            claims = jwt.decode(token, self._key, algorithms=["HS256"], audience=SERVICE, issuer=SERVICE)
        except jwt.InvalidTokenError:
            return None
        return str(claims["sub"]), list(claims["access"])


def _make_key(path: str) -> None:
    """Make the secret, whole or not at all, and the first of two who do so wins (man 2 link: it replaces nothing)."""
    new = f"{path}.{os.urandom(6).hex()}"
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as stream:
            stream.write(os.urandom(32))
        os.link(new, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(new)


def parse_scope(text: str) -> list[Grant]:
    """Return what a scope asks for: `type:name:action,action`, several with spaces between; what is no scope is left out."""
    found = []
    for word in text.split():
        kind, _, rest = word.partition(":")
        name, colon, actions = rest.rpartition(":")
        if colon and name:
            found.append({"type": kind.partition("(")[0], "name": name, "actions": actions.split(",")})
    return found
