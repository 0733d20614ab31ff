"""A project: its files read, merged, checked; which of its services are wanted, and in which order they depend on each other."""

from __future__ import annotations

import os

from minirt.compose.merge import as_mapping, named
from minirt.compose.sources import read_all
from minirt.compose.text import ComposeError, Document
from minirt.compose.variables import read_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

__all__ = ["FILES", "Project", "find_files", "load", "project_name"]

FILES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


class Project:
    """A project.

    Attributes:
        name: of it.
        directory: what relative paths count from.
        files: the compose files.
        document: all of them as one, checked.
        variables: of the environment and .env.
        services: those whose profiles are on, by name.
    """

    __slots__ = ("directory", "document", "everything", "files", "name", "services", "variables")

    def __init__(self, name: str, directory: str, files: list[str], document: Document, variables: dict[str, str]) -> None:
        self.name = name
        self.directory = directory
        self.files = files
        self.document = document
        self.variables = variables
        self.everything: dict[str, dict[str, Any]] = document.value.get("services") or {}
        self.services = dict(self.everything)

    def part(self, key: str) -> dict[str, Any]:
        """Return networks, volumes, secrets or configs, by name."""
        return {name: one or {} for name, one in (self.document.value.get(key) or {}).items()}

    def path(self, text: str) -> str:
        """Return a path of the host, counted from the project's directory."""
        return os.path.normpath(os.path.join(self.directory, os.path.expanduser(text)))

    def fail(self, text: str, *path: str) -> ComposeError:
        """Return what is wrong at a place of the file."""
        return self.document.fail(path, text)

    def depends(self, name: str) -> dict[str, dict[str, Any]]:
        """Return what a service depends on: its conditions by service, with those that follow from network_mode and the like."""
        service = self.everything[name]
        found: dict[str, dict[str, Any]] = dict(named(service.get("depends_on") or {}, "depends_on"))
        for key in ("network_mode", "ipc", "pid"):
            other = str(service.get(key) or "")
            if other.startswith("service:"):
                found.setdefault(other.removeprefix("service:"), {"condition": "service_started"})
        for text in service.get("volumes_from") or ():
            if not str(text).startswith("container:"):
                found.setdefault(str(text).partition(":")[0], {"condition": "service_started"})
        return found

    def below(self, name: str) -> set[str]:
        """Return all that a service depends on, also through others."""
        found: set[str] = set()
        todo = [name]
        while todo:
            more = {other for other in self.depends(todo.pop()) if other in self.everything} - found
            found |= more
            todo += more
        return found

    def restarted_with(self, names: Iterable[str]) -> set[str]:
        """Return services, and those that depend on one of them with `restart: true`."""
        found = set(names)
        while more := {
            name for name in set(self.services) - found
            if any(other in found and str(how.get("restart", False)).lower() == "true" for other, how in self.depends(name).items())
        }:  # fmt: skip
            found |= more
        return found

    def choose(self, profiles: Iterable[str], names: Sequence[str] = ()) -> None:
        """Take the services whose profiles are on, and those that are named. Raises: ComposeError."""
        wanted = set(profiles)
        for name in names:
            if name not in self.everything:
                raise ComposeError(f"no service {name!r} in {', '.join(self.files)}; there are {', '.join(self.everything)}")
        self.services = {
            name: service
            for name, service in self.everything.items()
            if name in names or "*" in wanted or not service.get("profiles") or wanted & set(map(str, service["profiles"]))
        }

    def order(self, names: Sequence[str] = (), alone: bool = False) -> list[str]:
        """Return services, each after those that it depends on. Raises: ComposeError.

        Args:
            names: which, with what they depend on; by default all.
            alone: without what they depend on.
        """
        done: list[str] = []

        def visit(name: str, above: tuple[str, ...]) -> None:
            if name in above:
                cycle = " -> ".join([*above[above.index(name) :], name])
                raise self.fail(f"services depend on each other in a circle: {cycle}", "services", name, "depends_on")
            if name in done:
                return
            for other, how in self.depends(name).items():
                if other not in self.everything:
                    raise self.fail(f"no service {other!r}", "services", name, "depends_on", other)
                if other not in self.services:
                    if how.get("required", True):
                        raise self.fail(f"service {other!r} is in a profile that is not on", "services", name, "depends_on")
                    continue
                if not alone:
                    visit(other, (*above, name))
            done.append(name)

        for name in names or self.services:
            visit(name, ())
        return done


def find_files(directory: str) -> list[str]:
    """Return the compose file of a directory, or of the next one above that has one, and its override. Raises: ComposeError."""
    here = os.path.abspath(directory)
    while True:
        for name in FILES:
            path = os.path.join(here, name)
            if os.path.exists(path):
                stem, _, suffix = name.rpartition(".")
                override = os.path.join(here, f"{stem}.override.{suffix}")
                return [path, *([override] if os.path.exists(override) else [])]
        above = os.path.dirname(here)
        if above == here:
            listed = ", ".join(FILES)
            raise ComposeError(f"no compose file here or above ({listed}): write one, go where it is, or name it with -f FILE")
        here = above


def project_name(text: str) -> str:
    """Return a directory's name as a project's: small letters, digits, - and _, with a letter or digit first."""
    kept = "".join(letter for letter in text.lower() if (letter.isascii() and letter.isalnum()) or letter in "-_")
    return kept.lstrip("-_")


def load(
    files: Sequence[str] = (), name: str = "", directory: str = "", env_files: Sequence[str] = (), profiles: Iterable[str] = (),
    names: Sequence[str] = (),
) -> Project:  # fmt: skip
    """Read a project.

    Args:
        files: its compose files, `-` for standard input; by default the one of this directory, or of one above.
        name: of it; else COMPOSE_PROJECT_NAME, the file's name:, the directory's name.
        directory: what relative paths count from; by default where the first file is.
        env_files: of variables for the compose file; by default .env.
        profiles: those that are on, beside COMPOSE_PROFILES.
        names: services that are wanted whatever their profiles.

    Returns: the project. Raises: ComposeError, with file and line.
    """
    environment = dict(os.environ)
    given = list(files) or [file for file in environment.get("COMPOSE_FILE", "").split(os.pathsep) if file]
    given = given or find_files(directory or ".")
    place = os.path.abspath(directory or (os.path.dirname(given[0]) if given[0] != "-" else "."))
    variables: dict[str, str] = {}
    for path in env_files or [os.path.join(place, ".env")]:
        variables |= read_env(path, {**variables, **environment}, required=bool(env_files))
    variables |= environment
    if name or environment.get("COMPOSE_PROJECT_NAME"):
        variables["COMPOSE_PROJECT_NAME"] = name or environment["COMPOSE_PROJECT_NAME"]
    document = read_all(given, place, variables)
    own = name or variables.get("COMPOSE_PROJECT_NAME") or str(document.value.get("name") or "")
    own = own or project_name(os.path.basename(place))
    if own != project_name(own) or not own:
        raise ComposeError(f"project name {own!r}: small letters, digits, - and _, a letter or digit first: give one with -p")
    project = Project(own, place, [os.path.abspath(f) if f != "-" else f for f in given], document, variables)
    if not project.everything:
        raise document.fail((), "there are no services")
    on = [*profiles, *(p for p in variables.get("COMPOSE_PROFILES", "").split(",") if p)]
    project.choose(on, names)
    check_names(project)
    return project


def check_names(project: Project) -> None:
    """Refuse names of networks, volumes, secrets and configs that stand nowhere. Raises: ComposeError."""
    networks, volumes = {"default", *project.part("networks")}, set(project.part("volumes"))
    for name, service in project.everything.items():
        where = ("services", name)
        if not service.get("image") and not service.get("build"):
            raise project.fail("it has neither image nor build", *where)
        if service.get("network_mode") and service.get("networks"):
            raise project.fail("networks and network_mode: one of the two", *where, "network_mode")
        for network in as_mapping(named(service.get("networks") or {}, "networks")):
            if network not in networks:
                raise project.fail(f"no network {network!r} at the top of the file", *where, "networks", network)
        for i, mount in enumerate(service.get("volumes") or ()):
            volume = volume_of(mount)
            if volume and volume not in volumes:
                raise project.document.fail((*where, "volumes", i), f"no volume {volume!r} at the top of the file")
        for kind in ("secrets", "configs"):
            for i, one in enumerate(service.get(kind) or ()):
                source = one["source"] if isinstance(one, dict) else one
                if source not in project.part(kind):
                    raise project.document.fail((*where, kind, i), f"no {kind[:-1]} {source!r} at the top of the file")
    for name in project.services:
        project.order([name])


def volume_of(mount: Any) -> str:
    """Return the named volume that an entry of a service's volumes means, or nothing."""
    if isinstance(mount, dict):
        return str(mount.get("source") or "") if mount.get("type", "volume") == "volume" else ""
    source, colon, _ = str(mount).partition(":")
    return "" if not colon or source.startswith(("/", ".", "~")) else source
