"""Variables in a compose file: $NAME, ${NAME}, and what is to be where one is not set (compose-spec, "Interpolation").

    ${NAME:-text}  text if it is not set or empty     ${NAME-text}  if it is not set
    ${NAME:?text}  an error then, with the text       ${NAME?text}
    ${NAME:+text}  text if it is set and not empty    ${NAME+text}
    $$             a dollar

A text may have variables of its own. They come from the environment, and before that from the file .env.
"""

from __future__ import annotations

import re

from minirt.compose.text import ComposeError, Document, Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

__all__ = ["expand", "expand_all", "read_env"]

NAME = re.compile(r"[_a-zA-Z][_a-zA-Z0-9]*", re.ASCII)
DEEPEST = 30


def expand_all(document: Document, variables: Mapping[str, str]) -> None:
    """Replace the variables in all texts of a document; keys stay as they are. Raises: ComposeError."""

    def walk(value: Any, path: Path) -> Any:
        if isinstance(value, str) and "$" in value:
            try:
                return expand(value, variables)
            except ValueError as error:
                raise document.fail(path, str(error)) from None
        if isinstance(value, dict):
            return {key: walk(one, (*path, key)) for key, one in value.items()}
        return [walk(one, (*path, i)) for i, one in enumerate(value)] if isinstance(value, list) else value

    document.value = walk(document.value, ())


def expand(text: str, variables: Mapping[str, str], depth: int = 0) -> str:
    """Return a text with its variables replaced. Raises: ValueError, which says what is wrong."""
    if depth > DEEPEST:
        raise ValueError("variables in variables, too deep")
    out, at = [], 0
    while (dollar := text.find("$", at)) >= 0:
        out.append(text[at:dollar])
        following = text[dollar + 1 : dollar + 2]
        found = NAME.match(text, dollar + 1)
        if following == "$":
            out.append("$")
            at = dollar + 2
        elif following == "{":
            end = closing(text, dollar + 2)
            out.append(braced(text[dollar + 2 : end], variables, depth))
            at = end + 1
        elif found:
            out.append(variables.get(found.group(), ""))
            at = found.end()
        else:
            raise ValueError(f"{text!r}: after $ stands a name, or $ for a dollar")
    return "".join([*out, text[at:]])


def closing(text: str, at: int) -> int:
    """Return where the } of a ${ is. Raises: ValueError."""
    depth = 1
    while at < len(text):
        if text[at] == "}":
            depth -= 1
        elif text.startswith("${", at):
            depth += 1
        if not depth:
            return at
        at += 1
    raise ValueError(f"{text!r}: a }} is missing")


def braced(inner: str, variables: Mapping[str, str], depth: int) -> str:
    """Return what ${...} means. Raises: ValueError."""
    found = NAME.match(inner)
    if not found:
        raise ValueError(f"${{{inner}}}: a name is missing")
    name, rest = found.group(), inner[found.end() :]
    value = variables.get(name)
    if not rest:
        return value or ""
    sign, text = (rest[:2], rest[2:]) if rest[0] == ":" else (rest[:1], rest[1:])
    there = bool(value) if sign[0] == ":" else value is not None
    if sign[-1:] == "-":
        return value or "" if there else expand(text, variables, depth + 1)
    if sign[-1:] == "+":
        return expand(text, variables, depth + 1) if there else ""
    if sign[-1:] == "?":
        if there:
            return value or ""
        raise ValueError(f"{name} is not set{': ' + expand(text, variables, depth + 1) if text else ''}")
    raise ValueError(f"${{{inner}}}: after a name stand -, +, ? or these after a colon")


def read_env(path: str, variables: Mapping[str, str], required: bool = True) -> dict[str, str]:
    """Return the variables of a file of NAME=VALUE lines (compose-spec, ".env file syntax"). Raises: ComposeError.

    Args:
        path: of the file.
        variables: for those in values that are not in '...'.
        required: whether it must be there.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(1 << 20)
    except FileNotFoundError:
        if not required:
            return {}
        raise ComposeError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ComposeError(f"{path}: {getattr(error, 'strerror', None) or 'not text'}") from None
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        plain = line.strip().removeprefix("export ").lstrip()
        if not plain or plain.startswith("#"):
            continue
        name, equals, value = plain.partition("=")
        name = name.strip()
        if not NAME.fullmatch(name.replace(".", "_").replace("-", "_")):
            raise ComposeError(f"{path}:{number}: {name!r} is no name of a variable")
        if not equals:
            if name in variables:
                found[name] = variables[name]
            continue
        try:
            found[name] = env_value(value.strip(), {**found, **variables})
        except ValueError as error:
            raise ComposeError(f"{path}:{number}: {error}") from None
    return found


def env_value(text: str, variables: Mapping[str, str]) -> str:
    """Return a value: '...' as it is, "..." with variables and escapes, else up to a comment. Raises: ValueError."""
    if text[:1] in ("'", '"'):
        end = text.find(text[0], 1)
        while text[0] == '"' and end > 0 and text[end - 1] == "\\":
            end = text.find('"', end + 1)
        if end < 0:
            raise ValueError(f"{text[0]} is not closed")
        inner = text[1:end]
        if text[0] == "'":
            return inner
        plain = inner.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"').replace("\\\\", "\\")
        return expand(plain, variables)
    return expand(re.split(r"\s+#", text, maxsplit=1)[0].rstrip(), variables)
