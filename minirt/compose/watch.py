"""develop.watch: what changes on the host goes into a service's containers, or has them built or started again.

    rebuild        the image is built again, and the containers are made of it
    sync           what has changed is copied to the rule's target, and what is gone is removed there
    restart        the containers are started again; sync+restart and sync+exec copy first

What a change came to does not count, but how it is when it is looked at: so nothing depends on how an editor saves a file.

Source: compose-spec develop.md; docs.docker.com/compose/how-tos/file-watch
"""

from __future__ import annotations

import os
import posixpath
import stat

from minirt.build.globs import Ignored
from minirt.compose.project import Project
from minirt.compose.service import pairs, texts, truth
from minirt.compose.text import ComposeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    from minirt.build.context import Context
    from minirt.compose.crew import Say
    from minirt.engine.container import Container

__all__ = ["Rule", "Watch", "changes", "rules_of"]

NEVER = ".git\n**/.git\n**/*~\n**/.*.swp\n**/.*.swx\n**/.#*\n**/4913\n"  # and what editors keep beside a file
LOOK = 500  # ms after which we look whether somebody wants us to end
STEP, MOST = 100, 1000  # ms: changes that come so close together are done at once, if that does not take too long


class Rule:
    """One entry of a service's develop.watch."""

    def __init__(self, project: Project, service: str, number: int, given: dict[str, Any]) -> None:
        where = ("services", service, "develop", "watch", number)
        self.service = service
        self.action = str(given["action"])
        self.path = os.path.realpath(project.path(str(given["path"])))
        self.target = str(given.get("target") or "")
        self.hook: dict[str, Any] = given.get("exec") or {}
        self.initial = truth(given.get("initial_sync", False))
        if not os.path.exists(self.path):
            raise project.document.fail((*where, "path"), f"{self.path}: no such file or directory")
        if self.action.startswith("sync") and not self.target.startswith("/"):
            raise project.document.fail(where, "where does it go? a target, from /, is missing")
        if self.action == "sync+exec" and not self.hook:
            raise project.document.fail(where, "exec is missing")
        if self.action == "rebuild" and not project.everything[service].get("build"):
            raise project.document.fail(where, "rebuild, and the service has no build")
        try:
            self.left_out = Ignored(NEVER + "".join(f"{text}\n" for text in texts(given.get("ignore"))))
            self.taken = Ignored("".join(f"{text}\n" for text in texts(given.get("include"))))
        except ValueError as error:
            raise project.document.fail(where, str(error)) from None
        self.context = context_of(project, service)

    @property
    def watched(self) -> str:
        """The directory to look at: a file that is replaced is another file."""
        return self.path if os.path.isdir(self.path) else os.path.dirname(self.path)

    def below(self, path: str) -> str | None:
        """Return a changed path as it is called below the rule's own ("." for that); None where it is not meant."""
        if path != self.path and not path.startswith(self.path.rstrip("/") + "/"):
            return None
        name = os.path.relpath(path, self.path)
        if name != "." and (self.left_out(name) or (self.taken and not self.taken(name))):
            return None
        context = self.context
        if context is not None and path.startswith(context.path + "/"):
            return None if context.ignored(os.fsencode(os.path.relpath(path, context.path))) else name
        return name

    def place(self, name: str) -> str:
        """Return where a path below the rule's own is in a container."""
        return posixpath.normpath(posixpath.join(self.target, name))


def context_of(project: Project, service: str) -> Context | None:
    """Return the directory of a service's build, whose .dockerignore counts here, too."""
    from minirt.build.context import Context

    given = project.everything[service].get("build") or {}
    given = given if isinstance(given, dict) else {"context": given}
    path = project.path(str(given.get("context", "."))) if given else ""
    return Context(path, os.path.join(path, str(given.get("dockerfile") or "Dockerfile"))) if os.path.isdir(path) else None


def rules_of(project: Project, names: Sequence[str]) -> list[Rule]:
    """Return the rules of services. Raises: ComposeError, also where there are none."""
    found = [
        Rule(project, name, number, given)
        for name in names
        for number, given in enumerate((project.everything[name].get("develop") or {}).get("watch") or ())
    ]
    if not found:
        raise ComposeError("nothing is to be watched: no service here has develop: {watch: ...}")
    return found


def changes(rules: list[Rule]) -> Iterator[set[str]]:
    """Yield what has changed, in groups; first, and then from time to time, an empty one. Raises: ComposeError."""
    try:
        from watchfiles import watch
    except ImportError:
        raise ComposeError("compose watch needs the package watchfiles: .venv/bin/pip install -e '.[compose]'") from None
    places = sorted({rule.watched for rule in rules})
    try:
        for found in watch(*places, watch_filter=None, step=STEP, debounce=MOST, rust_timeout=LOOK, yield_on_timeout=True):
            yield {path for _, path in found}
    except (OSError, RuntimeError) as error:
        limits = "sysctl fs.inotify.max_user_watches and max_user_instances say how much can be watched"
        raise ComposeError(f"{', '.join(places)}: cannot be watched: {error} ({limits})") from None


class Watch:
    """What is done when something has changed.

    Args:
        project: of the services.
        rules: theirs.
        rebuild: builds a service's image and makes its containers of it.
        say: told what has been done: of what, and what.
    """

    def __init__(self, project: Project, rules: list[Rule], rebuild: Callable[[str], object], say: Say) -> None:
        self.project = project
        self.rules = rules
        self.rebuild = rebuild
        self.say = say

    def begin(self) -> None:
        """Copy what rules with initial_sync have. Raises: MinirtError."""
        for rule in self.rules:
            if rule.initial and rule.action.startswith("sync"):
                self.sync([(rule, path) for path in whole({rule.path}) if rule.below(path) is not None])

    def changed(self, paths: set[str]) -> None:
        """Do what the rules say of changed paths, service by service. Raises: MinirtError."""
        met = [(rule, path) for rule in self.rules for path in whole(paths) if rule.below(path) is not None]
        for service in dict.fromkeys(rule.service for rule, _ in met):
            mine = [(rule, path) for rule, path in met if rule.service == service]
            if any(rule.action == "rebuild" for rule, _ in mine):
                self.rebuild(service)  # what would be copied is in the new image
                self.say(f"Service {service}", "Rebuilt")
                continue
            self.sync([(rule, path) for rule, path in mine if rule.action.startswith("sync")])
            for rule in dict.fromkeys(rule for rule, _ in mine if rule.action == "sync+exec"):
                self.run(rule)
            if any(rule.action.endswith("restart") for rule, _ in mine):
                self.restart(service)

    def sync(self, met: list[tuple[Rule, str]]) -> None:
        """Bring changed paths into the containers of their service, or take them away there. Raises: MinirtError."""
        if not met:
            return
        service = met[0][0].service
        for container in self.containers(service):
            for rule, path in met:
                put(container, path, rule.place(rule.below(path) or "."))
        self.say(f"Service {service}", f"Synced {', '.join(os.path.relpath(path, self.project.directory) for _, path in met)}")

    def run(self, rule: Rule) -> None:
        """Run what sync+exec says, in each container. Raises: MinirtError."""
        from minirt.engine.exec import execute
        from minirt.engine.options import RunOptions

        hook, command = rule.hook, rule.hook.get("command") or []
        words = ["sh", "-c", command] if isinstance(command, str) else list(map(str, command))
        for container in self.containers(rule.service):
            options = RunOptions(
                str(container.state.get("image")),
                words,
                user=str(hook.get("user") or ""),
                workdir=str(hook.get("working_dir") or ""),
                env=[f"{key}={value}" for key, value in pairs(hook.get("environment")).items()],
                privileged=truth(hook.get("privileged", False)),
            )
            status = execute(container, options)
            self.say(f"Container {container.label}", f"Ran {' '.join(words)}" + (f": exit status {status}" if status else ""))

    def restart(self, service: str) -> None:
        """Start a service's containers again. Raises: MinirtError."""
        from minirt.engine.control import restart

        for container in self.containers(service):
            restart(container)
            self.say(f"Container {container.label}", "Restarted")

    def containers(self, service: str) -> list[Container]:
        """Return the containers of a service that run."""
        from minirt.compose.ready import of_project

        return [container for container in of_project(self.project.name, service) if container.running]


def whole(paths: set[str]) -> list[str]:
    """Return paths with all that is below them: what was in a directory before anybody looked into it is told by nobody."""
    below = (os.path.join(above, name) for path in paths for above, *names in os.walk(path) for part in names for name in part)
    return sorted({*paths, *below})


def put(container: Container, path: str, place: str) -> None:
    """Let a container have at a place what the host has at a path, which may be nothing; of a directory not what is in it.

    Raises: FileError, ContainerError.
    """
    from minirt.engine.files.copy import archive_put, take_away
    from minirt.engine.files.pack import pack
    from minirt.image.header import Entry
    from minirt.image.pack import END, Pieces, header

    try:
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        take_away(container, place)
        return
    try:
        status, name = os.fstat(fd), place.lstrip("/") or "."
        pieces = pack(fd, name)
        if stat.S_ISDIR(status.st_mode):
            entry = Entry(os.fsencode(name), "directory")
            entry.mode, entry.mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
            pieces = iter([header(entry), END])
        archive_put(container, "/", Pieces(pieces), keep_owners=False)
    finally:
        os.close(fd)
