"""An instruction applied to an image's configuration: `CMD ["sh"]`, `ENV A=b C="d e"`.

What `--change` of import (and later of commit) takes: the Dockerfile instructions that only touch the
configuration (docs.docker.com, "docker image import"; fields: image-spec config.md#properties).

Simplified: $NAME is not expanded, which a Dockerfile does.
"""

from __future__ import annotations

from minirt.image.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Config = dict[str, Any]  # the "config" object inside an image's configuration

__all__ = ["BadChange", "apply", "exec_form", "words"]


class BadChange(ImageError):
    """The text is no instruction that changes a configuration."""


def apply(config: Config, text: str) -> None:
    """Apply one instruction.

    Args: config, changed in place; text, the instruction, its name in any case. Raises BadChange.
    """
    name, _, rest = text.strip().partition(" ")
    setter = _SETTERS.get(name.upper())
    if setter is None:
        raise BadChange(f"{text!r} is not one of {', '.join(sorted(_SETTERS))}")
    rest = rest.strip()
    if any("\ud800" <= char <= "\udfff" for char in rest):
        raise BadChange(f"{text!r} is not UTF-8, which JSON has to be")
    if not rest or "\0" in rest:
        raise BadChange(f"{text!r} does not say what to set")
    setter(config, rest)


def words(text: str) -> list[str]:
    """Part a text at white space, outside quotes; remove quotes and backslashes, as a Dockerfile does.

    Raises BadChange for a quote without its end.
    """
    found: list[str] = []
    word: list[str] | None = None
    quote = ""
    chars = iter(text)
    for char in chars:
        if char in " \t\n" and not quote:
            if word is not None:
                found.append("".join(word))
            word = None
            continue
        word = [] if word is None else word
        if char == quote:
            quote = ""
        elif char in "'\"" and not quote:
            quote = char
        elif char == "\\" and quote != "'":
            following = next(chars, "\\")
            keep = quote == '"' and following not in '"\\$'
            word.append("\\" + following if keep else following)
        else:
            word.append(char)
    if quote:
        raise BadChange(f"{text!r} has a quote without its end")
    return [*found, "".join(word)] if word is not None else found


def _command(text: str) -> list[str]:
    """The exec form is a JSON array of strings; anything else is a line for the shell."""
    array = exec_form(text)
    return ["/bin/sh", "-c", text] if array is None else array


def exec_form(text: str) -> list[str] | None:
    """Return the words of `["a", "b"]`, or None where the text is no JSON array of strings: then a shell reads it."""
    if not text.startswith("["):
        return None
    import json

    try:
        array = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return array if isinstance(array, list) and all(isinstance(item, str) for item in array) else None


def _pairs(text: str) -> list[tuple[str, str]]:
    """`A=b C=d`, or the old form `A all the rest`."""
    first = text.split(maxsplit=1)
    if "=" not in first[0]:
        if len(first) < 2:
            raise BadChange(f"{text!r} is not NAME=VALUE")
        return [(first[0], first[1])]
    pairs = [word.partition("=") for word in words(text)]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise BadChange(f"{text!r} is not NAME=VALUE")
    return [(name, value) for name, _, value in pairs]


def _set_env(config: Config, text: str) -> None:
    env: list[str] = config.setdefault("Env", [])
    for name, value in _pairs(text):
        env[:] = [item for item in env if item.partition("=")[0] != name]
        env.append(f"{name}={value}")


def _set_labels(config: Config, text: str) -> None:
    config.setdefault("Labels", {}).update(_pairs(text))


def _set_ports(config: Config, text: str) -> None:
    ports = config.setdefault("ExposedPorts", {})
    for word in words(text):
        numbers, _, protocol = word.partition("/")
        first, _, last = numbers.partition("-")
        protocol = (protocol or "tcp").lower()
        if not (_is_port(first) and _is_port(last or first)) or protocol not in ("tcp", "udp", "sctp"):
            raise BadChange(f"{word!r} is not PORT[-PORT][/tcp|udp|sctp]")
        for port in range(int(first), int(last or first) + 1):
            ports[f"{port}/{protocol}"] = {}


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and 0 < int(text) < 65536


def _set_volumes(config: Config, text: str) -> None:
    array = exec_form(text)
    for path in words(text) if array is None else array:
        if not path:
            raise BadChange("VOLUME needs a path")
        config.setdefault("Volumes", {})[path] = {}


def _set_workdir(config: Config, text: str) -> None:
    import posixpath

    (path,) = words(text) if len(words(text)) == 1 else [text]
    above = config.get("WorkingDir") or "/"
    config["WorkingDir"] = "/" + posixpath.normpath(posixpath.join("/", above, path)).lstrip("/")


def _set_command(config: Config, text: str) -> None:
    config["Cmd"] = _command(text)


def _set_entrypoint(config: Config, text: str) -> None:
    config["Entrypoint"] = _command(text)


def _set_onbuild(config: Config, text: str) -> None:
    config.setdefault("OnBuild", []).append(text)


def _one_word(field: str) -> Callable[[Config, str], None]:
    def setter(config: Config, text: str) -> None:
        found = words(text)
        if len(found) != 1 or not found[0]:
            raise BadChange(f"{text!r} is not one word")
        config[field] = found[0]

    return setter


_SETTERS: dict[str, Callable[[Config, str], None]] = {
    "CMD": _set_command,
    "ENTRYPOINT": _set_entrypoint,
    "ENV": _set_env,
    "EXPOSE": _set_ports,
    "LABEL": _set_labels,
    "ONBUILD": _set_onbuild,
    "STOPSIGNAL": _one_word("StopSignal"),
    "USER": _one_word("User"),
    "VOLUME": _set_volumes,
    "WORKDIR": _set_workdir,
}
