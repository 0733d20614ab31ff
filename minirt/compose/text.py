"""A compose file's YAML, read with the line of each value, so that what is wrong is told with its place."""

from __future__ import annotations

import os

from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["ComposeError", "Document", "Path", "read"]

Path = tuple["str | int", ...]  # of keys and numbers from the top
LONGEST = 4 << 20  # bytes of a file
DEEPEST = 100
MOST = 200_000  # values, aliases counted again each time: a few lines of them can mean a billion


class ComposeError(MinirtError):
    """A compose file that cannot be, or a project that cannot be made as it says."""

    exit_code = 1


class Document:
    """A file's values, and where each stands."""

    __slots__ = ("file", "places", "value")

    def __init__(self, file: str, value: Any, places: dict[Path, str]) -> None:
        self.file = file
        self.value = value
        self.places = places  # FILE:LINE by path

    def place(self, path: Path) -> str:
        """Return FILE:LINE of a path, or of the nearest above it that is known."""
        known = (path[:length] for length in range(len(path), -1, -1) if path[:length] in self.places)
        return self.places.get(next(known, ()), self.file)

    def line(self, path: Path) -> int:
        """Return the line of a path."""
        number = self.place(path).rpartition(":")[2]
        return int(number) if number.isdecimal() else 0

    def fail(self, path: Path, text: str) -> ComposeError:
        """Return what is wrong at a path, with the nearest place that is known."""
        where = self.place(path)
        name = ".".join(map(str, path))
        return ComposeError(f"{where}: {name}: {text}" if name else f"{where}: {text}")


def read(path: str, text: str | None = None) -> Document:
    """Return a file's content. Args: text, in place of the file's. Raises: ComposeError."""
    try:
        import yaml
    except ImportError:
        raise ComposeError("compose needs the package PyYAML: .venv/bin/pip install PyYAML") from None
    name = os.path.relpath(path) if not path.startswith("-") and len(os.path.relpath(path)) < len(path) else path
    try:
        if text is None:
            with open(path, encoding="utf-8") as file:
                text = file.read(LONGEST + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise ComposeError(f"{name}: {getattr(error, 'strerror', None) or 'not text'}") from None
    if len(text) > LONGEST:
        raise ComposeError(f"{name}: more than 4 MB")
    try:
        node = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", None) or error).replace("\n", " ")
        raise ComposeError(f"{name}:{mark.line + 1}: {problem}" if mark else f"{name}: {problem}") from None
    except RecursionError:
        raise ComposeError(f"{name}: too deep") from None
    document = Document(name, None, {(): f"{name}:1"})
    if node is not None:
        document.value = Reader(document, yaml).value(node, (), 0)
    return document


class Reader:
    """YAML's nodes to values; its numbers, truths and dates are read by PyYAML."""

    def __init__(self, document: Document, yaml: Any) -> None:
        self.document = document
        self.yaml = yaml
        self.plain = yaml.SafeLoader("")
        self.count = 0

    def value(self, node: Any, path: Path, depth: int) -> Any:
        """Return a node's value, and note its place. Raises: ComposeError."""
        self.count += 1
        self.document.places[path] = f"{self.document.file}:{node.start_mark.line + 1}"
        if depth > DEEPEST or self.count > MOST:
            raise self.document.fail(path, "too deep" if depth > DEEPEST else "too many values")
        if isinstance(node, self.yaml.SequenceNode):
            return [self.value(one, (*path, i), depth + 1) for i, one in enumerate(node.value)]
        if isinstance(node, self.yaml.MappingNode):
            return self.mapping(node, path, depth)
        if node.tag.endswith((":timestamp", ":binary")) or not node.tag.startswith("tag:yaml.org,2002:"):
            if node.tag in ("!reset", "!override"):
                raise self.document.fail(path, f"{node.tag} is not implemented")
            return node.value
        kind = node.tag.rpartition(":")[2]
        if (kind == "bool" and node.value.lower() not in ("true", "false")) or (kind in ("int", "float") and ":" in node.value):
            return node.value  # a text to Go's YAML, which docker compose has: yes, no, on, off; and 22:22, a port of the host
        try:
            return self.plain.construct_object(node)
        except (self.yaml.YAMLError, ValueError) as error:
            raise self.document.fail(path, str(error).splitlines()[0]) from None

    def mapping(self, node: Any, path: Path, depth: int) -> dict[str, Any]:
        """Return a mapping; what << names is there too, unless the mapping says it itself (yaml.org/type/merge.html)."""
        found: dict[str, Any] = {}
        merged: list[Any] = []
        for key_node, value_node in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged += value_node.value if isinstance(value_node, self.yaml.SequenceNode) else [value_node]
                continue
            key = key_node.value if isinstance(key_node, self.yaml.ScalarNode) else None
            line = f"{self.document.file}:{key_node.start_mark.line + 1}"
            if key is None:
                raise ComposeError(f"{line}: a key is a text")
            if key in found:
                raise ComposeError(f"{line}: {'.'.join(map(str, (*path, key)))}: is there twice")
            found[key] = self.value(value_node, (*path, key), depth + 1)
            self.document.places[(*path, key)] = line
        for one in merged:
            if not isinstance(one, self.yaml.MappingNode):
                raise self.document.fail(path, "<< takes a mapping")
            for key, value in self.value(one, (*path, "<<"), depth + 1).items():
                found.setdefault(key, value)
        return found
