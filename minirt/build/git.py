"""A git repository's files, at one commit: what a context or an ADD may name.

    https://HOST/PATH.git   http://…   git://HOST/PATH   ssh://USER@HOST/PATH   USER@HOST:PATH   github.com/OWNER/NAME
    …#REF                   a branch, a tag or a commit (the branch that HEAD is)
    …#REF:DIRECTORY         what is below a directory
    …?branch=REF&subdir=DIRECTORY      the same; also tag=, ref=, commit= (a commit that REF has to be)

(docs.docker.com/build/concepts/context, "Git repositories".) The program git fetches, with the user's own credentials; nothing
of a repository is run: no hooks, no filters of its own.
"""

from __future__ import annotations

import os
import subprocess

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Repository", "is_repository"]

SCHEMES = ("git://", "ssh://", "git+http://", "git+https://", "git+ssh://")
WEB = ("http://", "https://")
REFS = ("ref", "branch", "tag")
WAIT = 0.2  # seconds between two looks whether the build is over

# Nobody is asked anything; what a server can make git do is what git's own defaults allow, less files of this machine.
ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "git:http:https:ssh", "GIT_LFS_SKIP_SMUDGE": "1", "LC_ALL": "C"}
SETTINGS = ("core.hooksPath=/dev/null", "core.autocrlf=false", "core.symlinks=true", "advice.detachedHead=false",
            "http.lowSpeedLimit=1", "http.lowSpeedTime=60", "fetch.recurseSubmodules=false")  # fmt: skip


def is_repository(text: str) -> bool:
    """Say whether a text names a git repository."""
    place = text.partition("#")[0].partition("?")[0]
    if place.startswith(WEB):
        return place.endswith(".git")
    return place.startswith((*SCHEMES, "github.com/")) or _is_scp(place)


def _is_scp(place: str) -> bool:
    """Say whether a text is written as scp has it: USER@HOST:PATH."""
    user, at, rest = place.partition("@")
    host, colon, path = rest.partition(":")
    return bool(at and colon and path and user.replace("-", "a").replace("_", "a").isalnum() and "/" not in host)


class Repository:
    """A repository, a reference and a directory in it.

    Args: text, as in the head of this file. Raises BuildError where it is none of that.
    """

    def __init__(self, text: str) -> None:
        from urllib.parse import parse_qsl

        place, _, fragment = text.partition("#")
        place, _, query = place.partition("?")
        self.ref, _, self.directory = fragment.partition(":")
        self.commit = ""  # that the reference is to be, or its beginning
        for key, value in parse_qsl(query, keep_blank_values=True):
            if key in REFS:
                self.ref = value
            elif key == "subdir":
                self.directory = value
            elif key in ("commit", "checksum"):
                self.commit = value
            else:
                raise BuildError(f"{text}: there is no {key}=; there are branch, tag, ref, commit, subdir")
        if self.ref.startswith("-") or any(char in self.ref for char in " \t\n~^:?*[\\"):
            raise BuildError(f"{text}: {self.ref!r} is no branch, tag or commit")
        if place.startswith("github.com/"):
            place = "https://" + place
        self.url = place.removeprefix("git+")
        self.name = self.url.rstrip("/").rpartition("/")[2].rpartition(":")[2].removesuffix(".git") or "repository"

    def fetch(self, place: str, lock: int, *, keep: bool = False, check: Callable[[], object] = bool) -> tuple[str, str]:
        """Fetch it into an empty directory, its submodules too.

        Args: lock, fd that keeps the directory from being swept: git has it too, and may outlive us; keep, whether .git
        stays; check, called now and then: what it raises ends the fetching.
        Returns the directory that is meant, and the commit. Raises BuildError.
        """
        import shutil

        git = _Git(place, lock, self.url, check)
        git("init", "--template=")
        git("remote", "add", "--", "origin", self.url)
        self._checkout(git)
        commit = git("rev-parse", "HEAD")
        if self.commit and not commit.startswith(self.commit.lower()):
            raise BuildError(f"{self.url}: {self.ref or 'HEAD'} is the commit {commit}, and {self.commit} is wanted")
        if os.path.exists(f"{place}/.gitmodules"):
            git("submodule", "update", "--init", "--recursive", "--depth=1")
        _set_times(place, int(git("log", "-1", "--format=%ct")))
        if not keep:
            _forget(place, shutil.rmtree)
        return self._below(place), commit

    def _checkout(self, git: _Git) -> None:
        """Have the files of the reference: by as little as possible, or by all of it from a server that gives no less."""
        wanted = self.ref or self.commit or "HEAD"
        if git.tries("fetch", "--depth=1", "--no-tags", "origin", wanted):
            git("checkout", "--detach", "FETCH_HEAD")
            return
        git("fetch", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*")
        if wanted == "HEAD":
            git("remote", "set-head", "origin", "--auto")
        for name in (f"refs/remotes/origin/{wanted}", f"refs/tags/{wanted}", wanted):
            if git.tries("checkout", "--detach", f"{name}^{{commit}}"):
                return
        raise BuildError(f"{self.url}: it has no branch, tag or commit {wanted!r}")

    def _below(self, place: str) -> str:
        """Return the directory in it that is meant. Raises BuildError, also where a link leads out."""
        from minirt.image.view import View

        view = View([place])
        path = view.resolve(os.fsencode(self.directory))
        if not view.directories(path):
            raise BuildError(f"{self.url}: it has no directory {self.directory}")
        return os.path.join(place, os.fsdecode(path)) if path else place


class _Git:
    """The program, in one directory."""

    def __init__(self, place: str, lock: int, url: str, check: Callable[[], object]) -> None:
        self._start = ["git", "-C", place, *(word for setting in SETTINGS for word in ("-c", setting))]
        self._lock = lock
        self._url = url
        self._check = check
        self._said = ""

    def __call__(self, *words: str) -> str:
        """Run a command of it. Returns what it prints. Raises BuildError."""
        if not self.tries(*words):
            lines = [line for line in self._said.splitlines() if line.startswith(("fatal:", "error:"))] or self._said.splitlines()
            raise BuildError(f"{self._url}: git {words[0]}: {lines[0].partition(': ')[2] if lines else 'failed'}")
        return self._said.strip()

    def tries(self, *words: str) -> bool:
        """Run a command of it. Returns whether it could do it. Raises BuildError where there is no git."""
        environment = {**os.environ, **ENVIRONMENT}
        environment.setdefault("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")
        try:
            child = subprocess.Popen([*self._start, *words], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.PIPE, text=True, errors="replace", umask=0o022,
                                     pass_fds=[self._lock])  # fmt: skip
        except FileNotFoundError:
            raise BuildError(f"{self._url}: git is not installed (apt-get install git)") from None
        with child:
            while True:
                try:
                    self._said, errors = child.communicate(timeout=WAIT)
                    if child.returncode:
                        self._said = errors
                    return child.returncode == 0
                except subprocess.TimeoutExpired:
                    self._look(child)

    def _look(self, child: subprocess.Popen[str]) -> None:
        try:
            self._check()
        except BaseException:
            child.kill()
            raise


def _set_times(place: str, seconds: int) -> None:
    """Let all files have the commit's time, as git keeps none: so they are the same wherever they were fetched."""
    for above, folders, files in os.walk(place, topdown=False):
        if not _is_private(above, place):
            for name in [*files, *folders, ""]:
                os.utime(os.path.join(above, name), (seconds, seconds), follow_symlinks=False)


def _is_private(path: str, place: str) -> bool:
    return path == f"{place}/.git" or path.startswith(f"{place}/.git/")


def _forget(place: str, remove: Callable[[str], object]) -> None:
    """Remove git's own: a directory here, a file in each submodule."""
    remove(f"{place}/.git")
    for above, _, files in os.walk(place):
        if ".git" in files:
            os.unlink(f"{above}/.git")
