"""Words of an instruction: quotes, escapes and $VARIABLES, as a Dockerfile has them.

    'as it stands'   "with $VARIABLES"   \\x: x, whatever it means
    $A ${A}          ${A:-word} ${A:+word} ${A:?message}     and without the colon: only where A is not set at all
    ${A#glob} ${A##glob} ${A%glob} ${A%%glob}                without the shortest, the longest match at an end
    ${A/glob/text} ${A//glob/text}                           the first, all replaced

(docs.docker.com/reference/dockerfile, "Environment replacement"; POSIX.1-2017 XCU 2.6.2 for what the forms mean.)
"""

from __future__ import annotations

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BadWord", "expand", "heredoc_words", "split"]

SPECIAL = "@*#?-$!0"  # a shell's own parameters, of which there are none here


class BadWord(BuildError):
    """A quote without its end, or a substitution that is none; who knows the line puts it before."""


def expand(text: str, variables: Mapping[str, str], escape: str = "\\", *, keep_quotes: bool = False) -> str:
    """Return a word with its variables replaced, its quotes and escapes taken away.

    Args: text, one word, blanks and all; variables by name; escape, the escape character; keep_quotes, for a
    here-document, in which quotes are like any other character.
    Raises BadWord.
    """
    return _Word(text, variables, escape, keep_quotes).all()


def split(text: str, escape: str = "\\") -> list[str]:
    """Part a text at blanks outside quotes; quotes and escapes stay. Raises BadWord for a quote without its end."""
    words: list[str] = []
    word, quote, at = "", "", 0
    while at < len(text):
        char = text[at]
        if char in " \t\n\r" and not quote:
            if word:
                words.append(word)
            word = ""
        elif char == escape and quote != "'" and at + 1 < len(text):
            word += text[at : at + 2]
            at += 1
        else:
            if char == quote:
                quote = ""
            elif char in "'\"" and not quote:
                quote = char
            word += char
        at += 1
    if quote:
        raise BadWord(f"a {quote} without its end")
    return [*words, word] if word else words


def heredoc_words(text: str, escape: str = "\\") -> list[tuple[str, bool, bool]]:
    """Find the words that announce here-documents: `<<EOF`, `3<<-"EOF"`.

    Returns (the word that ends it, whether variables mean something in it, whether tabs are taken away) of each.
    """
    try:
        words = split(text, escape)
    except BadWord:  # the shell may know better what these quotes are
        words = text.split()
    found = []
    for word in words:
        digits, arrows, rest = word.partition("<<")
        if not arrows or digits.strip("0123456789") or "<" in rest:
            continue
        strip = rest.startswith("-")
        quoted = rest.removeprefix("-")
        name = expand(quoted, _Unset(), escape) if quoted else ""
        if name:
            found.append((name, name == quoted, strip))
    return found


class _Unset(dict[str, str]):
    """Variables that stay as they are written: in a here-document's name they mean nothing."""

    def __contains__(self, name: object) -> bool:
        return True

    def get(self, name: str, default: object = None) -> str:
        return "$" + name


class _Word:
    """Goes through a word, once."""

    def __init__(self, text: str, variables: Mapping[str, str], escape: str, keep_quotes: bool) -> None:
        self.text = text
        self.variables = variables
        self.escape = escape
        self.keep = keep_quotes
        self.at = 0

    def all(self) -> str:
        """Return the whole."""
        return self.until("")

    def until(self, ends: str) -> str:
        """Read up to one of these characters, outside quotes; it stays unread."""
        made: list[str] = []
        while self.at < len(self.text) and self.text[self.at] not in ends:
            char = self.take()
            if char == "$":
                made.append(self.dollar())
            elif char == self.escape:
                made.append(self.escaped(ends))
            elif char == "'" and not self.keep:
                made.append(self.single())
            elif char == '"' and not self.keep:
                made.append(self.double())
            else:
                made.append(char)
        return "".join(made)

    def take(self) -> str:
        """Return the next character."""
        self.at += 1
        return self.text[self.at - 1]

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def escaped(self, ends: str) -> str:
        """An escape outside quotes takes any character's meaning away; in a here-document only that of $ and itself."""
        if not self.peek():
            return self.escape  # the last character of all: it is itself
        char = self.take()
        return self.escape + char if self.keep and char not in "$" + self.escape + ends else char

    def single(self) -> str:
        end = self.text.find("'", self.at)
        if end < 0:
            raise BadWord(f"a ' without its end in {self.text!r}")
        made, self.at = self.text[self.at : end], end + 1
        return made

    def double(self) -> str:
        made: list[str] = []
        while self.peek() not in ("", '"'):
            char = self.take()
            if char == "$":
                made.append(self.dollar())
            elif char == self.escape and self.peek() and self.peek() in '"$' + self.escape:
                made.append(self.take())
            else:
                made.append(char)
        if not self.peek():
            raise BadWord(f'a " without its end in {self.text!r}')
        self.take()
        return "".join(made)

    # -- $NAME

    def dollar(self) -> str:
        if self.peek() != "{":
            name = self.name()
            return self.value(name) if name else "$"
        self.take()
        name = self.name()
        if not name:
            raise BadWord(f"{self.text!r}: ${{ is not followed by a variable's name")
        operator = self.take() if self.peek() else ""
        if operator == "}":
            return self.value(name)
        made = self.modified(name, operator)
        if self.peek() != "}":
            raise BadWord(f"{self.text!r}: ${{{name} has no }}")
        self.take()
        return made

    def name(self) -> str:
        start = self.at
        if self.peek() and self.peek() in SPECIAL:
            return self.take()
        digits = self.peek().isdecimal()
        while self.peek() and self.peek().isascii() and (self.peek().isdecimal() if digits else _is_name(self.peek())):
            self.at += 1
        return self.text[start : self.at]

    def value(self, name: str) -> str:
        return self.variables.get(name, "")

    def modified(self, name: str, operator: str) -> str:
        """Return what a form with an operator means; what follows the operator is read here."""
        value, given = self.value(name), name in self.variables
        if operator == ":":
            given = given and value != ""
            operator = self.take() if self.peek() else ""
            if operator not in ("-", "+", "?"):
                raise BadWord(f"{self.text!r}: ${{{name}:{operator} is no substitution: there are :- :+ :?")
        if operator == "-":
            word = self.until("}")
            return value if given else word
        if operator == "+":
            word = self.until("}")
            return word if given else ""
        if operator == "?":
            word = self.until("}")
            if not given:
                raise BadWord(f"{name}: {word or 'is not set'}")
            return value
        if operator in ("#", "%"):
            return self.trimmed(value, operator)
        if operator == "/":
            return self.replaced(value)
        raise BadWord(f"{self.text!r}: ${{{name}{operator} is no substitution")

    def trimmed(self, value: str, operator: str) -> str:
        greedy = self.peek() == operator
        if greedy:
            self.take()
        pattern = _regular(self.pattern("}"), greedy)
        import re

        if operator == "#":
            match = re.match(pattern, value, re.DOTALL)
            return value[match.end() :] if match else value
        starts = range(len(value) + 1) if greedy else range(len(value), -1, -1)
        for start in starts:
            if re.fullmatch(pattern, value[start:], re.DOTALL):
                return value[:start]
        return value

    def replaced(self, value: str) -> str:
        import re

        everywhere = self.peek() == "/"
        if everywhere:
            self.take()
        pattern = _regular(self.pattern("/}"), True)
        text = ""
        if self.peek() == "/":
            self.take()
            text = self.until("}")
        return re.sub(pattern, lambda _: text, value, count=0 if everywhere else 1, flags=re.DOTALL) if pattern else value

    def pattern(self, ends: str) -> str:
        """Read a pattern: an escape stays, so that `\\*` is a star."""
        made = ""
        while self.peek() and self.peek() not in ends:
            char = self.take()
            if char == self.escape and self.peek():
                made += "\\" + self.take()
            elif char == "$":
                made += self.dollar()
            else:
                made += char
        return made


def _is_name(char: str) -> bool:
    return char.isalnum() or char == "_"


def _regular(glob: str, greedy: bool) -> str:
    """Return a glob of * and ? as a regular expression."""
    import re

    made, at = "", 0
    while at < len(glob):
        char = glob[at]
        at += 1
        if char == "\\" and at < len(glob):
            made += re.escape(glob[at])
            at += 1
        elif char == "*":
            made += ".*" if greedy else ".*?"
        else:
            made += "." if char == "?" else re.escape(char)
    return made
