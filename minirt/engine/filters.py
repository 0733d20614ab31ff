"""`--filter KEY=VALUE`: of several values of one key one must hold, of several keys each (of labels, each value)."""

from __future__ import annotations

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Filters"]


class Filters:
    """What is asked for.

    Args: given, as after --filter, or a mapping of keys to values as the Engine API has it. Raises: UsageError.
    """

    def __init__(self, given: Iterable[str] | Mapping[str, Iterable[str]]) -> None:
        self.values: dict[str, list[str]] = {}
        if not isinstance(given, (list, tuple)) and hasattr(given, "items"):
            self.values = {key: list(values) for key, values in given.items()}
            return
        for text in given:
            key, equals, value = text.partition("=")
            if not equals or not key.strip():
                raise UsageError(f"--filter {text}: it is written KEY=VALUE")
            self.values.setdefault(key.strip().lower(), []).append(value.strip())

    def __bool__(self) -> bool:
        return bool(self.values)

    def only(self, *known: str) -> None:
        """Refuse keys that mean nothing here. Raises: UsageError."""
        for key in self.values:
            if key not in known:
                raise UsageError(f"--filter {key}: there are {', '.join(known)}")

    def of(self, key: str) -> list[str]:
        """Return a key's values."""
        return self.values.get(key, [])

    def truth(self, key: str) -> bool | None:
        """Return true or false, None where the key is not given. Raises: UsageError."""
        found = {value.lower() in ("true", "1") for value in self.of(key)}
        if any(value.lower() not in ("true", "1", "false", "0") for value in self.of(key)):
            raise UsageError(f"--filter {key}={self.of(key)[0]}: true or false")
        return found.pop() if len(found) == 1 else None

    def equal(self, key: str, *values: str) -> bool:
        """Say whether one of some values is one that is asked for."""
        return not self.of(key) or any(value in self.of(key) for value in values)

    def part(self, key: str, *values: str) -> bool:
        """Say whether what is asked for is part of a value, or a pattern that matches it (as docker: a regular expression)."""
        import re

        def matches(wanted: str, value: str) -> bool:
            try:
                return re.search(wanted, value) is not None
            except re.error:
                return wanted in value

        return not self.of(key) or any(matches(wanted, value) for wanted in self.of(key) for value in values)

    def begins(self, key: str, value: str) -> bool:
        """Say whether a value begins with what is asked for."""
        return not self.of(key) or any(value.startswith(wanted) for wanted in self.of(key))

    def has_labels(self, labels: Mapping[str, str]) -> bool:
        """Say whether an object has the labels that are asked for (label) and none of those that are not wanted (label!)."""

        def there(text: str) -> bool:
            key, equals, value = text.partition("=")
            return key in labels and (not equals or labels[key] == value)

        return all(map(there, self.of("label"))) and not any(map(there, self.of("label!")))

    def before(self, key: str = "until") -> float | None:
        """Return the moment before which something must have been made (s since 1970), None where it is not asked for.

        Raises: UsageError.
        """
        from datetime import datetime

        from minirt.engine.moments import moment

        found = [datetime.fromisoformat(moment(value)[:26] + "+00:00").timestamp() for value in self.of(key)]
        return min(found) if found else None
