"""What an image name says: `[registry/]repository[:tag][@digest]`.

The short forms are docker's: `busybox` is `docker.io/library/busybox:latest`. The grammar is that of
distribution (github.com/distribution/reference, reference.go), parsed by hand: it is small, and `re`
would be a third of the time that `minirt run` spends in Python.
"""

from __future__ import annotations

from minirt.image.errors import BadReference

__all__ = ["Reference"]

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"

_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_ALNUM = _LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_WORD = _ALNUM | {"_"}
_HEX = frozenset("0123456789abcdef")


class Reference:
    """An image name, in full. Immutable by custom; equal where the text forms are equal."""

    __slots__ = ("digest", "registry", "repository", "tag")

    def __init__(self, registry: str, repository: str, tag: str | None, digest: str | None) -> None:
        self.registry = registry  # host[:port]
        self.repository = repository  # path components, "/" between
        self.tag = tag  # None where only a digest was given
        self.digest = digest  # algorithm:hex, or None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a name as docker does, and fill in what it leaves out.

        Returns the reference. Raises BadReference, saying which part is wrong.
        """
        rest, at, digest = text.partition("@")
        if at and not _is_digest(digest):
            raise _bad(text, "what follows '@' is no digest")
        name, tag = rest, None
        colon = rest.rfind(":")
        if colon > rest.rfind("/"):  # else it is a port
            name, tag = rest[:colon], rest[colon + 1 :]
            if not _is_tag(tag):
                raise _bad(text, "a tag is 1 to 128 letters, digits, '_', '.', '-'")
        registry, repository = _split_registry(name)
        if not _is_registry(registry):
            raise _bad(text, f"{registry!r} is no host name")
        _check_repository(text, registry, repository)
        if tag is None and not at:
            tag = DEFAULT_TAG
        return cls(registry, repository, tag, digest if at else None)

    @property
    def familiar(self) -> str:
        """The shortest text that means the same: `busybox:latest`."""
        short = f"{self.registry}/{self.repository}"
        if self.registry == DEFAULT_REGISTRY:
            short = self.repository.removeprefix("library/")
            if "/" in short:
                short = self.repository  # library/a/b: only one component may lose its library
        return short + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return f"{self.registry}/{self.repository}{self._suffix()}"

    def __repr__(self) -> str:
        return f"Reference.parse({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))


def _bad(text: str, reason: str) -> BadReference:
    return BadReference(f"{text[:300]!r} is not an image name: {reason}")


def _split_registry(name: str) -> tuple[str, str]:
    """Part a host from a path: only with a dot, a colon, a capital or `localhost` is it a host."""
    first, slash, rest = name.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first or first != first.lower()):
        registry, repository = first, rest
    else:
        registry, repository = DEFAULT_REGISTRY, name
    if registry == "index.docker.io":
        registry = DEFAULT_REGISTRY
    if registry == DEFAULT_REGISTRY and repository and "/" not in repository:
        repository = "library/" + repository
    return registry, repository


def _check_repository(text: str, registry: str, repository: str) -> None:
    if not repository:
        raise _bad(text, "it is empty" if not text else "the repository is empty")
    if repository != repository.lower():
        raise _bad(text, "a repository is in lower case")
    if len(registry) + 1 + len(repository) > 255:
        raise _bad(text, "it is longer than 255 characters")
    for component in repository.split("/"):
        if not _is_component(component):
            raise _bad(text, "a repository is letters and digits, with single '.', '_', '__' or '-' between")
    bare = repository.removeprefix("library/")
    if registry == DEFAULT_REGISTRY and len(bare) == 64 and _HEX.issuperset(bare):
        raise _bad(text, "64 hexadecimal digits are an image ID")


def _is_component(text: str) -> bool:
    """path-component: alpha-numeric (separator alpha-numeric)*, separator one of . _ __ and any run of -."""
    if not text or text[0] not in _LOWER or text[-1] not in _LOWER:
        return False
    separator = ""
    for char in text:
        if char in _LOWER:
            separator = ""
            continue
        separator += char
        if separator not in (".", "_", "__") and separator.strip("-"):
            return False
    return True


def _is_tag(text: str) -> bool:
    return 0 < len(text) <= 128 and text[0] in _WORD and all(c in _WORD or c in ".-" for c in text)


def _is_registry(text: str) -> bool:
    host, port = text, ""
    if text.startswith("["):  # an IPv6 address
        host, bracket, port = text[1:].partition("]")
        if not bracket or not host or not all(c in "0123456789abcdefABCDEF:" for c in host):
            return False
        return not port or (port[0] == ":" and _is_port(port[1:]))
    host, colon, port = text.partition(":")
    if colon and not _is_port(port):
        return False
    return all(_is_label(label) for label in host.split("."))


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_label(text: str) -> bool:
    ends = bool(text) and text[0] in _ALNUM and text[-1] in _ALNUM
    return ends and all(c in _ALNUM or c == "-" for c in text)


def _is_digest(text: str) -> bool:
    """digest: algorithm ':' at least 32 hexadecimal digits; an algorithm may have parts, as in `sha256+b64`."""
    algorithm, colon, encoded = text.partition(":")
    if not colon or len(encoded) < 32 or encoded.lower().strip("0123456789abcdef"):
        return False
    for separator in "+.-_":
        algorithm = algorithm.replace(separator, "\0")
    parts = algorithm.split("\0")
    return all(part and part.isascii() and part[0].isalpha() and part.isalnum() for part in parts)
