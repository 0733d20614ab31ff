"""registries.conf: where a name may be found, under which other name, and what is allowed there (registries.conf(5), version 2).

    short names      [aliases], then each of unqualified-search-registries, then docker.io
    locations        [[registry]] prefix -> location, with its mirrors before it; insecure; blocked
"""

from __future__ import annotations

import os

from minirt.image.reference import Reference
from minirt.image.remote.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Place", "Registries"]


class Place:
    """One place where an image may be: a host, a repository there, and how the host is spoken to."""

    __slots__ = ("insecure", "registry", "repository")

    def __init__(self, registry: str, repository: str, insecure: bool) -> None:
        self.registry = registry  # host[:port]
        self.repository = repository
        self.insecure = insecure  # any certificate, or plain HTTP

    def __repr__(self) -> str:
        return f"Place({self.registry!r}, {self.repository!r}, {self.insecure})"


class Registries:
    """What the files say.

    Args: documents, parsed, the later ones over the earlier.
    """

    def __init__(self, *documents: dict[str, Any]) -> None:
        self.search: list[str] = []
        self.aliases: dict[str, str] = {}
        self._tables: dict[str, dict[str, Any]] = {}  # by prefix
        for document in documents:
            self.search = document.get("unqualified-search-registries", self.search)
            self.aliases |= document.get("aliases", {})
            for table in document.get("registry", []):
                self._tables[str(table.get("prefix") or table.get("location"))] = table

    @classmethod
    def load(cls) -> Registries:
        """Read the files of this machine and user. Raises RegistryError for one that is not TOML, or not as it is to be."""
        return cls(*map(_parse, _files()))

    def candidates(self, name: str) -> list[Reference]:
        """Return what a name that a person typed may mean, in the order in which to try. Raises BadReference."""
        reference = Reference.parse(name)
        bare = name.partition("@")[0]
        short = bare[: bare.rfind(":")] if bare.rfind(":") > bare.rfind("/") else bare
        if reference.registry != "docker.io" or short.startswith(("docker.io/", "index.docker.io/")):
            return [reference]
        rest = name[len(short) :]
        if short in self.aliases:
            return [Reference.parse(self.aliases[short] + rest)]
        return [Reference.parse(f"{host}/{short}{rest}") for host in self.search] or [reference]

    def places(self, reference: Reference) -> list[Place]:
        """Return where to look for an image: mirrors first. Raises RegistryError where it is blocked."""
        name = f"{reference.registry}/{reference.repository}"
        prefix, table = self._match(name)
        if table.get("blocked"):
            raise RegistryError(f"{name} is blocked by registries.conf ({prefix})")
        places = []
        for mirror in table.get("mirror", []):
            when = mirror.get("pull-from-mirror") or ("digest-only" if table.get("mirror-by-digest-only") else "all")
            if when == "all" or (when == "digest-only") == (reference.digest is not None):
                places.append(_place(name, prefix, mirror))
        return [*places, _place(name, prefix, table)]

    def home(self, reference: Reference) -> Place:
        """Return where to push to: never a mirror. Raises RegistryError where it is blocked."""
        return self.places(reference)[-1]

    def host(self, registry: str) -> Place:
        """Return a registry itself, HOST[:PORT], and no repository of it."""
        return Place(registry, "", bool(self._match(registry)[1].get("insecure")))

    def _match(self, name: str) -> tuple[str, dict[str, Any]]:
        """Return the longest prefix that matches, and its table."""
        matching = [prefix for prefix in self._tables if _is_prefix(prefix, name)]
        prefix = max(matching, key=len, default="")
        return prefix, self._tables.get(prefix, {})


def _is_prefix(prefix: str, name: str) -> bool:
    if prefix.startswith("*."):  # subdomains: the whole of a host
        return name.partition("/")[0].partition(":")[0].endswith(prefix[1:])
    return name == prefix or name.startswith(prefix + "/")


def _place(name: str, prefix: str, table: dict[str, Any]) -> Place:
    location = table.get("location")
    if location:
        name = str(location) + (name[len(prefix) :] if not prefix.startswith("*.") else "/" + name.partition("/")[2])
    registry, _, repository = name.partition("/")
    return Place(registry, repository, bool(table.get("insecure")))


def _files() -> list[str]:
    """Return the configuration files that there are: one, and the drop-ins of its directories."""
    given = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    own = os.path.expanduser("~/.config/containers")
    if given:
        mains, folders = [given], []
    else:
        mains = [f"{own}/registries.conf", "/etc/containers/registries.conf", "/usr/share/containers/registries.conf"]
        folders = ["/usr/share/containers/registries.conf.d", "/etc/containers/registries.conf.d", f"{own}/registries.conf.d"]
    files = [next((path for path in mains if os.path.exists(path)), "")]
    for folder in folders:
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        files += [f"{folder}/{name}" for name in names if name.endswith(".conf")]
    return [path for path in files if path]


def _parse(path: str) -> dict[str, Any]:
    import tomllib

    try:
        with open(path, "rb") as stream:
            document = tomllib.load(stream)
    except OSError as error:
        raise RegistryError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise RegistryError(f"{path} is not TOML: {error}") from None
    if wrong := _mistake(document):
        raise RegistryError(f"{path}: {wrong} is not as registries.conf(5) has it")
    return document


def _text(table: object, name: str) -> str:
    """Return a text of a table; "" where it is no table, or has no such text."""
    found = table.get(name) if isinstance(table, dict) else ""
    return found if isinstance(found, str) else ""


def _mistake(document: dict[str, Any]) -> str:
    """Return the name of what is not of its type, or ""."""
    hosts, aliases = document.get("unqualified-search-registries", []), document.get("aliases", {})
    if not (isinstance(hosts, list) and all(isinstance(host, str) for host in hosts)):
        return "unqualified-search-registries"
    if not (isinstance(aliases, dict) and all(isinstance(name, str) for name in aliases.values())):
        return "aliases"
    tables = document.get("registry", [])
    if not isinstance(tables, list):
        return "registry"
    for table in tables:
        if not (_text(table, "prefix") or _text(table, "location")):
            return "a [[registry]] without prefix and location"
        mirrors = table.get("mirror", [])
        if not (isinstance(mirrors, list) and all(_text(one, "location") for one in mirrors)):
            return f"a mirror of {table.get('prefix') or table.get('location')}"
    return ""
