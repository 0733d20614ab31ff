"""Words to a tree: text, pipelines, and the blocks if, with, range."""

from __future__ import annotations

from minirt.template.functions import FUNCTIONS
from minirt.template.words import TemplateError, Word, cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Block", "Call", "Chain", "Constant", "Jump", "Literal", "Name", "Node", "Pipe", "Variable", "parse"]

LATER = ("define", "template", "block")
DEEPEST = 100  # blocks and brackets in each other


class Node:
    """Part of a tree; `at` is its column."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at


class Literal(Node):
    """Text as it is."""

    __slots__ = ("text",)

    def __init__(self, at: int, text: str) -> None:
        super().__init__(at)
        self.text = text


class Constant(Node):
    """A number, a text, true, false, nil."""

    __slots__ = ("value",)

    def __init__(self, at: int, value: Any) -> None:
        super().__init__(at)
        self.value = value


class Variable(Node):
    """$x; $ is the data that the template began with."""

    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        super().__init__(at)
        self.name = name


class Name(Node):
    """A function's name."""

    __slots__ = ("name",)

    def __init__(self, at: int, name: str) -> None:
        super().__init__(at)
        self.name = name


class Chain(Node):
    """Fields of a value: .A.B, $x.A, (pipe).A; `base` None is the dot."""

    __slots__ = ("base", "fields")

    def __init__(self, at: int, base: Node | None, fields: list[str]) -> None:
        super().__init__(at)
        self.base = base
        self.fields = fields


class Call(Node):
    """A command: its first word, and arguments."""

    __slots__ = ("words",)

    def __init__(self, at: int, words: list[Node]) -> None:
        super().__init__(at)
        self.words = words


class Pipe(Node):
    """Commands, each of which gets the result of the one before as its last argument; perhaps kept in variables."""

    __slots__ = ("calls", "declares", "variables")

    def __init__(self, at: int, calls: list[Call], variables: list[str], declares: bool) -> None:
        super().__init__(at)
        self.calls = calls
        self.variables = variables
        self.declares = declares  # := and not =


class Block(Node):
    """if, with or range, with what it does and what else."""

    __slots__ = ("body", "kind", "other", "pipe")

    def __init__(self, at: int, kind: str, pipe: Pipe, body: list[Node], other: list[Node]) -> None:
        super().__init__(at)
        self.kind = kind
        self.pipe = pipe
        self.body = body
        self.other = other


class Jump(Node):
    """break or continue."""

    __slots__ = ("kind",)

    def __init__(self, at: int, kind: str) -> None:
        super().__init__(at)
        self.kind = kind


def parse(text: str) -> list[Node]:
    """Return a template's tree. Raises: TemplateError."""
    parser = Parser(text)
    nodes, ending = parser.nodes([], 0)
    if ending:
        raise TemplateError(f"--format: {{{{{ending}}}}} without an if, with or range before it")
    return nodes


class Parser:
    """What is left of the words, and which variables there are."""

    def __init__(self, text: str) -> None:
        self.words = cut(text)
        self.next = 0
        self.known: list[set[str]] = [{"$"}]

    def fail(self, word: Word, text: str) -> TemplateError:
        """Return what is wrong, with its place."""
        return TemplateError(f"--format: column {word.at}: {text}")

    def take(self) -> Word:
        """Return the next word."""
        self.next += 1
        return self.words[self.next - 1]

    def peek(self) -> Word:
        """Return the next word and leave it there."""
        return self.words[self.next]

    def nodes(self, blocks: list[str], depth: int) -> tuple[list[Node], str]:
        """Return what stands up to the end of a block, and the word that ended it: end, else, or nothing."""
        if depth > DEEPEST:
            raise TemplateError(f"--format: more than {DEEPEST} blocks in each other")
        found: list[Node] = []
        while self.next < len(self.words):
            word = self.take()
            if word.kind == "literal":
                found.append(Literal(word.at, word.text))
                continue
            first = self.peek()
            if first.kind == "name" and first.text in ("end", "else"):
                self.take()
                if first.text == "end":
                    self.close()
                return found, first.text
            found.append(self.action(first, blocks, depth))
        return found, ""

    def close(self) -> None:
        """Take the end of an action."""
        word = self.take()
        if word.kind != "end":
            raise self.fail(word, f"{word.text!r} was not expected; }}}} was")

    def action(self, first: Word, blocks: list[str], depth: int) -> Node:
        """Return what stands between one {{ and its }}, or its {{end}}."""
        if first.kind == "name" and first.text in ("if", "with", "range"):
            self.take()
            return self.block(first, first.text, blocks, depth)
        if first.kind == "name" and first.text in ("break", "continue"):
            self.take()
            if "range" not in blocks:
                raise self.fail(first, f"{first.text} is for a range")
            self.close()
            return Jump(first.at, first.text)
        if first.kind == "name" and first.text in LATER:
            raise self.fail(first, f"{first.text} is not implemented")
        pipe = self.pipe(0)
        self.close()
        return pipe

    def block(self, first: Word, kind: str, blocks: list[str], depth: int) -> Block:
        """Return an if, with or range, and take its {{end}}."""
        self.known.append(set())
        pipe = self.pipe(0, kind == "range")
        self.close()
        body, ending = self.nodes([*blocks, kind], depth + 1)
        other: list[Node] = []
        if ending == "else":
            following = self.peek()
            if following.kind == "name" and following.text in ("if", "with") and kind == following.text:
                self.take()
                other = [self.block(following, following.text, blocks, depth + 1)]
                ending = "end"  # the inner one has taken it
            else:
                self.close()
                other, ending = self.nodes([*blocks, kind] if kind != "range" else blocks, depth + 1)
        if ending != "end":
            raise self.fail(first, f"{{{{{kind}}}}} without {{{{end}}}}")
        self.known.pop()
        return Block(first.at, kind, pipe, body, other)

    def pipe(self, depth: int, ranges: bool = False) -> Pipe:
        """Return a pipeline, up to }} or )."""
        if depth > DEEPEST:
            raise TemplateError(f"--format: more than {DEEPEST} brackets in each other")
        start = self.peek()
        variables, declares = self.assigned(ranges)
        calls = [self.call(depth)]
        while self.peek().text == "|" and self.peek().kind == "sign":
            self.take()
            calls.append(self.call(depth))
        for call in calls[1:]:
            if not isinstance(call.words[0], (Name, Chain)):
                raise TemplateError(f"--format: column {call.at}: after | stands a function's name")
        if declares:
            self.known[-1].update(variables)
        return Pipe(start.at, calls, variables, declares)

    def assigned(self, ranges: bool) -> tuple[list[str], bool]:
        """Return the variables that a pipeline's result goes to, and whether they are new."""
        words = self.words[self.next : self.next + 4]
        if not words or words[0].kind != "variable":
            return [], False
        if len(words) > 1 and words[1].text in (":=", "=") and words[1].kind == "sign":
            count = 1
        elif ranges and [w.text for w in words[1:4:2]] == [",", ":="] and words[2].kind == "variable":
            count = 2
        else:
            return [], False
        names = [words[0].text, words[2].text][:count]
        declares = words[2 * count - 1].text == ":="
        if not declares and not any(names[0] in known for known in self.known):
            raise self.fail(words[0], f"there is no variable {names[0]}")
        self.next += 2 * count
        return names, declares

    def call(self, depth: int) -> Call:
        """Return one command."""
        start = self.peek()
        words: list[Node] = []
        while True:
            word = self.peek()
            if word.kind == "end" or (word.kind == "sign" and word.text in "|)"):
                break
            if words and not word.spaced:
                raise self.fail(word, f"a space is missing before {word.text!r}")
            words.append(self.operand(depth))
        if not words:
            raise self.fail(start, "a value is missing")
        return Call(start.at, words)

    def operand(self, depth: int) -> Node:
        """Return one value of a command, with the fields that are asked of it."""
        word = self.take()
        base: Node | None
        if word.kind in ("text", "char", "number"):
            base = Constant(word.at, word.value)
        elif word.kind == "name":
            base = self.named(word)
        elif word.kind == "variable":
            if not any(word.text in known for known in self.known):
                raise self.fail(word, f"there is no variable {word.text}")
            base = Variable(word.at, word.text)
        elif word.kind == "field":
            base = Chain(word.at, None, [word.text[1:]])
        elif word.kind == "sign" and word.text == "(":
            base = self.pipe(depth + 1)
            closing = self.take()
            if closing.text != ")":
                raise self.fail(closing, "a ( is not closed")
        elif word.kind == "sign" and word.text == ".":
            base = Chain(word.at, None, [])
        else:
            raise self.fail(word, f"{word.text!r} was not expected")
        fields = []
        while self.peek().kind == "field" and not self.peek().spaced:
            fields.append(self.take().text[1:])
        if not fields:
            return base
        if isinstance(base, Chain) and base.fields:
            return Chain(base.at, base.base, [*base.fields, *fields])
        if isinstance(base, (Constant, Name)) or (isinstance(base, Chain) and base.base is None):
            raise self.fail(word, f"{word.text!r} has no fields")
        return Chain(base.at, base, fields)

    def named(self, word: Word) -> Node:
        """Return a constant or a function."""
        if word.text in ("true", "false", "nil"):
            return Constant(word.at, {"true": True, "false": False, "nil": None}[word.text])
        if word.text not in FUNCTIONS:
            raise self.fail(word, f"there is no function {word.text!r}; there are {', '.join(sorted(FUNCTIONS))}")
        return Name(word.at, word.text)
