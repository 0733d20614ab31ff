"""Contexts that are no directories: archives, URLs, git repositories; and ADD of repositories."""

from __future__ import annotations

import http.server
import io
import os
import socket
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from command import Minirt

from minirt.image.store import Store
from minirt.image.view import View

pytestmark = [pytest.mark.root, pytest.mark.skipif(os.geteuid() != 0, reason="RUN is a container with owners of its own")]

GIT = {
    **os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_AUTHOR_DATE": "@1500000000 +0000", "GIT_COMMITTER_DATE": "@1500000000 +0000",
}  # fmt: skip
DOCKERFILE = "FROM busybox\nCOPY . /ctx\n"


def git(path: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", path, *words], env=GIT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit(path: Path, **files: str) -> str:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    git(path, "add", "-A")
    git(path, "commit", "-q", "-m", "x")
    return git(path, "rev-parse", "HEAD")


@pytest.fixture
def sources(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A git daemon on loopback, and the directory it serves."""
    top = tmp_path / "git"
    top.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not `git daemon`: git would run it as a child, which a signal to git does not reach.
    program = Path(subprocess.run(["git", "--exec-path"], capture_output=True, text=True, check=True).stdout.strip(), "git-daemon")
    words = [program, f"--base-path={top}", "--export-all", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr", top]
    with subprocess.Popen(words, env=GIT, stderr=subprocess.DEVNULL) as daemon:
        for _ in range(400):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield top, f"git://127.0.0.1:{port}"
        daemon.terminate()


@pytest.fixture
def repository(sources: tuple[Path, str]) -> tuple[Path, str, list[str]]:
    """A repository of two commits, the first a tag, the second a branch too. Its path, URL and commits."""
    top, url = sources
    path = top / "app"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    first = commit(path, Dockerfile=DOCKERFILE, version="1", **{"sub/Dockerfile": DOCKERFILE, "sub/inner": "i"})
    git(path, "tag", "-a", "-m", "x", "v1")
    second = commit(path, version="2")
    git(path, "branch", "dev/two")
    return path, f"{url}/app", [first, second]


def build(minirt: Minirt, *words: object, **more: object) -> View:
    done = minirt("build", "--network", "none", "-t", "made", *words, **more)
    assert done.returncode == 0, done.stderr
    return view(minirt)


def view(minirt: Minirt) -> View:
    return View(Store(str(minirt.root / "lib" / "image")).resolve("made").layers())


def fails(minirt: Minirt, *words: object, **more: object) -> str:
    done = minirt("build", "--network", "none", "-t", "made", *words, **more)
    lines = [line for line in done.stderr.splitlines() if line.startswith("minirt: ")]
    assert done.returncode in (1, 125) and len(lines) == 1, done.stderr
    assert left(minirt) == []
    return lines[0]


def left(minirt: Minirt) -> list[str]:
    return sorted(os.listdir(minirt.root / "lib" / "image" / "tmp"))


# -- git


@pytest.mark.parametrize(
    ("end", "version"),
    [("", "2"), ("#v1", "1"), ("#main", "2"), ("#dev/two", "2"), ("?tag=v1", "1"), ("?branch=dev/two", "2"), ("#{first}", "1"),
     ("#{short}", "1"), ("?ref=v1&commit={first}", "1")],
)  # fmt: skip
def test_a_context_is_a_branch_a_tag_or_a_commit(
    own_store: Minirt, repository: tuple[Path, str, list[str]], end: str, version: str
) -> None:
    _, url, commits = repository
    made = build(own_store, url + end.format(first=commits[0], short=commits[0][:9]))
    assert made.read("/ctx/version") == version
    assert made.find(b"ctx/.git") is None and left(own_store) == []


def test_a_directory_of_a_repository_is_a_context(own_store: Minirt, repository: tuple[Path, str, list[str]]) -> None:
    _, url, _ = repository
    for end in ("#v1:sub", "#:sub", "?subdir=sub"):
        assert build(own_store, url + end).names(b"ctx") == [b"Dockerfile", b"inner"]
    assert "no directory nosuch" in fails(own_store, url + "#v1:nosuch")
    assert "no directory ../.." not in fails(own_store, url + "#v1:sub/inner")


def test_the_same_commit_is_the_same_image_wherever_it_is_fetched(
    own_store: Minirt, repository: tuple[Path, str, list[str]]
) -> None:
    _, url, _ = repository
    build(own_store, url)
    found = view(own_store).find(b"ctx/version")
    assert found is not None
    assert (found.status.st_mtime, found.status.st_mode & 0o777, found.status.st_uid) == (1_500_000_000, 0o644, 0)
    done = own_store("build", "--network", "none", "-t", "made", url)
    assert "CACHED" in done.stderr


@pytest.mark.parametrize(
    ("end", "word"),
    [("#nosuch", "no branch, tag or commit 'nosuch'"), ("#--upload-pack=x", "is no branch"), ("?what=1", "there is no what="),
     ("?ref=v1&commit=0123456", "0123456 is wanted")],
)  # fmt: skip
def test_what_a_repository_lacks_is_told_in_a_line(
    own_store: Minirt, repository: tuple[Path, str, list[str]], end: str, word: str
) -> None:
    _, url, _ = repository
    assert word in fails(own_store, url + end)


def test_a_repository_that_is_not_there_is_told_in_a_line(own_store: Minirt, sources: tuple[Path, str]) -> None:
    assert "git fetch: " in fails(own_store, f"{sources[1]}/nosuch")


def test_links_of_a_repository_lead_nowhere_else(
    own_store: Minirt, repository: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    path, url, _ = repository
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "Dockerfile").write_text("FROM scratch\n")
    (path / "Dockerfile").unlink()
    (path / "Dockerfile").symlink_to(tmp_path / "outside" / "Dockerfile")
    (path / "out").symlink_to(tmp_path / "outside")
    commit(path)
    assert "there is no such file" in fails(own_store, url)
    assert "no directory out" in fails(own_store, url + "#:out")


def test_hooks_and_drivers_of_a_repository_are_not_run(
    own_store: Minirt, repository: tuple[Path, str, list[str]], tmp_path: Path
) -> None:
    path, url, _ = repository
    mark = tmp_path / "run"
    commit(path, **{".gitattributes": "* filter=evil\n", ".gitmodules":
                    f'[submodule "s"]\n path = s\n url = ext::sh -c "touch {mark}"\n update = !touch {mark}\n'})  # fmt: skip
    own_store("build", "--network", "none", "-t", "made", url)
    assert not mark.exists()


def test_submodules_come_too(own_store: Minirt, repository: tuple[Path, str, list[str]], sources: tuple[Path, str]) -> None:
    path, url, _ = repository
    other = sources[0] / "other"
    other.mkdir()
    git(other, "init", "-q", "-b", "main")
    commit(other, inner="of the submodule")
    git(path, "submodule", "add", "-q", f"{sources[1]}/other", "deep/module")
    commit(path)
    made = build(own_store, url)
    assert made.read("/ctx/deep/module/inner") == "of the submodule" and made.find(b"ctx/deep/module/.git") is None


def test_a_server_that_only_has_files_is_enough(
    own_store: Minirt, repository: tuple[Path, str, list[str]], web: tuple[Path, str]
) -> None:
    """git's old protocol, which knows no part of a history (man 5 gitprotocol-http, "dumb")."""
    path, _, commits = repository
    top, url = web
    git(path, "clone", "-q", "--bare", ".", str(top / "app.git"))
    git(top / "app.git", "update-server-info")
    for end, version in (("", "2"), ("#v1", "1"), (f"#{commits[0]}", "1")):
        assert build(own_store, f"{url}/app.git{end}").read("/ctx/version") == version


def test_add_of_a_repository(own_store: Minirt, repository: tuple[Path, str, list[str]], tmp_path: Path) -> None:
    path, url, commits = repository
    (tmp_path / "ctx").mkdir()
    file = tmp_path / "ctx" / "Dockerfile"
    file.write_text(f"FROM busybox\nARG V=v1\nADD {url}#$V /src\nADD --keep-git-dir {url}#main:sub /kept/\n"
                    f"ADD --checksum={commits[1][:10]} --chown=7:8 {url} /owned\n")  # fmt: skip
    made = build(own_store, tmp_path / "ctx")
    assert made.read("/src/version") == "1" and made.find(b"src/.git") is None
    assert made.names(b"kept") == [b"Dockerfile", b"inner"]
    owned = made.find(b"owned/version")
    assert owned is not None and (owned.status.st_uid, owned.status.st_gid) == (7, 8)
    again = own_store("build", "--network", "none", "-t", "made", tmp_path / "ctx")
    assert again.stderr.count("CACHED") == 3, again.stderr
    commit(path, version="3")
    file.write_text(f"FROM busybox\nADD --keep-git-dir {url} /src\n")
    made = build(own_store, tmp_path / "ctx")
    assert made.read("/src/version") == "3" and made.directories(b"src/.git")
    file.write_text(f"FROM busybox\nADD --checksum={'0' * 40} {url} /x\n")
    assert "is wanted" in fails(own_store, tmp_path / "ctx")


def test_a_killed_fetch_leaves_nothing(own_store: Minirt, tmp_path: Path) -> None:
    """A server that accepts and says nothing: what was begun is swept by the next command, when git is gone too."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        run = own_store.start("build", "--network", "none", f"git://127.0.0.1:{silent.getsockname()[1]}/x")
        client, _ = silent.accept()
        run.kill()
        run.communicate()
        assert own_store("image", "prune").returncode == 0
        client.close()
    end = time.monotonic() + 30
    while left(own_store):
        assert time.monotonic() < end
        assert own_store("image", "prune").returncode == 0
        time.sleep(0.1)


def test_a_signal_ends_a_fetch(own_store: Minirt) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        run = own_store.start("build", "--network", "none", f"git://127.0.0.1:{silent.getsockname()[1]}/x")
        client, _ = silent.accept()
        run.send_signal(2)
        assert run.wait(30) == 130
        client.close()
    assert left(own_store) == []


# -- archives and URLs


class Site(http.server.SimpleHTTPRequestHandler):
    """Files of a directory."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    top = tmp_path / "web"
    top.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(top)))
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield top, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def archive(mode: str = "w", **files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.uid, info.mtime = len(text), 5, 1_400_000_000
            tar.addfile(info, io.BytesIO(text.encode()))
    return stream.getvalue()


FILES = {
    "Dockerfile": DOCKERFILE, "a": "in the archive", "x/Other": "FROM busybox\nCOPY a /other\n", ".dockerignore": "b\n", "b": "b",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_an_archive_is_a_context_from_a_file_a_pipe_or_a_server(
    own_store: Minirt, web: tuple[Path, str], tmp_path: Path, mode: str
) -> None:
    file = web[0] / "context"
    file.write_bytes(archive(mode, **FILES))
    for word in ("-", file, f"{web[1]}/context"):
        with open(file) as stdin:
            words = [*own_store.program, "build", "--network", "none", "-t", "made", str(word)]
            done = subprocess.run(words, stdin=stdin, env=own_store.env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        made = view(own_store)
        assert made.names(b"ctx") == [b".dockerignore", b"Dockerfile", b"a", b"x"]
        found = made.find(b"ctx/a")
        assert found is not None and (found.status.st_uid, found.status.st_mtime) == (0, 1_400_000_000)
    assert left(own_store) == []


def test_a_dockerfile_is_named_by_its_path_in_the_archive(own_store: Minirt, tmp_path: Path) -> None:
    (tmp_path / "c.tar").write_bytes(archive(**FILES))
    assert build(own_store, "-f", "x/Other", tmp_path / "c.tar").read("/other") == "in the archive"
    assert "nosuch: there is no such file" in fails(own_store, "-f", "nosuch", tmp_path / "c.tar")
    assert build(own_store, "-f", "-", tmp_path / "c.tar", input="FROM busybox\nCOPY a /piped\n").read("/piped") == "in the archive"


def test_a_dockerfile_may_be_all_that_a_url_gives(own_store: Minirt, web: tuple[Path, str]) -> None:
    (web[0] / "Dockerfile").write_text("FROM busybox\nRUN echo alone > /alone\n")
    assert build(own_store, f"{web[1]}/Dockerfile").read("/alone") == "alone\n"
    assert "a Dockerfile alone" in fails(own_store, "-f", "x", f"{web[1]}/Dockerfile")
    assert "not found" in fails(own_store, f"{web[1]}/nosuch")


def test_what_is_no_context_is_told_in_a_line(own_store: Minirt, tmp_path: Path, web: tuple[Path, str]) -> None:
    (tmp_path / "text").write_text("FROM busybox\n")
    assert "with -f" in fails(own_store, tmp_path / "text")
    assert "directory, an archive, a URL or a git repository" in fails(own_store, tmp_path / "nosuch")
    assert "only one of them" in fails(own_store, "-f", "-", "-")
    (web[0] / "binary").write_bytes(bytes(2000))
    assert "neither an archive nor a Dockerfile" in fails(own_store, f"{web[1]}/binary")
    (tmp_path / "torn.tar").write_bytes(archive(**FILES)[:1500])
    assert "torn.tar" in fails(own_store, tmp_path / "torn.tar")


@pytest.mark.parametrize("name", ["../out", "/etc/../../out", "link/x", "d/.wh.x"])
def test_a_hostile_archive_writes_nowhere(own_store: Minirt, tmp_path: Path, name: str) -> None:
    stream = io.BytesIO()
    outside = tmp_path / "outside"
    outside.mkdir()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(outside)
        for info in (link, tarfile.TarInfo(name)):
            tar.addfile(info)
    (tmp_path / "evil.tar").write_bytes(stream.getvalue())
    own_store("build", "--network", "none", "-f", "-", "-t", "made", tmp_path / "evil.tar", input="FROM busybox\nCOPY . /x\n")
    assert list(outside.iterdir()) == [] and not (own_store.root / "lib" / "image" / "out").exists() and left(own_store) == []
