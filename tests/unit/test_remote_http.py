"""HTTP's policy: proxies, what is missing, how long is waited."""

from __future__ import annotations

import contextlib
import sys
import threading
from email.utils import formatdate
from types import SimpleNamespace

import pytest
import urllib3
from liars import Content, Handler, Registry

from minirt.image.remote import http
from minirt.image.remote.errors import Lied, RegistryError
from minirt.image.signing import keys
from minirt.image.signing.errors import SigningError


@pytest.mark.parametrize(("host", "proxied"), [
    ("registry.example", True), ("registry.example:5000", True), ("inner.example", False), ("a.inner.example:443", False),
    ("localhost:5000", False), ("127.0.0.1:5000", False), ("[::1]:5000", False),
])  # fmt: skip
def test_a_proxy_is_for_those_that_the_environment_does_not_except(
    monkeypatch: pytest.MonkeyPatch, host: str, proxied: bool
) -> None:
    for name in ("HTTPS_PROXY", "NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert http.proxy_for(host) == ""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inner.example")
    assert http.proxy_for(host) == ("http://proxy.example:3128" if proxied else "")


@pytest.mark.parametrize(("text", "low", "high"), [
    ("7", 7, 7), ("", 0, 0), ("soon", 0, 0), ("-1", 0, 0), (formatdate(0, usegmt=True), 0, 0), ("9" * 40, 1e8, 1e9),
])  # fmt: skip
def test_retry_after_is_a_number_or_a_date(text: str, low: float, high: float) -> None:
    response = SimpleNamespace(headers={"Retry-After": text})
    assert low <= http._retry_after(response) <= high  # type: ignore[arg-type]


def test_pauses_grow_and_differ() -> None:
    slept: list[float] = []
    client = http.Http("registry.example", sleep=slept.append)
    for attempt in range(5):
        client.pause(attempt)
    client.pause(0, 30.0)
    assert all(0.15 * 2**number <= pause <= 0.25 * 2**number for number, pause in enumerate(slept[:5])) and slept[5] == 30.0


def test_what_is_not_installed_is_told_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "urllib3", None)
    with pytest.raises(RegistryError, match="pip install 'urllib3"):
        http.Http("registry.example")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric", None)
    with pytest.raises(SigningError, match="pip install 'cryptography"):
        keys.load_public(b"", "x")


@pytest.mark.parametrize("target", ["http://[", "http://a:99999999/", "http://[::1/x", "//[x"])
def test_what_is_no_url_is_a_lie(target: str) -> None:
    with pytest.raises(Lied, match="no URL"):
        http.joined("https://registry.example/v2/", target)


@pytest.mark.parametrize(("text", "number"), [("12", 12), ("", -1), ("²", -1), ("-3", -1), ("1e3", -1)])
def test_a_length_is_digits_alone(text: str, number: int) -> None:
    assert http.length_of(text) == number


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_answer_that_hangs_ends_when_all_is_to_end(when: str) -> None:
    over = threading.Event()

    def hang(handler: Handler) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        return over.wait(30)

    with Registry(Content(), hang) as registry:
        one = http.Http(registry.host, verify=False)
        if when == "before":
            one.abort()
        response = one.request("GET", "/v2/x/blobs/y")
        if when == "after":
            one.abort()
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            assert response.read() == b""
        assert not over.is_set(), "the registry has not said more"
        over.set()
