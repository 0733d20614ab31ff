"""What an image's configuration has to look like, if somebody else wrote it (image-spec config.md#properties).

It is looked at once, when the image arrives: who uses it later need not doubt each field. Only what is used here is checked.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["is_text", "wrong_in"]


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _check(value: object) -> bool:
    return isinstance(value, dict) and (value.get("Test") is None or _texts(value["Test"]))


def _steps(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


_RULES: dict[str, tuple[Callable[[object], bool], str]] = {
    "Env": (_texts, "a list of texts"),
    "OnBuild": (_texts, "a list of texts"),
    "Labels": (lambda value: isinstance(value, dict), "an object"),
    "WorkingDir": (lambda value: isinstance(value, str), "a text"),
    "Healthcheck": (_check, "an object with a list of texts as Test"),
}


def wrong_in(config: dict[str, Any]) -> str:
    """Return what is wrong with a configuration, or "". What is null or not there is right."""
    inner = config.get("config")
    if inner is not None and not isinstance(inner, dict):
        return "config is not an object"
    for name, (is_right, what) in _RULES.items():
        value = (inner or {}).get(name)
        if value is not None and not is_right(value):
            return f"{name} is not {what}"
    if config.get("history") is not None and not _steps(config["history"]):
        return "history is not a list of objects"
    return "" if is_text(config) else "it has half of a character"


def is_text(document: object) -> bool:
    """Return whether a JSON document can be written down: an escape may be half of a surrogate pair (RFC 8259 section 8.2)."""
    import json

    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
