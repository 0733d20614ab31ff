"""Who may do what in a registry: passwords, tokens, rules, TLS."""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from command import Minirt
from registry_server import MANIFEST, Client, Server, image

RULES = """\
[[rule]]
users = ["*"]
may = ["pull"]
repositories = ["public/*"]

[[rule]]
users = ["@users"]
may = ["pull", "push"]
repositories = ["public/*", "team/*"]

[[rule]]
users = ["alice"]
may = ["delete"]
repositories = ["team/*"]
"""


def passwd(path: Path, user: str, password: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-m", "minirt", "registry", "passwd", str(path), user]
    return subprocess.run(words, input=password + "\n", capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("users") / "htpasswd"
    assert passwd(path, "alice", "wonder land").returncode == 0
    assert passwd(path, "bob", "builder:ü").returncode == 0
    return path


@pytest.fixture(scope="module", params=["token", "basic"])
def server(request: Any, tmp_path_factory: pytest.TempPathFactory, users: Path) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("access")
    (place / "rules.toml").write_text(RULES)
    server = Server(place / "r", "-q", "--htpasswd", users, "--rules", place / "rules.toml", "--auth", request.param)
    yield server
    server.stop()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def as_user(server: Server, user: str) -> Client:
    passwords = {"alice": "wonder land", "bob": "builder:ü"}
    return Client(server.url, basic(user, passwords[user]) if user else {})


def token(server: Server, user: str, *scopes: str, **query: str) -> str:
    answer = as_user(server, user)("GET", "/token?" + urlencode([("scope", scope) for scope in scopes] + list(query.items())))
    assert answer.status == 200, answer.body
    return str(answer.json()["token"])


def bearer(server: Server, text: str) -> Client:
    return Client(server.url, {"Authorization": f"Bearer {text}"})


def test_who_shows_nothing_is_asked_for_something(server: Server) -> None:
    answer = server.client("GET", "/v2/team/app/tags/list")
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    challenge = answer.headers["www-authenticate"]
    if "token" in server.options:
        assert challenge == f'Bearer realm="{server.url}/token",service="minirt-registry",scope="repository:team/app:pull"'
        behind = server.client("GET", "/v2/", X_Forwarded_Proto="https", Host="registry.example")
        assert 'realm="https://registry.example/token"' in behind.headers["www-authenticate"]
        assert server.client("GET", "/v2/").status == 401  # so that a client learns where tokens are had
    else:
        assert challenge == 'Basic realm="registry"'


@pytest.mark.parametrize("user,password", [
    ("alice", "wrong"), ("nobody", "wonder land"), ("alice", ""), ("", ""), ("alice", "x" * 5000),
])  # fmt: skip
def test_a_wrong_password_is_refused_even_where_none_is_needed(server: Server, user: str, password: str) -> None:
    as_user(server, "alice").push_image("public/app", "v1")
    answer = Client(server.url, basic(user, password))("GET", "/v2/public/app/manifests/v1")
    assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
    assert server.client("GET", "/v2/public/app/manifests/v1").status == 200


@pytest.mark.parametrize("authorization", ["Basic !", "Basic", "Bearer", "Bearer x.y.z", "Digest a=b", "Basic /w=="])
def test_a_header_that_says_nothing_gives_nothing(server: Server, authorization: str) -> None:
    answer = Client(server.url, {"Authorization": authorization})("GET", "/v2/team/app/tags/list")
    assert answer.status == 401


def test_rules_say_who_may_do_what(server: Server) -> None:
    alice, bob, nobody = as_user(server, "alice"), as_user(server, "bob"), server.client
    digest = bob.push_image("team/app", "v1", b"layer")
    assert bob("DELETE", f"/v2/team/app/manifests/{digest}").status == 403
    assert nobody("POST", "/v2/public/app/blobs/uploads/").status == 401
    assert bob("POST", "/v2/private/app/blobs/uploads/").codes == ["DENIED"]
    assert nobody("GET", "/v2/team/app/manifests/v1").status == 401
    assert alice("DELETE", f"/v2/team/app/manifests/{digest}").status == 202


def test_a_blob_is_not_mounted_from_where_one_may_not_read(server: Server) -> None:
    digest = as_user(server, "alice").push_blob("team/secret", b"secret layer")
    mount = f"/v2/public/app/blobs/uploads/?mount={digest}&from=team/secret"
    assert as_user(server, "bob")("POST", mount).status == 201
    if "token" in server.options:  # of a user who may read it, but not with this token
        assert bearer(server, token(server, "bob", "repository:public/app:pull,push"))("POST", mount).status == 202
        both = token(server, "bob", "repository:public/app:pull,push", "repository:team/secret:pull")
        assert bearer(server, both)("POST", mount).status == 201
    hidden = f"/v2/public/app/blobs/uploads/?mount={digest}&from=private/app"
    assert as_user(server, "bob")("POST", hidden).status == 202


def test_lists_show_what_one_may_read(server: Server) -> None:
    alice = as_user(server, "alice")
    alice.push_image("team/hidden", "v1")
    alice.push_image("public/shown", "v1")
    mine, all = (set(client("GET", "/v2/_catalog").json()["repositories"]) for client in (server.client, alice))
    assert "public/shown" in mine and not [name for name in mine if name.startswith("team/")] and "team/hidden" in all
    assert server.client("GET", "/v1/search?q=hidden").json()["results"] == []
    assert [item["name"] for item in alice("GET", "/v1/search?q=hidden").json()["results"]] == ["team/hidden"]
    assert b"team/hidden" not in server.client("GET", "/").body and b"team/hidden" in alice("GET", "/").body
    page = server.client("GET", "/repository/team/hidden")
    assert page.status == 401 and page.headers["www-authenticate"].startswith("Basic")


def test_search_shows_who_has_logged_in_what_he_may_read(server: Server, own_store: Minirt) -> None:
    own_store.env |= {"HOME": str(own_store.root), "DOCKER_CONFIG": str(own_store.root / "docker")}
    for name in ("team/found", "public/found"):
        as_user(server, "alice").push_image(name, "v1")

    def seen() -> set[str]:
        return {json.loads(line)["Name"] for line in own_store.good("search", "--tls-verify=false", "--format=json",
                                                                      f"{server.host}/found").splitlines()}  # fmt: skip

    assert seen() == {"public/found"}
    own_store.good("login", "--tls-verify=false", "-u", "alice", "-p", "wonder land", server.host)
    assert seen() == {"public/found", "team/found"}


def test_a_token_is_for_what_was_asked_and_allowed(server: Server) -> None:
    if "token" not in server.options:
        assert server.client("GET", "/token").status == 404
        return
    as_user(server, "alice").push_image("team/app", "v1")
    client = bearer(server, token(server, "bob", "repository:team/app:pull"))
    assert client("GET", "/v2/").status == 200
    assert client("GET", "/v2/team/app/manifests/v1").status == 200
    refused = client("POST", "/v2/team/app/blobs/uploads/")
    assert refused.status == 401
    assert 'scope="repository:team/app:pull,push",error="insufficient_scope"' in refused.headers["www-authenticate"]
    greedy = bearer(server, token(server, "bob", "repository:team/app:*", "repository:private/x:push"))
    assert greedy("POST", "/v2/team/app/blobs/uploads/").status == 202
    assert greedy("DELETE", "/v2/team/app/manifests/v1").status == 403
    assert greedy("POST", "/v2/private/x/blobs/uploads/").status == 403
    nobody = bearer(server, token(server, "", "repository:public/app:pull,push"))
    assert nobody("GET", "/v2/public/app/tags/list").status in (200, 404)
    assert nobody("POST", "/v2/public/app/blobs/uploads/").status == 401


def test_a_token_by_post_as_oauth2_has_it(server: Server) -> None:
    if "token" not in server.options:
        return
    form = {"grant_type": "password", "username": "bob", "password": "builder:ü", "scope": "repository:team/app:pull,push"}
    kind = {"Content_Type": "application/x-www-form-urlencoded"}
    answer = server.client("POST", "/token", urlencode(form).encode(), **kind)
    assert bearer(server, answer.json()["access_token"])("POST", "/v2/team/app/blobs/uploads/").status == 202
    assert server.client("POST", "/token", urlencode({**form, "password": "x"}).encode(), **kind).status == 401
    assert server.client("POST", "/token", urlencode({**form, "grant_type": "x"}).encode(), **kind).status == 400


def test_a_token_that_was_changed_or_is_old_is_none(server: Server) -> None:
    if "token" not in server.options:
        return
    import jwt

    good = token(server, "bob", "repository:team/app:pull")
    head, body, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["access"][0]["actions"] = ["pull", "push"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    key = (server.root / "token.key").read_bytes()
    old = jwt.encode({**claims, "exp": int(time.time()) - 60}, key, algorithm="HS256")
    for text in (f"{head}.{forged}.{signature}", f"{none}.{forged}.", old, jwt.encode(claims, b"another" * 8, algorithm="HS256")):
        assert bearer(server, text)("POST", "/v2/team/app/blobs/uploads/").status == 401
    assert (server.root / "token.key").stat().st_mode & 0o777 == 0o600


def test_tokens_outlive_the_server(server: Server) -> None:
    if "token" not in server.options:
        return
    client = bearer(server, token(server, "bob", "repository:team/app:push"))
    server.restart()
    assert client("POST", "/v2/team/app/blobs/uploads/").status == 202


def test_files_that_change_are_read_again(tmp_path: Path) -> None:
    users, rules = tmp_path / "users", tmp_path / "rules"
    passwd(users, "alice", "one")
    rules.write_text('[[rule]]\nusers = ["@users"]\nmay = ["pull"]\nrepositories = ["*"]\n')
    server = Server(tmp_path / "r", "-q", "--htpasswd", users, "--rules", rules, "--auth", "basic", "--workers", 1)
    try:
        client = Client(server.url, basic("alice", "one"))
        assert client("GET", "/v2/").status == 200 and client("POST", "/v2/a/blobs/uploads/").status == 403
        rules.write_text('[[rule]]\nusers = ["alice"]\nmay = ["push"]\nrepositories = ["a"]\n')
        assert client("POST", "/v2/a/blobs/uploads/").status == 202
        rules.write_text("nonsense")  # while it serves, the last that could be read holds
        assert client("POST", "/v2/a/blobs/uploads/").status == 202
        server.log.seek(0)
        assert "the rules stay as they were" in server.log.read()
        before = users.read_text()
        users.write_text(before + "bob:plain text\n")  # nor does a slip in this file lock anybody out
        assert client("GET", "/v2/").status == 200
        server.log.seek(0)
        assert "line 2: not USER:HASH" in (text := server.log.read()) and "the users stay as they were" in text
        users.write_text(before)
        passwd(users, "alice", "two")
        assert client("GET", "/v2/").status == 401
        assert Client(server.url, basic("alice", "two"))("GET", "/v2/").status == 200
    finally:
        server.stop()


def test_servers_that_begin_at_once_have_one_secret(tmp_path: Path) -> None:
    """Nor does one that was killed while it made it keep the next from beginning."""
    from concurrent.futures import ThreadPoolExecutor

    from minirt.registry.tokens import Tokens

    for number in range(20):
        root = tmp_path / str(number)
        root.mkdir()
        with ThreadPoolExecutor(4) as pool:
            made = list(pool.map(lambda _, root=root: Tokens(str(root)), range(4)))  # type: ignore[misc]
        token = made[0].make("ada", [])
        assert all(one.read(token) == ("ada", []) for one in made)
        assert [path.name for path in root.iterdir()] == ["token.key"]


def test_passwords_by_apache_s_htpasswd(tmp_path: Path) -> None:
    made = subprocess.run(["htpasswd", "-nbB", "carol", "secret"], capture_output=True, text=True, check=True, timeout=60)
    (tmp_path / "users").write_text("# a comment\n\n" + made.stdout)
    server = Server(tmp_path / "r", "-q", "--htpasswd", tmp_path / "users")
    try:
        assert Client(server.url, basic("carol", "secret")).push_image("any/where", "v1")
        assert server.client("GET", "/v2/any/where/tags/list").status == 401
    finally:
        server.stop()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("tls")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
                    "subjectAltName=IP:127.0.0.1", "-keyout", place / "key", "-out", place / "cert"],
                   check=True, capture_output=True, timeout=60)  # fmt: skip
    return place / "cert", place / "key"


def test_tls(tmp_path: Path, certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    server = Server(tmp_path / "r", "-q", "--cert", cert, "--key", key)
    try:
        assert server.url.startswith("https://")
        client = Client(server.url, tls=ssl.create_default_context(cafile=str(cert)))
        data = bytes(range(256)) * 5000
        digest = client.push_blob("a", data)
        assert client("GET", f"/v2/a/blobs/{digest}").body == data
        assert client("GET", f"/v2/a/blobs/{digest}", Range="bytes=1000000-").body == data[1000000:]
        with pytest.raises(ssl.SSLError):
            Client(server.url, tls=ssl.create_default_context())("GET", "/v2/")
    finally:
        server.stop()


def test_a_read_only_registry_refuses_what_writes(tmp_path: Path) -> None:
    server = Server(tmp_path / "r", "-q")
    digest = server.client.push_image("a", "v1", b"layer")
    server.stop()
    server = Server(tmp_path / "r", "-q", "--read-only")
    try:
        data = json.dumps({"schemaVersion": 2}).encode()
        for method, path in (("POST", "blobs/uploads/"), ("DELETE", f"manifests/{digest}"), ("DELETE", f"blobs/{digest}"),
                             ("PUT", "manifests/v1")):  # fmt: skip
            answer = server.client(method, f"/v2/a/{path}", data if method == "PUT" else None, Content_Type=MANIFEST)
            assert (answer.status, answer.codes) == (405, ["UNSUPPORTED"]), (method, path)
        assert server.client("GET", "/v2/a/manifests/v1").status == 200
    finally:
        server.stop()


@pytest.mark.parametrize("options,words", [
    (["--listen", "nowhere"], "not HOST:PORT"), (["--listen", "192.0.2.1:5000"], "cannot listen on 192.0.2.1:5000"),
    (["--htpasswd", "/none"], "cannot read /none"), (["--rules", "{rules}"], "rule 1: a rule has users, may and repositories"),
    (["--htpasswd", "{md5}"], "line 1: not USER:HASH with a bcrypt hash"), (["--cert", "/none"], "HTTPS needs --cert and --key"),
    (["--cert", "/none", "--key", "/none"], "cannot use the certificate /none"), (["--proxy", "x"], "not a URL"),
    (["--workers", "-1"], "a number of processes"),
    (["--root", "{store}"], "is the image store of `minirt run`"), (["--root", "/proc/x"], "cannot make a registry in /proc/x"),
])  # fmt: skip
def test_what_cannot_be_served_is_told_in_a_line(tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "store" / "holds").mkdir(parents=True)
    (tmp_path / "rules").write_text("[[rule]]\nusers = []\n")
    (tmp_path / "md5").write_text("a:$apr1$x\n")
    names = {name: tmp_path / name for name in ("store", "rules", "md5")}
    command = [sys.executable, "-m", "minirt", "registry", "serve", "--root", str(tmp_path / "r"), "--listen", "127.0.0.1:0"]
    done = subprocess.run([*command, *(option.format(**names) for option in options)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and words in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize("text,words", [
    ("x = 1", "only [[rule]] tables are known"), ("[[rule", "rules:"), ("rule = 3", "only [[rule]]"),
    ('[[rule]]\nusers="a"\nmay=[]\nrepositories=[]', "users is a list of words"),
    ('[[rule]]\nusers=["a"]\nmay=["fly"]\nrepositories=[]', "may is of pull, push, delete, not 'fly'"),
])  # fmt: skip
def test_rules_that_say_nothing_are_told(tmp_path: Path, text: str, words: str) -> None:
    from minirt.registry.errors import ServeError
    from minirt.registry.rules import Rules

    (tmp_path / "rules").write_text(text)
    with pytest.raises(ServeError, match=words.replace("[", r"\[")):
        Rules(str(tmp_path / "rules"))


def test_a_password_is_set_again_and_wrong_ones_are_told(tmp_path: Path) -> None:
    path = tmp_path / "users"
    assert passwd(path, "a", "1").returncode == passwd(path, "b", "2").returncode == passwd(path, "a", "3").returncode == 0
    assert [line.partition(":")[0] for line in path.read_text().splitlines()] == ["b", "a"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert "1 to 72 bytes" in passwd(path, "a", "x" * 73).stderr and "user's name" in passwd(path, "a:b", "x").stderr


def test_a_manifest_of_an_unknown_user_s_image_is_not_read(server: Server) -> None:
    """HEAD too: whether something exists is told only to who may read it."""
    as_user(server, "alice").push_manifest("team/x", "v1", image(as_user(server, "alice"), "team/x"))
    for reference in ("v1", "v2"):
        assert server.client("HEAD", f"/v2/team/x/manifests/{reference}").status == 401
