"""A template's tree and data, to text."""

from __future__ import annotations

from minirt.errors import MinirtError
from minirt.template.functions import FUNCTIONS, IN_HEADS, Mistake, truth
from minirt.template.parse import Block, Call, Chain, Constant, Jump, Literal, Name, Node, Pipe, Variable, parse
from minirt.template.show import Map, plain
from minirt.template.words import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["MAPS", "Template", "TemplateError"]

# What is a Go map in docker's objects: there a key that is missing is no mistake.
MAPS = {
    "Annotations", "ContainerLabels", "Data", "DriverOpts", "ExposedPorts", "Labels", "LogOpts", "Networks", "Options",
    "PortBindings", "Ports", "StorageOpt", "Sysctls", "Tmpfs", "Volumes", "Details", "Runtimes", "Containers", "Attributes",
}  # fmt: skip


class Jumped(MinirtError):
    """A break or continue on its way to its range."""


class Template:
    """A template, read once and run for each row.

    Args: text, as after --format. Raises: TemplateError.
    """

    def __init__(self, text: str) -> None:
        self.nodes = parse(text)

    def run(self, data: Any, head: bool = False) -> str:
        """Return what it makes of an object. Args: head, it is a table's, of names. Raises: TemplateError."""
        run = Run(data, head)
        try:
            run.all(self.nodes, data)
        except RecursionError:
            raise TemplateError("--format: too deep") from None
        return "".join(run.out)


class Run:
    """One run: variables and what has been written."""

    def __init__(self, data: Any, head: bool) -> None:
        self.head = head
        self.out: list[str] = []
        self.variables: list[tuple[str, Any]] = [("$", data)]

    def fail(self, node: Node, text: str) -> TemplateError:
        """Return what is wrong, with its place."""
        return TemplateError(f"--format: column {node.at}: {text}")

    def all(self, nodes: list[Node], dot: Any) -> None:
        """Do nodes one after the other."""
        for node in nodes:
            if isinstance(node, Literal):
                self.out.append(node.text)
            elif isinstance(node, Pipe):
                value = self.pipe(node, dot)
                if not node.variables:
                    self.out.append(plain(value))
            elif isinstance(node, Block):
                self.block(node, dot)
            elif isinstance(node, Jump):
                raise Jumped(node.kind)

    def block(self, node: Block, dot: Any) -> None:
        """Do an if, with or range; its variables end with it."""
        mark = len(self.variables)
        try:
            if node.kind == "range":
                self.range(node, dot)
                return
            value = self.pipe(node.pipe, dot)
            if truth(value):
                self.all(node.body, value if node.kind == "with" else dot)
            else:
                self.all(node.other, dot)
        finally:
            del self.variables[mark:]

    def range(self, node: Block, dot: Any) -> None:
        """Do the body for each element of a list, each value of a map in the order of its keys, each number below one."""
        mark = len(self.variables)
        value = self.calls(node.pipe, dot)
        if isinstance(value, dict) and isinstance(value, Map):
            pairs: list[tuple[Any, Any]] = [(key, member(value, key)) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif isinstance(value, int) and not isinstance(value, bool):
            pairs = [(i, i) for i in range(min(value, 100_000))]
        elif value is None:
            pairs = []
        else:
            raise self.fail(node, f"range cannot go over {plain(value)[:40]}")
        if not pairs:
            self.all(node.other, dot)
        for key, one in pairs:
            del self.variables[mark:]
            names = node.pipe.variables
            values = [one] if len(names) == 1 else [key, one]
            self.variables += zip(names, values, strict=False) if names else []
            try:
                self.all(node.body, one)
            except Jumped as jump:
                if str(jump) == "break":
                    break

    def pipe(self, node: Pipe, dot: Any) -> Any:
        """Return a pipeline's value, and keep it in its variable."""
        value = self.calls(node, dot)
        for name in node.variables:
            if node.declares:
                self.variables.append((name, value))
            else:
                at = max(i for i, (known, _) in enumerate(self.variables) if known == name)
                self.variables[at] = (name, value)
        return value

    def calls(self, node: Pipe, dot: Any) -> Any:
        """Return the value of the last command, each of which gets the value of the one before."""
        passed: tuple[Any, ...] = ()
        for call in node.calls:
            passed = (self.call(call, dot, passed),)
        return passed[0]

    def call(self, node: Call, dot: Any, passed: tuple[Any, ...]) -> Any:
        """Return a command's value."""
        first, *rest = node.words
        if not isinstance(first, Name):
            if rest or passed:
                return self.method(first, rest, dot, passed)
            if isinstance(first, Constant) and first.value is None:
                raise self.fail(first, "nil is not a command")
            return self.value(first, dot)
        return self.function(first, rest, dot, passed)

    def method(self, node: Node, words: list[Node], dot: Any, passed: tuple[Any, ...]) -> Any:
        """Return what a field that is a function makes of its values, as {{.Label "key"}}."""
        found = self.value(node, dot) if isinstance(node, Chain) else None
        if not callable(found):
            raise self.fail(node, "only a function takes values")
        values = [*(self.value(word, dot) for word in words), *passed]
        if len(values) != 1 or not isinstance(values[0], str):
            raise self.fail(node, "it takes one text")
        return found(values[0])

    def function(self, node: Name, words: list[Node], dot: Any, passed: tuple[Any, ...]) -> Any:
        """Return what a function makes of its values."""
        function, least, most = FUNCTIONS[node.name]
        count = len(words) + len(passed)
        if not least <= count <= most:
            raise self.fail(node, f"{node.name} takes {least if least == most else f'at least {least}'} values, not {count}")
        if function is None:  # and, or: the first that decides
            value: Any = None
            for word in [*words, *passed]:
                value = self.value(word, dot) if isinstance(word, Node) else word
                if truth(value) == (node.name == "or"):
                    return value
            return value
        if self.head and node.name in IN_HEADS:
            return self.value(words[0], dot) if words else passed[-1]
        try:
            return function(*[self.value(word, dot) for word in words], *passed)
        except Mistake as mistake:
            raise self.fail(node, f"{node.name}: {mistake}") from None

    def value(self, node: Node, dot: Any) -> Any:
        """Return one word's value."""
        if isinstance(node, Constant):
            return node.value
        if isinstance(node, Variable):
            return next(value for name, value in reversed(self.variables) if name == node.name)
        if isinstance(node, Pipe):
            return self.pipe(node, dot)
        if isinstance(node, Name):
            return self.function(node, [], dot, ())
        assert isinstance(node, Chain)
        value = dot if node.base is None else self.value(node.base, dot)
        for field in node.fields:
            value = self.field(node, value, field)
        return value

    def field(self, node: Node, value: Any, field: str) -> Any:
        """Return one field of a value."""
        if isinstance(value, Map):
            return member(value, field)
        if isinstance(value, dict):
            if field not in value:
                raise self.fail(node, f"there is no field .{field}; there are {', '.join(f'.{key}' for key in list(value)[:40])}")
            return member(value, field)
        if value is None:
            raise self.fail(node, f"nothing has a field .{field}")
        raise self.fail(node, f"{plain(value)[:40]!r} has no field .{field}")


def member(value: dict[str, Any], key: str) -> Any:
    """Return a value of an object, marked as a map where docker has one."""
    found = value.get(key)
    if isinstance(found, dict) and key in MAPS and not isinstance(found, Map):
        return Map(found)
    return found
