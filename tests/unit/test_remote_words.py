"""What registries and their files say, parsed: challenges, links, platforms, registries.conf, credentials."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.image.errors import ImageError
from minirt.image.index import MEDIA_INDEX, MEDIA_MANIFEST
from minirt.image.reference import Reference
from minirt.image.remote import credentials as keyring
from minirt.image.remote.auth import parse_challenges
from minirt.image.remote.errors import RegistryError
from minirt.image.remote.login import host_of
from minirt.image.remote.platform import DEPTH, INDEXES_LIMIT, Platform, choose
from minirt.image.remote.registries import Registries
from minirt.image.remote.repository import next_link

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).filter(lambda text: text[0].isalpha())
VALUE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)


# -- challenges (RFC 9110 section 11.6.1)


@given(st.lists(st.tuples(TOKEN, st.dictionaries(TOKEN, VALUE, max_size=4)), max_size=3))
def test_challenges_are_read_as_they_were_written(challenges: list[tuple[str, dict[str, str]]]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    texts = [f"{scheme} {', '.join(f'{name}={quoted(value)}' for name, value in said.items())}" for scheme, said in challenges]
    assert parse_challenges(", ".join(texts)) == challenges


@given(st.text(max_size=60))
def test_no_header_is_too_strange_to_be_read(text: str) -> None:
    assert all(scheme == scheme.lower() for scheme, _ in parse_challenges(text))


def test_a_bearer_challenge_after_a_basic_one_is_found() -> None:
    text = 'Basic realm="a, b", Bearer realm="https://auth/token",service=reg,scope="repository:a/b:pull,push"'
    assert parse_challenges(text) == [
        ("basic", {"realm": "a, b"}),
        ("bearer", {"realm": "https://auth/token", "service": "reg", "scope": "repository:a/b:pull,push"}),
    ]


@pytest.mark.parametrize(("header", "target"), [
    ('</v2/_catalog?last=b&n=2>; rel="next"', "/v2/_catalog?last=b&n=2"), ("</x>; rel=next", "/x"), ('</x>; rel="prev"', ""),
    ('</a>; rel="prev", </b>; rel="next"', "/b"), ("", ""), ("nonsense", ""),
])  # fmt: skip
def test_the_next_page_is_in_a_link(header: str, target: str) -> None:
    assert next_link(header) == target


# -- platforms


@pytest.mark.parametrize(("text", "parts"), [
    ("linux/arm64/v8", ("linux", "arm64", "")), ("aarch64", ("linux", "arm64", "")), ("linux/arm/v7", ("linux", "arm", "v7")),
    ("linux/x86_64", ("linux", "amd64", "")), ("windows/amd64", ("windows", "amd64", "")),
])  # fmt: skip
def test_a_platform_has_names(text: str, parts: tuple[str, str, str]) -> None:
    platform = Platform.parse(text)
    assert (platform.os, platform.architecture, platform.variant) == parts


INDEX = {"manifests": [
    {"digest": "1", "platform": {"os": "linux", "architecture": "amd64"}},
    {"digest": "2", "platform": {"os": "linux", "architecture": "arm", "variant": "v6"}},
    {"digest": "3", "platform": {"os": "linux", "architecture": "arm", "variant": "v5"}},
    {"digest": "4", "platform": {"os": "linux", "architecture": "arm64", "variant": "v8"}},
    {"digest": "5", "platform": {"os": "windows", "architecture": "amd64"}},
    {"digest": "6", "platform": {"os": "unknown", "architecture": "unknown"}},
]}  # fmt: skip


@pytest.mark.parametrize(("wanted", "digest"), [
    ("linux/amd64", "1"), ("linux/arm/v7", "2"), ("linux/arm", "2"), ("linux/arm/v5", "3"), ("arm64", "4"), ("windows/amd64", "5"),
])  # fmt: skip
def test_the_manifest_that_fits_best_is_chosen(wanted: str, digest: str) -> None:
    assert choose(INDEX, Platform.parse(wanted), "x", {}.__getitem__)["digest"] == digest


def test_what_is_not_there_is_told_with_what_is() -> None:
    with pytest.raises(ImageError, match=r"not there for linux/riscv64: linux/amd64, .*windows/amd64 \("):
        choose(INDEX, Platform.parse("linux/riscv64"), "x", {}.__getitem__)


def entry(digest: str, platform: str = "", media: str = MEDIA_INDEX) -> dict[str, Any]:
    parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False)) if platform else {}
    return {"mediaType": media, "digest": digest, **({"platform": parts} if platform else {})}


class Nested:
    """Indexes by their digests, and which of them were asked for."""

    def __init__(self, **indexes: list[dict[str, Any]]) -> None:
        self.indexes = indexes
        self.asked: list[str] = []

    def inner(self, descriptor: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(descriptor["digest"])
        return {"manifests": self.indexes[descriptor["digest"]]}

    def choose(self, wanted: str) -> str:
        return str(choose({"manifests": self.indexes["top"]}, Platform.parse(wanted), "x", self.inner)["digest"])


ARM, AMD = entry("arm", "linux/arm64", MEDIA_MANIFEST), entry("amd", "linux/amd64", MEDIA_MANIFEST)


def test_only_the_index_of_the_platform_is_looked_into() -> None:
    nested = Nested(top=[entry("a", "linux/arm64"), entry("b", "linux/amd64")], a=[ARM], b=[AMD])
    assert nested.choose("linux/amd64") == "amd" and nested.asked == ["b"]


def test_an_index_that_leads_nowhere_is_left_for_the_next() -> None:
    top = [entry("empty", "linux/amd64"), entry("who-knows"), entry("full", "linux/amd64")]
    nested = Nested(top=top, empty=[ARM], full=[AMD])
    assert nested.choose("linux/amd64") == "amd" and nested.asked == ["empty", "full"]
    nested = Nested(top=[entry("a"), entry("b"), entry("a")], a=[ARM], b=[entry("c")], c=[AMD])
    assert nested.choose("linux/amd64") == "amd" and nested.asked == ["a", "b", "c"]
    with pytest.raises(ImageError, match="linux/s390x: linux/amd64, linux/arm64"):
        nested.choose("linux/s390x")


def test_what_stands_in_the_outer_index_counts_first() -> None:
    assert Nested(top=[entry("a"), AMD], a=[entry("other", "linux/amd64", MEDIA_MANIFEST)]).choose("linux/amd64") == "amd"


def test_indexes_without_end_are_an_error() -> None:
    deep = Nested(top=[entry("1")], **{str(n): [entry(str(n + 1))] for n in range(1, 100)})
    with pytest.raises(ImageError, match="too many"):
        deep.choose("linux/amd64")
    wide = Nested(top=[entry(str(n)) for n in range(100)], **{str(n): [] for n in range(100)})
    with pytest.raises(ImageError, match="too many"):
        wide.choose("linux/amd64")
    assert len(deep.asked) == DEPTH - 1 and len(wide.asked) == INDEXES_LIMIT


@given(index=st.recursive(
    st.none() | st.integers() | st.sampled_from(["linux", "arm", "v\u00b2", "v" + "7" * 5000, MEDIA_INDEX]),
    lambda some: st.lists(some, max_size=3) | st.dictionaries(
        st.sampled_from(["manifests", "platform", "os", "architecture", "variant", "mediaType", "digest"]), some, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict)))  # fmt: skip
def test_any_index_is_a_descriptor_or_an_error(index: dict[str, Any]) -> None:
    with contextlib.suppress(ImageError):
        assert isinstance(choose(index, Platform.parse("linux/arm"), "x", lambda _: index), dict)

# -- registries.conf


def places(registries: Registries, name: str) -> list[tuple[str, str, bool]]:
    return [(p.registry, p.repository, p.insecure) for p in registries.places(Reference.parse(name))]


def test_a_short_name_is_looked_for_where_the_file_says() -> None:
    hosts = ["a.example", "b.example:5000"]
    registries = Registries({"unqualified-search-registries": hosts, "aliases": {"box": "c.example/x/box"}})
    assert [str(one) for one in registries.candidates("box:1")] == ["c.example/x/box:1"]
    assert [str(one) for one in registries.candidates("app")] == ["a.example/app:latest", "b.example:5000/app:latest"]
    assert [str(one) for one in registries.candidates("docker.io/app")] == ["docker.io/library/app:latest"]
    assert [str(one) for one in registries.candidates("d.example/app")] == ["d.example/app:latest"]
    assert [str(one) for one in Registries().candidates("app")] == ["docker.io/library/app:latest"]


def test_the_longest_prefix_counts_and_mirrors_come_first() -> None:
    registries = Registries({"registry": [
        {"prefix": "r.example/team", "location": "inner:5000/mirrored/team", "insecure": True},
        {"location": "r.example",
         "mirror": [{"location": "m.example/r"}, {"location": "d.example", "pull-from-mirror": "digest-only"}]},
        {"prefix": "*.wild.example", "location": "tame.example"},
        {"location": "bad.example", "blocked": True},
    ]})  # fmt: skip
    assert places(registries, "r.example/team/app:1") == [("inner:5000", "mirrored/team/app", True)]
    assert places(registries, "r.example/teams:1") == [("m.example", "r/teams", False), ("r.example", "teams", False)]
    by_digest = places(registries, "r.example/x@sha256:" + "0" * 64)
    assert by_digest == [("m.example", "r/x", False), ("d.example", "x", False), ("r.example", "x", False)]
    assert places(registries, "a.wild.example/app") == [("tame.example", "app", False)]
    with pytest.raises(RegistryError, match="blocked"):
        places(registries, "bad.example/app")


def test_a_file_is_read_and_a_broken_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "registries.conf"
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(path))
    path.write_text('unqualified-search-registries = ["a.example"]\n[[registry]]\nlocation = "a.example"\ninsecure = true\n')
    assert Registries.load().search == ["a.example"] and places(Registries.load(), "a.example/x")[0][2] is True
    path.write_text("[[registry")
    with pytest.raises(RegistryError, match="not TOML"):
        Registries.load()


@pytest.mark.parametrize("text", [
    'unqualified-search-registries = "a.example"', "unqualified-search-registries = [1]", 'aliases = "x"', "[aliases]\nx = 1",
    'registry = "x"', "registry = [1]", "[[registry]]\ninsecure = true", "[[registry]]\nlocation = 1",
    '[[registry]]\nlocation = "a"\nmirror = "b"', '[[registry]]\nlocation = "a"\n[[registry.mirror]]\ninsecure = true',
    '[[registry]]\nlocation = "a"\nmirror = [1]',
])  # fmt: skip
def test_a_file_of_another_form_is_told_and_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    (tmp_path / "registries.conf").write_text(text)
    monkeypatch.setenv("CONTAINERS_REGISTRIES_CONF", str(tmp_path / "registries.conf"))
    with pytest.raises(RegistryError, match=r"not as registries.conf\(5\) has it"):
        Registries.load()


# -- credentials


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return tmp_path


def found(registry: str, repository: str = "") -> tuple[str, str, str] | None:
    one = keyring.find(registry, repository)
    return None if one is None else (one.user, one.password, one.token)


def test_what_login_keeps_is_found_by_us_alone(home: Path) -> None:
    keyring.store("r.example:5000", keyring.Credentials("ada", "se:cret"))
    keyring.store("docker.io", keyring.Credentials("bob", "x"))
    path = home / "docker" / "config.json"
    assert found("r.example:5000", "a/b") == ("ada", "se:cret", "") and found("docker.io") == ("bob", "x", "")
    assert found("other") is None and path.stat().st_mode & 0o777 == 0o600
    assert set(json.loads(path.read_text())["auths"]) == {"r.example:5000", "https://index.docker.io/v1/"}
    assert keyring.erase("r.example:5000") and not keyring.erase("r.example:5000") and found("r.example:5000") is None


def test_the_most_specific_entry_of_podmans_file_counts(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def auth(text: str) -> dict[str, str]:
        return {"auth": base64.b64encode(text.encode()).decode()}

    path = home / "auth.json"
    path.write_text(json.dumps({"auths": {"r.example": auth("a:1"), "r.example/team": auth("b:2"), "bad": {"auth": "%"}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    assert found("r.example", "team/app") == ("b", "2", "") and found("r.example", "teams/app") == ("a", "1", "")
    with pytest.raises(RegistryError, match="base64"):
        found("bad")


def test_who_logs_in_at_once_loses_nothing_of_each_other(home: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    hosts = [f"r{number}.example" for number in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda host: keyring.store(host, keyring.Credentials(host, "x")), hosts))
    assert [found(host) for host in hosts] == [(host, "x", "") for host in hosts]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(keyring.erase, hosts))
    assert json.loads((home / "docker" / "config.json").read_text()) == {"auths": {}}


def test_a_file_that_is_a_link_stays_one(home: Path) -> None:
    (home / "docker").mkdir()
    (home / "dotfiles.json").write_text('{"psFormat": "x"}')
    (home / "docker" / "config.json").symlink_to("../dotfiles.json")
    keyring.store("r.example", keyring.Credentials("ada", "x"))
    assert (home / "docker" / "config.json").is_symlink()
    assert json.loads((home / "dotfiles.json").read_text()).keys() == {"psFormat", "auths"}


def test_logout_forgets_what_older_dockers_wrote_too(home: Path) -> None:
    (home / "docker").mkdir()
    auth = {"auth": base64.b64encode(b"a:1").decode()}
    (home / "docker" / "config.json").write_text(json.dumps({"auths": {"https://r.example/v1/": auth, "r.example.org": auth}}))
    assert found("r.example") == ("a", "1", "") and keyring.erase("r.example") and found("r.example") is None
    assert found("r.example.org") == ("a", "1", "")


@pytest.mark.parametrize("text", [
    '{"auths": ["a"]}', '{"credHelpers": "x"}', '{"credsStore": 7}', '{"credHelpers": {"r.example": 7}}', "[]", "{",
])  # fmt: skip
def test_credentials_of_another_form_are_told(home: Path, text: str) -> None:
    (home / "docker").mkdir()
    (home / "docker" / "config.json").write_text(text)
    with pytest.raises(RegistryError):
        found("r.example")


@pytest.mark.parametrize(("text", "host"), [
    ("r.example", "r.example"), ("https://r.example:5000/", "r.example:5000"), ("http://localhost:5000/v2/", "localhost:5000"),
    ("https://index.docker.io/v1/", "docker.io"), ("registry-1.docker.io", "docker.io"), ("buildhost", "buildhost"),
    ("[::1]:5000", "[::1]:5000"),
])  # fmt: skip
def test_a_registry_to_log_in_to_may_be_written_as_a_url(text: str, host: str) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize("text", ["", "https://", "a b.example", "r.example:port", "ftp://r.example", "-x"])
def test_what_is_no_registry_is_told(text: str) -> None:
    with pytest.raises(RegistryError, match="is no registry"):
        host_of(text)


HELPER = """#!/bin/sh
read server
case $1 in
get) case $server in *r.example*) echo '{"ServerURL":"x","Username":"'$NAME'","Secret":"s3"}';; *) echo credentials not found in native keychain; exit 1;; esac;;
*) echo "$1 $server" >> $LOG;;
esac
"""  # noqa: E501


def test_a_helper_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "docker-credential-test"
    program.write_text(HELPER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(home / "log"))
    monkeypatch.setenv("NAME", "eve")
    (home / "docker").mkdir()
    (home / "docker" / "config.json").write_text('{"credsStore": "test"}')
    assert found("r.example") == ("eve", "s3", "") and found("q.example") is None
    monkeypatch.setenv("NAME", "<token>")
    assert found("r.example") == ("", "", "s3")
    keyring.store("r.example", keyring.Credentials("ada", "x"))
    keyring.erase("r.example")
    assert (home / "log").read_text().splitlines()[-1] == "erase r.example"
    (home / "docker" / "config.json").write_text('{"credHelpers": {"r.example": "nowhere"}}')
    with pytest.raises(RegistryError, match="docker-credential-nowhere is not in PATH"):
        found("r.example")
