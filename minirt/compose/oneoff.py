"""`compose run`: a container of its own, made as a service's are but for what is asked, beside what the service depends on.

It has no port of the host and is not found by the service's name, unless that is asked for: else it would stand in the
service's way. It is none of the service's containers to `up` and `ps`; `ps -a` shows it, and `down` and `rm` remove it.
"""

from __future__ import annotations

from minirt.compose.merge import as_mapping
from minirt.compose.options import options_of
from minirt.compose.project import Project
from minirt.compose.service import ONEOFF, PREFIX, texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions

__all__ = ["Asked", "oneoff_options"]


class Asked:
    """What `run` is asked for, beside what the file says of the service."""

    def __init__(self, service: str, command: list[str], **chosen: Any) -> None:
        self.service = service
        self.command = command  # in place of the file's, if there is one
        self.name: str = chosen.get("name") or ""
        self.rm: bool = chosen.get("rm", False)
        self.entrypoint: str | None = chosen.get("entrypoint")
        self.tty: bool = chosen.get("tty", False)
        self.interactive: bool = chosen.get("interactive", False)
        self.env: list[str] = chosen.get("env") or []
        self.label: list[str] = chosen.get("label") or []
        self.volume: list[str] = chosen.get("volume") or []
        self.publish: list[str] = chosen.get("publish") or []
        self.user: str = chosen.get("user") or ""
        self.workdir: str = chosen.get("workdir") or ""
        self.service_ports: bool = chosen.get("service_ports", False)
        self.use_aliases: bool = chosen.get("use_aliases", False)


def oneoff_options(project: Project, asked: Asked, image: str) -> RunOptions:
    """Return the options of the container. Args: image, its digest. Raises: ComposeError."""
    import os

    project.everything[asked.service] = changed(project.everything[asked.service], asked)
    options = options_of(project, asked.service, 1, image)
    slug = os.urandom(6).hex()
    options.name = asked.name or f"{project.name}-{asked.service}-run-{slug}"
    options.label += [f"{ONEOFF}=True", f"{PREFIX}slug={slug}"]  # the later one of a name counts
    options.rm, options.restart = asked.rm, "no"
    options.tty, options.interactive = asked.tty, asked.interactive
    options.volume += asked.volume
    options.publish += asked.publish
    if not asked.use_aliases:
        options.network = without_aliases(options.network)
        options.networks = [without_aliases(text) for text in options.networks]
    return options


def changed(service: dict[str, Any], asked: Asked) -> dict[str, Any]:
    """Return a service as it is to be this once."""
    found = {key: value for key, value in service.items() if key not in ("container_name", "scale")}
    if not asked.service_ports:
        found.pop("ports", None)
    if asked.entrypoint is not None:
        found |= {"entrypoint": asked.entrypoint, "command": []}  # as with docker run: the command went with the old one
    if asked.command:
        found["command"] = asked.command
    found["environment"] = {**as_mapping(service.get("environment")), **as_mapping(asked.env)}
    if asked.label:
        found["labels"] = {**as_mapping(service.get("labels")), **as_mapping(asked.label)}
    found |= {key: value for key, value in (("user", asked.user), ("working_dir", asked.workdir)) if value}
    return found


def without_aliases(text: str) -> str:
    """Return a network with its options, but not what a container is called there."""
    return ",".join(part for part in texts(text.split(",")) if not part.startswith("alias="))
