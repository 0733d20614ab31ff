"""HTTP with one registry: tried again where that helps, bounded in every way that a server could make it endless.

urllib3 does the protocol, this file the policy: what is tried again and when (RFC 9110 section 9.2.2, RFC 6585
section 4), which redirects are followed, what an error's body says.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from weakref import WeakSet

from minirt.image.errors import printable
from minirt.image.remote.errors import Denied, Lied, NotThere, RegistryError, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from urllib3 import BaseHTTPResponse, PoolManager

__all__ = ["Http", "check", "document", "finish", "joined", "length_of", "list_in", "problem", "rewind"]

DOCUMENT_LIMIT = 4 << 20  # bytes; distribution-spec: "Registries SHOULD enforce some limit", 4 MiB at least
ERROR_LIMIT = 64 << 10
DRAIN_LIMIT = 256 << 10  # bytes of a body that nobody wants: for more than these a new connection is cheaper
REDIRECTS = 5
TRIES = 6
PATIENCE = 60.0  # seconds, at most, between two tries: who says Retry-After: 86400 is not waited for
BUSY = frozenset((408, 429, 500, 502, 503, 504))
MOVED = frozenset((301, 302, 303, 307, 308))


class Http:
    """Connections to one host, and to where it redirects.

    Args: host, HOST[:PORT]; verify, whether only TLS with a certificate that is trusted will do: else any
    certificate, and plain HTTP where TLS is not spoken; certificates, options for urllib3 (ca_certs, cert_file,
    key_file); sleep, for tests.
    """

    def __init__(
        self,
        host: str,
        *,
        verify: bool = True,
        certificates: dict[str, str] | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.host = host
        self.verify = verify
        self._sleep = sleep
        self._base = ""  # with its scheme, once known
        self._pool = _pool(host, verify, certificates or {})
        self._lock = threading.Lock()
        self._live: WeakSet[BaseHTTPResponse] = WeakSet()
        self._aborted = False

    def abort(self) -> None:
        """End what other threads are reading, or are about to: else each might wait a minute for a registry that says nothing."""
        with self._lock:
            self._aborted = True
            live = list(self._live)
        for response in live:
            _shut(response)

    @property
    def base(self) -> str:
        """https://HOST, or http:// where that was allowed and is what the host speaks. Raises Unreachable."""
        if not self._base:
            self._base = f"https://{self.host}"
            if not self.verify:
                self._base = self._spoken()
        return self._base

    def _spoken(self) -> str:
        """Try TLS first, as podman does with --tls-verify=false."""
        import urllib3

        for scheme in ("https", "http"):
            try:
                finish(self._pool.request("GET", f"{scheme}://{self.host}/v2/", preload_content=False, redirect=False))
                return f"{scheme}://{self.host}"
            except urllib3.exceptions.HTTPError as error:
                last = error
        raise Unreachable(f"cannot reach the registry {self.host}: {_reason(last)}")

    def request(
        self,
        method: str,
        url: str,
        headers: dict[str, str] | None = None,
        *,
        body: Any = None,
        fresh: Callable[[], dict[str, str]] | None = None,
        again: bool = True,
    ) -> BaseHTTPResponse:
        """Send a request and return the response, whose body is still to be read.

        Args: url, absolute or a path of this host; headers; body, bytes or a file; fresh, more headers, asked for at
        each try; again, whether it may be tried again.
        Returns the response, of any status but those that say "busy" or "elsewhere". Raises Unreachable, Lied.
        """
        url = url if "://" in url else self.base + url
        self._must_be_safe(url, "says to go on at")
        for attempt in range(TRIES):
            last = attempt == TRIES - 1 or not again
            try:
                response = self._follow(method, url, {**(headers or {}), **(fresh() if fresh else {})}, body)
            except _errors() as error:
                if last or _is_hopeless(error):
                    raise Unreachable(f"cannot reach the registry {self.host}: {_reason(error)}") from None
                self.pause(attempt)
                continue
            if response.status not in BUSY:
                with self._lock:
                    self._live.add(response)
                    aborted = self._aborted
                if aborted:
                    _shut(response)
                return response
            wait = _retry_after(response)
            text = problem(response)
            if last or wait > PATIENCE:
                hint = f"; it says to come back in {wait:.0f} s" if wait > PATIENCE else f", {attempt + 1} times"
                raise Unreachable(f"the registry {self.host} answers {text}{hint}")
            self.pause(attempt, wait)
        raise AssertionError

    def pause(self, attempt: int, at_least: float = 0.0) -> None:
        """Wait before another try: twice as long each time, and never as long as somebody else does."""
        import random

        self._sleep(max(at_least, 0.2 * 2**attempt * (0.75 + random.random() / 2)))

    def is_home(self, url: str) -> bool:
        """Return whether a URL, absolute or a path, is this host's, by the scheme that it is spoken to with."""
        return "://" not in url or _origin(url) == _origin(self.base)

    def _must_be_safe(self, url: str, how: str) -> None:
        """Raise Lied where a registry leads to something that is not HTTP, or not protected as it is itself."""
        scheme = url.partition("://")[0]
        if scheme not in ("http", "https") or (self.verify and scheme != "https"):
            hint = "which is not https (--tls-verify=false allows it)"
            raise Lied(f"the registry {self.host} {how} {url[:200]!r}, {hint}")

    def _follow(self, method: str, url: str, headers: dict[str, str], body: Any) -> BaseHTTPResponse:
        """Send, and follow redirects. Credentials stay with the host that they are for; no other may ask for them."""
        headers = {"User-Agent": _agent(), "Accept-Encoding": "identity", **headers}
        for _ in range(REDIRECTS + 1):
            response = self._pool.request(
                method, url, headers=headers, body=body, preload_content=False, redirect=False, retries=False
            )
            target = response.headers.get("Location")
            if response.status not in MOVED or not target:
                if not self.is_home(url):
                    response.headers.pop("WWW-Authenticate", None)
                return response
            finish(response)
            there = joined(url, target)
            self._must_be_safe(there, "redirects to")
            if _origin(there) != _origin(url):
                headers = {name: value for name, value in headers.items() if name != "Authorization"}
            url = there
            rewind(body)
        raise Lied(f"the registry {self.host} redirects more than {REDIRECTS} times: {url[:200]!r}")


def _shut(response: BaseHTTPResponse) -> None:
    """Let whoever reads a response read its end."""
    try:
        response.shutdown()
    except (OSError, ValueError, RuntimeError):
        pass  # it has ended by itself


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Return what two URLs have alike that lead to one server (RFC 6454 section 4)."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)


def rewind(body: Any) -> None:
    """Let a body be sent once more, from where it began, if it is a file: bytes are as they were."""
    if hasattr(body, "seek"):
        body.seek(body.begin)


def _pool(host: str, verify: bool, certificates: dict[str, str]) -> PoolManager:
    try:
        import urllib3
    except ImportError:
        raise RegistryError("registries need the package urllib3: .venv/bin/pip install 'urllib3>=2'") from None
    if not verify:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    proxy = proxy_for(host)
    manager = partial(urllib3.ProxyManager, proxy) if proxy else urllib3.PoolManager
    return manager(
        num_pools=8,
        maxsize=16,
        retries=False,
        timeout=urllib3.Timeout(connect=15, read=60),
        blocksize=1 << 20,
        cert_reqs="CERT_REQUIRED" if verify else "CERT_NONE",
        **certificates,  # type: ignore[arg-type]
    )


def proxy_for(host: str) -> str:
    """Return the URL of the proxy that the environment names for a host (HTTPS_PROXY, NO_PROXY), or "": as curl and Go read it."""
    from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

    name = host.rpartition("]")[0].lstrip("[") or host.partition(":")[0]
    proxies = getproxies_environment()
    here = name == "localhost" or name.startswith("127.") or name == "::1"
    return "" if here or proxy_bypass_environment(host, proxies) else proxies.get("https", "")


def _agent() -> str:
    from minirt import __version__

    return f"minirt/{__version__}"


def _errors() -> tuple[type[Exception], ...]:
    import urllib3

    return (urllib3.exceptions.HTTPError, OSError)


def _is_hopeless(error: Exception) -> bool:
    """Return whether another try would end alike: the certificate is not trusted, the name is not known."""
    import socket

    import urllib3

    if isinstance(error, urllib3.exceptions.SSLError | urllib3.exceptions.LocationValueError):
        return True
    return isinstance(error, urllib3.exceptions.NameResolutionError) or isinstance(error.__context__, socket.gaierror)


def _reason(error: Exception) -> str:
    """Return what urllib3 says, without the objects in it."""
    text = str(error.__cause__ or error.__context__ or error)
    text = text.rpartition(">: ")[2] or text
    if "WRONG_VERSION_NUMBER" in text:  # what OpenSSL makes of an answer in HTTP
        text = "it does not speak TLS (minirt pull --tls-verify=false takes plain HTTP too, and so do push, login and build)"
    elif "CERTIFICATE_VERIFY_FAILED" in text:
        text += " (minirt pull --tls-verify=false takes any certificate)"
    return printable(text)[:300]


def joined(url: str, target: str) -> str:
    """Return where a link of a page leads. Raises Lied for what is no URL."""
    from urllib.parse import urljoin, urlsplit

    try:
        there = urljoin(url, target)
        _ = urlsplit(there).port
    except ValueError:
        raise Lied(f"a registry says to go on at {target[:200]!r}, which is no URL") from None
    return there


def length_of(text: str) -> int:
    """Return the number in a header, or -1 for what is none ("²" is a digit to Python)."""
    return int(text[:20]) if text.isascii() and text.isdigit() else -1


def _retry_after(response: BaseHTTPResponse) -> float:
    """Return the seconds that a response asks to wait: a number, or a date (RFC 9110 section 10.2.3)."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def finish(response: BaseHTTPResponse) -> None:
    """Read what is left of a response whose body nobody wants, and let its connection serve the next request.

    In this order, for HEAD too, which has no body: another thread may take the connection at once, and http.client lets it
    send nothing while the response before has not been read to its end. A body that has none is not read to it.
    """
    left = DRAIN_LIMIT
    try:
        while piece := response.read(64 << 10, decode_content=False):
            left -= len(piece)
            if left < 0:
                response.close()
                return
    except _errors():
        response.close()
    response.release_conn()


def document(response: BaseHTTPResponse, what: str, limit: int = DOCUMENT_LIMIT) -> bytes:
    """Read a body that has to be short.

    Args: what it is, for the error; limit, bytes. Raises Lied where it is longer, or not as long as announced; Unreachable.
    """
    parts, size = [], 0
    try:
        while piece := response.read(64 << 10):
            parts.append(piece)
            size += len(piece)
            if size > limit:
                response.close()
                raise Lied(f"{what} is longer than {limit >> 10} KiB: no registry may send that")
    except _errors() as error:
        raise Unreachable(f"{what} did not arrive: {_reason(error)}") from None
    response.release_conn()
    return b"".join(parts)


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object (RFC 8259) that a text is. Args: what it is, for the error. Raises Lied where it is none."""
    import json

    from minirt.image.shape import is_text

    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not is_text(found):
        raise Lied(f"{what} is not a JSON object")
    return found


def list_in(document: dict[str, Any], name: str) -> list[Any]:
    """Return the list that an object has under a name; what is none counts as empty."""
    found = document.get(name)
    return found if isinstance(found, list) else []


def problem(response: BaseHTTPResponse) -> str:
    """Return what an error response says: its status, and the message of its body (distribution-spec, "Error Codes")."""
    import json

    text = ""
    wrong: tuple[type[Exception], ...] = (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError)
    try:
        body = response.read(ERROR_LIMIT) or b""
        response.close()
        first = json.loads(body)["errors"][0]
        text = f"{first.get('code', '')}: {first.get('message', '')}".strip(": ")
    except wrong + _errors():
        pass
    return f"{response.status}" + (f" ({printable(text[:200])})" if text else f" {printable(response.reason or '')}".rstrip())


def check(response: BaseHTTPResponse, what: str, *good: int) -> BaseHTTPResponse:
    """Return a response that has one of these statuses. Raises Denied, NotThere, RegistryError."""
    if response.status in good:
        return response
    kind = {401: Denied, 403: Denied, 404: NotThere}.get(response.status, RegistryError)
    hint = "; `minirt login` gives it your name and password" if response.status == 401 else ""
    raise kind(f"{what}: the registry answers {problem(response)}{hint}")
