"""Another registry, asked over HTTP, with the password or the tokens that it wants (distribution docs/spec/auth/token.md).

By aiohttp's client, as it is asked in the server's event loop; minirt/image has a client that waits in its thread.
"""

from __future__ import annotations

import base64
import json
import re
import time

import aiohttp

from minirt.registry.errors import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from typing import Any

__all__ = ["Offline", "Upstream", "body"]

_PARAMETER = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_TOKEN_LIMIT = 1 << 20  # bytes of a token server's answer
_TOKEN_LIFE = 60  # seconds, where the token does not say


class Offline(Refusal):
    """The other registry does not answer, or says that it cannot now; what is here already may be served."""

    def __init__(self, reason: str) -> None:
        super().__init__("UNKNOWN", reason, status=502)


class Upstream:
    """A registry at a URL.

    Args: url, such as https://registry.example; user and password, or "" for nobody; tls, which certificates to
    believe, or None for the system's.
    """

    def __init__(self, url: str, user: str = "", password: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.url = url.rstrip("/")
        self._basic = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._tokens: dict[str, tuple[str, float]] = {}  # scope -> token, and when it ends

    def session(self) -> aiohttp.ClientSession:
        """Return the connections, made at first use: they belong to a running loop."""
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=None, connect=15, sock_read=60)
            connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self._session

    async def ask(self, method: str, name: str, path: str, **more: Any) -> aiohttp.ClientResponse:
        """Send a request about a repository: `/v2/NAME/PATH`. Returns the response, which the caller releases.

        Raises Offline, Refusal (DENIED).
        """
        scope = f"repository:{name}:pull"
        headers = dict(more.pop("headers", {}))
        url = f"{self.url}/v2/{name}/{path}"
        try:
            for attempt in range(2):
                token, ends = self._tokens.get(scope, ("", 0.0))
                if token and time.monotonic() < ends:
                    headers["Authorization"] = token
                response = await self.session().request(method, url, headers=headers, **more)
                if response.status != 401 or attempt:
                    break
                await self._authorize(response, scope)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Offline(f"{self.url}: {error}") from None
        if response.status in (401, 403):
            response.release()
            raise Refusal("DENIED", f"{self.url} does not let this registry read {name!r}")
        if response.status == 429 or response.status >= 500:
            response.release()
            raise Offline(f"{self.url} answered {response.status}")
        return response

    async def _authorize(self, response: aiohttp.ClientResponse, scope: str) -> None:
        """Get what a 401 asks for."""
        challenge = response.headers.get("WWW-Authenticate", "")
        response.release()
        if challenge[:5].lower() == "basic" and self._basic:
            self._tokens[scope] = (self._basic, time.monotonic() + 86400)
        elif challenge[:6].lower() == "bearer":
            words = dict(_PARAMETER.findall(challenge))
            realm = words.get("realm", "")
            if self.url.startswith("https://") and not realm.startswith("https://"):
                raise Offline(f"{self.url} wants the password sent to {realm[:200]!r}, which is not https")
            query = {"service": words.get("service", ""), "scope": words.get("scope") or scope}
            headers = {"Authorization": self._basic} if self._basic else {}
            async with self.session().get(realm, params=query, headers=headers) as answer:
                if answer.status != 200:
                    return
                token, seconds = _read_token(await body(answer, _TOKEN_LIMIT))
            if not token:
                raise Offline(f"{self.url}: its token server answered with no token")
            self._tokens[scope] = (f"Bearer {token}", time.monotonic() + max(10, seconds - 10))

    async def close(self) -> None:
        """End all connections."""
        if self._session is not None:
            await self._session.close()


async def body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """Return a response's body. Raises Offline where it is longer than a limit (bytes), or breaks off."""
    data = bytearray()
    try:
        async for piece in response.content.iter_any():
            data += piece
            if len(data) > limit:
                raise Offline(f"{response.url} sent more than {limit} bytes")
    except (aiohttp.ClientError, TimeoutError) as error:
        raise Offline(f"{response.url}: {error}") from None
    return bytes(data)


def _read_token(data: bytes) -> tuple[str, float]:
    """Return a token, or "", and how many seconds it is good for."""
    try:
        found = json.loads(data)
        token, seconds = found.get("token") or found.get("access_token"), float(found.get("expires_in") or _TOKEN_LIFE)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return "", 0.0
    return (token, seconds) if isinstance(token, str) and token.isascii() and token.isprintable() else ("", 0.0)
