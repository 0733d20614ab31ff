"""Who may do what in which repositories: a small TOML file.

    [[rule]]
    users = ["alice", "bob"]          # "*" is everybody, also without a password; "@users" who has one
    may = ["pull", "push"]            # pull, push, delete
    repositories = ["team/*"]         # shell patterns; * crosses "/"

Rules only give. What no rule gives is refused.
"""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase

from minirt.registry.errors import ServeError
from minirt.registry.watched import Watched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ACTIONS", "ALL", "Rules"]

ACTIONS = ("pull", "push", "delete")
ALL = {"users": ["*"], "may": list(ACTIONS), "repositories": ["*"]}  # without passwords and rules
USERS = {**ALL, "users": ["@users"]}  # with passwords, without rules
_KEYS = {"users", "may", "repositories"}


class Rules:
    """Rules, of a file (watched.py), or given. Raises ServeError."""

    def __init__(self, path: str = "", rules: list[dict[str, list[str]]] | None = None) -> None:
        self._file = Watched(path, read_rules, "rules") if path else None
        self._given = rules or []

    def _now(self) -> list[dict[str, list[str]]]:
        return self._given if self._file is None else self._file.now()

    def may(self, user: str, action: str, repository: str) -> bool:
        """Return whether a user ("" is nobody in particular) may do something."""
        words = {"*", user, "@users"} if user else {"*"}
        return any(
            action in rule["may"]
            and not words.isdisjoint(rule["users"])
            and any(fnmatchcase(repository, pattern) for pattern in rule["repositories"])
            for rule in self._now()
        )

    @property
    def open_to_all(self) -> bool:
        """Whether somebody without a password may do anything at all."""
        return any("*" in rule["users"] for rule in self._now())


def read_rules(path: str) -> list[dict[str, list[str]]]:
    """Return the rules in a file. Raises ServeError, OSError."""
    with open(path, "rb") as stream:
        return parse(stream.read(), path)


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
