"""Who may do what in which repositories: a small TOML file.

    [[rule]]
    users = ["alice", "bob"]          # "*" is everybody, also without a password; "@users" who has one
    may = ["pull", "push"]            # pull, push, delete
    repositories = ["team/*"]         # shell patterns; * crosses "/"

Rules only give. What no rule gives is refused.
"""

from __future__ import annotations

import logging
import os
import tomllib
from fnmatch import fnmatchcase

from minirt.registry.errors import ServeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ACTIONS", "ALL", "Rules"]

LOG = logging.getLogger("minirt.registry")
ACTIONS = ("pull", "push", "delete")
ALL = {"users": ["*"], "may": list(ACTIONS), "repositories": ["*"]}  # without passwords and rules
USERS = {**ALL, "users": ["@users"]}  # with passwords, without rules
_KEYS = {"users", "may", "repositories"}


class Rules:
    """Rules, of a file that is read again when it changes, or given. Raises ServeError.

    A file that cannot be read while we serve leaves the rules as they were when this process read them last.
    """

    def __init__(self, path: str = "", rules: list[dict[str, list[str]]] | None = None) -> None:
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._rules = rules or []
        self._read = False  # whether the file could ever be read
        self._refresh()

    def _refresh(self) -> None:
        """Read the file if it changed."""
        if not self._path:
            return
        try:
            found = os.stat(self._path)
            before, self._stamp = self._stamp, (found.st_mtime_ns, found.st_ino)
            if before != self._stamp:
                with open(self._path, "rb") as stream:
                    self._rules = parse(stream.read(), self._path)
                self._read = True
        except (OSError, ServeError) as error:
            why = f"cannot read {self._path}: {error.strerror}" if isinstance(error, OSError) else str(error)
            if not self._read:
                raise ServeError(why) from None
            LOG.error("%s: the rules stay as they were", why)

    def may(self, user: str, action: str, repository: str) -> bool:
        """Return whether a user ("" is nobody in particular) may do something."""
        self._refresh()
        words = {"*", user, "@users"} if user else {"*"}
        return any(
            action in rule["may"]
            and not words.isdisjoint(rule["users"])
            and any(fnmatchcase(repository, pattern) for pattern in rule["repositories"])
            for rule in self._rules
        )

    @property
    def open_to_all(self) -> bool:
        """Whether somebody without a password may do anything at all."""
        self._refresh()
        return any("*" in rule["users"] for rule in self._rules)


def parse(text: bytes, where: str) -> list[dict[str, list[str]]]:
    """Return the rules in a text. Raises ServeError, which says what is wrong with which."""
    try:
        document = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ServeError(f"{where}: {error}") from None
    rules = document.pop("rule", [])
    if document or not isinstance(rules, list):
        raise ServeError(f"{where}: {', '.join(document) or 'rule'}: only [[rule]] tables are known")
    for number, rule in enumerate(rules, 1):
        _check(rule, f"{where}, rule {number}")
    return rules


def _check(rule: Any, where: str) -> None:
    if not isinstance(rule, dict) or set(rule) != _KEYS:
        raise ServeError(f"{where}: a rule has users, may and repositories")
    for key, value in rule.items():
        if not isinstance(value, list) or not all(isinstance(word, str) and word for word in value):
            raise ServeError(f"{where}: {key} is a list of words")
    wrong = set(rule["may"]) - set(ACTIONS)
    if wrong:
        raise ServeError(f"{where}: may is of {', '.join(ACTIONS)}, not {sorted(wrong)[0]!r}")
