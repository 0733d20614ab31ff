"""Who we are, in the words that a registry asks for: Basic, or a Bearer token from its token server.

    GET /v2/…                  -> 401, WWW-Authenticate: Bearer realm="https://auth…",service="…",scope="repository:a/b:pull"
    GET realm?service=&scope=  -> {"token": "…", "expires_in": 300}        with Basic, where there is a password
    POST realm                 -> {"access_token": "…"}                    with a refresh token, where there is one
    GET /v2/…                     Authorization: Bearer …

distribution, "Docker Registry v2 authentication via central service" and "OAuth2 token specification"; RFC 6750.
"""

from __future__ import annotations

import threading
import time

from minirt.image.remote.errors import Lied
from minirt.image.remote.http import check, document, finish, joined, rewind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from urllib3 import BaseHTTPResponse

    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.http import Http

__all__ = ["Authorizer", "parse_challenges"]

TOKEN_LIMIT = 1 << 20
_SPACE = " \t"


class Authorizer:
    """Adds to requests what one registry wants to know.

    Args: http, of the registry; credentials, or None: then as anybody.
    """

    def __init__(self, http: Http, credentials: Credentials | None) -> None:
        self._http = http
        self._credentials = credentials
        self._lock = threading.Lock()  # many layers at a time want one token
        self._challenge: tuple[str, dict[str, str]] | None = None
        self._tokens: dict[str, tuple[str, float]] = {}  # scope -> the token and when it ends, on the monotonic clock

    def request(
        self, method: str, url: str, scope: str, headers: dict[str, str] | None = None, *, body: Any = None, again: bool = True
    ) -> BaseHTTPResponse:
        """Send a request as `Http.request` does, with the authorization that the registry wants for it.

        Args: scope, what is to be done: `repository:NAME:pull,push`; a body that is a file has to begin at its
        position at each try. Raises Denied where no credentials help.
        """

        def mine() -> dict[str, str]:
            # Where an upload goes on may be another server, whose links carry a right of their own.
            return self._headers(scope) if self._http.is_home(url) else {}

        def send() -> BaseHTTPResponse:
            return self._http.request(method, url, headers, body=body, fresh=mine, again=again)

        response = send()
        if response.status == 401 and self._learn(response, scope):
            rewind(body)
            response = send()
        return response

    @property
    def known(self) -> bool:
        """Whether there are credentials to show."""
        return self._credentials is not None

    def introduce(self) -> None:
        """Show a name and password with each request from now on, where the registry has not said what it wants instead."""
        with self._lock:
            if self._challenge is None and self._credentials is not None and self._credentials.user:
                self._challenge = ("basic", {})

    @property
    def verified(self) -> bool:
        """Whether the registry has to show a certificate that is trusted."""
        return self._http.verify

    def abort(self) -> None:
        """End what other threads are reading."""
        self._http.abort()

    def pause(self, attempt: int) -> None:
        """Wait before another try."""
        self._http.pause(attempt)

    def _headers(self, scope: str) -> dict[str, str]:
        with self._lock:
            if self._challenge is None:
                return {}
            kind, asked = self._challenge
            if kind == "basic":
                return {"Authorization": self._credentials.basic} if self._credentials else {}
            token, until = self._tokens.get(scope, ("", 0.0))
            if time.monotonic() >= until:
                token, until = self._token(asked, scope)
                self._tokens[scope] = (token, until)
            return {"Authorization": f"Bearer {token}"}

    def _learn(self, response: BaseHTTPResponse, scope: str) -> bool:
        """Take a challenge. Returns whether another try may succeed."""
        has_password = self._credentials is not None and bool(self._credentials.user)
        for kind, asked in parse_challenges(response.headers.get("WWW-Authenticate", "")):
            if (kind == "bearer" and asked.get("realm")) or (kind == "basic" and has_password):
                with self._lock:
                    self._challenge = (kind, asked)
                    self._tokens.pop(scope, None)
                finish(response)
                return True
        return False

    def _token(self, asked: dict[str, str], scope: str) -> tuple[str, float]:
        """Fetch a token. Returns it and when it ends. Raises Denied, Lied."""
        import json
        from urllib.parse import urlencode, urlsplit

        realm = joined(self._http.base, asked["realm"])
        if urlsplit(realm).scheme != "https" and (self._http.verify or urlsplit(realm).scheme != "http"):
            raise Lied(f"the registry {self._http.host} wants the password sent to {realm[:200]!r}, which is not https")
        what = f"the token server of {self._http.host}"
        credentials = self._credentials
        fields = {"service": asked.get("service", "")}
        if credentials is not None and credentials.token:
            fields |= {"scope": scope, "grant_type": "refresh_token", "refresh_token": credentials.token, "client_id": "minirt"}
            form = {"Content-Type": "application/x-www-form-urlencoded"}
            response = self._http.request("POST", realm, form, body=urlencode(fields).encode())
        else:
            headers = {"Authorization": credentials.basic} if credentials else {}
            pairs = [*fields.items(), *(("scope", one) for one in scope.split())]
            query = urlencode([(name, text) for name, text in pairs if text])
            response = self._http.request("GET", f"{realm}{'&' if '?' in realm else '?'}{query}", headers)
        check(response, what, 200)
        return _read_token(json.loads, document(response, f"what {what} answered", TOKEN_LIMIT), what)


def _read_token(loads: Any, body: bytes, what: str) -> tuple[str, float]:
    try:
        answer = loads(body)
        token = answer.get("token") or answer.get("access_token")
        seconds = float(answer.get("expires_in") or 60)  # 60: "for compatibility with older clients"
    except (ValueError, AttributeError, TypeError, RecursionError):
        token, seconds = None, 0.0
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
        raise Lied(f"{what} answered with no token")
    return token, time.monotonic() + max(seconds * 0.9 - 1, 1)  # a token that ends on the way is of no use


def parse_challenges(text: str) -> list[tuple[str, dict[str, str]]]:
    """Parse a WWW-Authenticate header (RFC 9110 section 11.6.1).

    Returns each scheme, in lower case, with its parameters; what cannot be parsed ends the list.
    """
    found: list[tuple[str, dict[str, str]]] = []
    at = 0
    while at < len(text):
        at = _past(text, at, _SPACE + ",")
        word, at = _token_at(text, at)
        if not word:
            break
        after = _past(text, at, _SPACE)
        if after < len(text) and text[after] == "=" and found:  # a parameter of the scheme before
            value, at = _value_at(text, _past(text, after + 1, _SPACE))
            found[-1][1].setdefault(word.lower(), value)
        else:
            found.append((word.lower(), {}))
    return found


def _past(text: str, at: int, chars: str) -> int:
    while at < len(text) and text[at] in chars:
        at += 1
    return at


def _token_at(text: str, at: int) -> tuple[str, int]:
    """A token (RFC 9110 section 5.6.2)."""
    end = at
    while end < len(text) and ((text[end].isascii() and text[end].isalnum()) or text[end] in "!#$%&'*+-.^_`|~"):
        end += 1
    return text[at:end], end


def _value_at(text: str, at: int) -> tuple[str, int]:
    """A token or a quoted string, with backslashes."""
    if at >= len(text) or text[at] != '"':
        end = at
        while end < len(text) and text[end] not in ", \t":
            end += 1
        return text[at:end], end
    value, at = [], at + 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        value.append(text[at : at + 1])
        at += 1
    return "".join(value), at + 1


