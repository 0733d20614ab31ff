"""Who may pull: Basic from docker-registry, Bearer from a token server, certificates, mirrors."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from command import Minirt
from liars import Content, Handler, Registry
from registries import DockerRegistry, available

from minirt.image.remote.errors import Lied
from minirt.image.remote.http import Http, finish

PLAIN = "--tls-verify=false"
# htpasswd -nbB ada secret (distribution takes bcrypt alone)
USERS = "ada:$2b$05$F1gl61IGVdoSP1Yx1bBxau/d09TfwiTXIeMd5j1QlbwFHUY/snqYS\n"


@pytest.fixture
def home(own_store: Minirt) -> Minirt:
    """A minirt of somebody without credentials."""
    for name in ("HOME", "DOCKER_CONFIG", "XDG_RUNTIME_DIR"):
        own_store.env[name] = str(own_store.root / "home")
    own_store.env.pop("REGISTRY_AUTH_FILE", None)
    return own_store


class TokenServer:
    """The lie of a registry that wants a token, and gives it out itself: to `ada`, or to who has the refresh token."""

    def __init__(self, lifetime: int = 300) -> None:
        self.given: list[dict[str, list[str]]] = []
        self.lifetime = lifetime
        self.valid: dict[str, float] = {}

    def __call__(self, handler: Handler) -> bool:
        if handler.path.startswith("/token"):
            self.give(handler)
            return True
        word = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.valid.get(word, 0) > time.monotonic():
            return False
        realm = f"http://{handler.server.host}/token"
        handler.answer(401, WWW_Authenticate=f'Bearer realm="{realm}",service="test",scope="repository:x:pull"')
        return True

    def give(self, handler: Handler) -> None:
        query = parse_qs(urlsplit(handler.path).query)
        if handler.command == "POST":
            query = parse_qs(handler.rfile.read(int(handler.headers["Content-Length"])).decode())
        good = query.get("refresh_token") == ["s3"] or handler.headers.get("Authorization") == "Basic YWRhOnNlY3JldA=="
        if not good:
            handler.answer(401, b'{"errors": [{"code": "UNAUTHORIZED", "message": "no"}]}')
            return
        self.given.append(query)
        token = f"token{len(self.given)}"
        self.valid[token] = time.monotonic() + self.lifetime
        handler.answer(200, json.dumps({"token": token, "expires_in": self.lifetime}).encode())


def test_a_token_is_fetched_once_for_all_layers(home: Minirt) -> None:
    server = TokenServer()
    with Registry(Content(), server) as registry:
        done = home("pull", PLAIN, "--creds=ada:secret", f"{registry.host}/team/app:1")
    assert done.returncode == 0, done.stderr
    assert [one["scope"] for one in server.given] == [["repository:team/app:pull"]]


def test_a_token_that_ends_is_renewed(home: Minirt) -> None:
    server = TokenServer()

    def forgetful(handler: Handler) -> bool:
        if "/blobs/" in handler.path and len(server.given) == 1:
            server.valid.clear()
        return server(handler)

    with Registry(Content(), forgetful) as registry:
        done = home("pull", PLAIN, "--creds=ada:secret", f"{registry.host}/team/app:1")
    assert done.returncode == 0 and len(server.given) >= 2, done.stderr


def test_a_refresh_token_is_posted(home: Minirt) -> None:
    server = TokenServer()
    with Registry(Content(), server) as registry:
        (home.root / "home").mkdir()
        config = {"auths": {registry.host: {"auth": "", "identitytoken": "s3"}}}
        (home.root / "home" / "config.json").write_text(json.dumps(config))
        done = home("pull", PLAIN, f"{registry.host}/team/app:1")
    assert done.returncode == 0 and server.given[0]["grant_type"] == ["refresh_token"], done.stderr


def test_wrong_credentials_are_told_in_a_line_and_leave_nothing(home: Minirt) -> None:
    with Registry(Content(), TokenServer()) as registry:
        done = home("pull", PLAIN, "--creds=ada:wrong", f"{registry.host}/team/app:1")
    assert done.returncode == 1 and done.stderr.count("\n") == 1 and "401 (UNAUTHORIZED: no)" in done.stderr


def test_login_tells_that_a_token_server_does_not_take_the_password(home: Minirt) -> None:
    with Registry(Content(), TokenServer()) as registry:
        registry.guarded = True
        done = home("login", PLAIN, "-u", "ada", "-p", "wrong", f"http://{registry.host}/")
        assert done.returncode == 1 and done.stderr == f"minirt: {registry.host} does not take this name and password\n"
        done = home("login", PLAIN, "-u", "ada", "-p", "secret", f"http://{registry.host}/")
        assert done.returncode == 0, done.stderr
    assert list(json.loads((home.root / "home" / "config.json").read_text())["auths"]) == [registry.host]


def sends_on(server: TokenServer, storage: Registry) -> Callable[[Handler], bool]:
    """Return what a registry with a token server does that keeps its blobs elsewhere."""

    def answer(handler: Handler) -> bool:
        if server(handler):
            return True
        if handler.blob:
            handler.answer(307, Location=f"http://{storage.host}{handler.path}")
        return handler.blob

    return answer


def test_a_password_is_not_shown_to_where_a_registry_redirects(home: Minirt) -> None:
    seen: list[str] = []

    def listen(handler: Handler) -> bool:
        seen.append(handler.headers.get("Authorization", ""))
        return False

    content = Content()
    with Registry(content, listen) as storage, Registry(content, sends_on(TokenServer(), storage)) as registry:
        done = home("pull", PLAIN, "--creds=ada:secret", f"{registry.host}/team/app:1")
    assert done.returncode == 0 and seen == [""], done.stderr


def test_a_server_that_a_registry_redirects_to_cannot_ask_for_the_password(home: Minirt) -> None:
    seen: list[str] = []

    def phish(handler: Handler) -> bool:
        seen.append(handler.headers.get("Authorization", ""))
        handler.answer(401, WWW_Authenticate=f'Bearer realm="http://{handler.server.host}/token",service="test"')
        return True

    content = Content()
    with Registry(content, phish) as storage, Registry(content, sends_on(TokenServer(), storage)) as registry:
        done = home("pull", PLAIN, "--creds=ada:secret", f"{registry.host}/team/app:1")
    assert done.returncode == 1 and set(seen) == {""} and "401" in done.stderr, (seen, done.stderr)


def test_where_an_upload_goes_on_elsewhere_no_token_is_shown() -> None:
    """A Location may be another server's, with the right to write there in its query, as object stores give it out."""
    from minirt.image.remote.credentials import Credentials
    from minirt.image.remote.registries import Place
    from minirt.image.remote.registry import connect

    seen: list[str] = []

    def store(handler: Handler) -> bool:
        seen.append(handler.headers.get("Authorization", ""))
        handler.answer(202, Location=f"http://{handler.server.host}/next")
        return True

    server = TokenServer()
    with Registry(Content(), store) as storage, Registry(Content(), server) as registry:
        repository = connect(Place(registry.host, "app", True), credentials=Credentials("ada", "secret"))
        assert repository.manifest("1") and server.given, "it has a token now"
        finish(repository.send("GET", f"http://{storage.host}/session?signed=yes", "pull"))
    assert seen == [""]


def test_a_registry_that_is_verified_is_not_gone_on_with_in_the_clear() -> None:
    with Registry(Content()) as registry:
        client = Http(registry.host)
        client._base = f"https://{registry.host}"
        with pytest.raises(Lied, match="which is not https"):
            client.request("PATCH", f"http://{registry.host}/v2/app/blobs/uploads/1")
    assert registry.asked == []


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    """A docker-registry that speaks TLS and knows ada."""
    if not available():
        pytest.skip("docker-registry is not installed")
    place = tmp_path_factory.mktemp("guarded")
    (place / "users").write_text(USERS)
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", place / "key", "-out", place / "crt"],
                   check=True, capture_output=True)  # fmt: skip
    with DockerRegistry(place / "registry", place / "users", place / "crt", place / "key") as registry:
        yield registry


def test_login_push_pull_logout(home: Minirt, guarded: DockerRegistry) -> None:
    home.env["SSL_CERT_FILE"] = str(guarded.root.parent / "crt")
    name = f"{guarded.host}/team/box:1"
    assert home("push", "busybox", name).returncode == 1
    wrong = home("login", "-u", "ada", "--password-stdin", guarded.host, input="wrong\n")
    assert wrong.returncode == 1 and "does not take" in wrong.stderr
    assert home("login", "-u", "ada", "--password-stdin", guarded.host, input="secret\n").returncode == 0
    pushed = home("push", "busybox", name)
    assert pushed.returncode == 0, pushed.stderr
    assert home("pull", name).returncode == 0
    assert home("logout", guarded.host).returncode == 0
    denied = home("pull", name)
    assert denied.returncode == 1 and "minirt login" in denied.stderr


def test_a_certificate_that_nobody_vouches_for_is_refused(home: Minirt, guarded: DockerRegistry) -> None:
    done = home("pull", f"{guarded.host}/team/box:1")
    assert done.returncode == 1 and "CERTIFICATE_VERIFY_FAILED" in done.stderr and done.stderr.count("\n") == 1


def test_a_mirror_is_asked_first_and_the_home_if_it_has_nothing(home: Minirt) -> None:
    with Registry(Content()) as origin, Registry(Content(), lambda handler: bool(handler.answer(404)) or True) as mirror:
        conf = home.root / "registries.conf"
        conf.write_text(f'[[registry]]\nprefix = "far.example"\nlocation = "{origin.host}/far"\ninsecure = true\n'
                        f'[[registry.mirror]]\nlocation = "{mirror.host}"\ninsecure = true\n')  # fmt: skip
        home.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
        done = home("pull", "far.example/app:1")
        assert done.returncode == 0, done.stderr
        assert "GET /v2/app/manifests/1" in mirror.asked and "GET /v2/far/app/manifests/1" in origin.asked
    assert "far.example/app" in home("images").stdout


def test_a_short_name_is_found_where_registries_conf_says(home: Minirt) -> None:
    with Registry(Content()) as registry:
        conf = home.root / "registries.conf"
        conf.write_text(f'unqualified-search-registries = ["{registry.host}"]\n'
                        f'[[registry]]\nlocation = "{registry.host}"\ninsecure = true\n')  # fmt: skip
        home.env["CONTAINERS_REGISTRIES_CONF"] = str(conf)
        assert home("pull", "app").returncode == 0
        assert f"{registry.host}/app" in home("images").stdout
    assert home("image", "inspect", "app").returncode == 0, "the short name finds what it was pulled as"


