"""A service: what its containers, image, networks and volumes are called, and the labels by which they are found again."""

from __future__ import annotations

import hashlib
import json

from minirt import __version__
from minirt.compose.merge import as_mapping
from minirt.compose.project import Project
from minirt.compose.variables import read_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CONFIG_HASH", "NUMBER", "ONEOFF", "PREFIX", "PROJECT", "SERVICE", "config_hash", "container_name", "environment", "image_name",
    "labels_of", "network_name", "pairs", "plain", "replicas", "seconds", "texts", "truth", "volume_name",
]  # fmt: skip

PREFIX = "com.docker.compose."
PROJECT, SERVICE, NUMBER, CONFIG_HASH, ONEOFF = (
    f"{PREFIX}{word}" for word in ("project", "service", "container-number", "config-hash", "oneoff")
)
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def pairs(value: Any) -> dict[str, str]:
    """Return KEY=VALUE items, or a mapping, as texts; what has no value is left out."""
    return {key: plain(one) for key, one in as_mapping(value).items() if one is not None}


def plain(value: Any) -> str:
    """Return a value as YAML's users mean it as a text."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def texts(value: Any) -> list[str]:
    """Return one text or a list of them as a list."""
    return [] if value is None else list(map(plain, value)) if isinstance(value, list) else [plain(value)]


def truth(value: Any) -> bool:
    """Return a truth, that may be written as a text."""
    return value if isinstance(value, bool) else str(value).lower() in ("true", "yes", "on", "y")


def seconds(text: str) -> float:
    """Return a duration as 1m30s, in seconds. Raises: ValueError."""
    import re

    found = re.findall(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", text)
    if not found or "".join(number + unit for number, unit in found) != text:
        raise ValueError(f"{text!r} is no duration: it is written as 10s or 1m30s")
    return sum(float(number) * UNITS[unit] for number, unit in found)


def replicas(service: dict[str, Any]) -> int:
    """Return how many containers a service has."""
    return int((service.get("deploy") or {}).get("replicas", service.get("scale", 1)))


def image_name(project: Project, name: str) -> str:
    """Return the image that a service's containers are made of; one that is built has a name of the project's."""
    return str(project.everything[name].get("image") or f"{project.name}-{name}")


def container_name(project: Project, name: str, number: int) -> str:
    """Return a container's name."""
    return str(project.everything[name].get("container_name") or f"{project.name}-{name}-{number}")


def network_name(project: Project, name: str) -> str:
    """Return what the engine calls a network of the file."""
    one = project.part("networks").get(name) or {}
    external = one.get("external")
    given = one.get("name") or (external.get("name") if isinstance(external, dict) else "") or (name if external else "")
    return str(given or f"{project.name}_{name}")


def volume_name(project: Project, name: str) -> str:
    """Return what the engine calls a volume of the file."""
    one = project.part("volumes").get(name) or {}
    external = one.get("external")
    given = one.get("name") or (external.get("name") if isinstance(external, dict) else "") or (name if external else "")
    return str(given or f"{project.name}_{name}")


def config_hash(project: Project, name: str) -> str:
    """Return a digest of all that a service's containers are made from: one that has another is made anew."""
    others = ("deploy", "scale", "depends_on", "profiles", "build", "develop")
    service = {key: value for key, value in project.everything[name].items() if key not in others}
    resources = (project.everything[name].get("deploy") or {}).get("resources")
    used = {key: project.part(key) for key in ("networks", "volumes", "secrets", "configs") if service.get(key)}
    text = json.dumps([service, resources, environment(project, name), used], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def labels_of(project: Project, name: str, number: int, image: str) -> dict[str, str]:
    """Return docker compose's labels of a container, and the service's own.

    Args: image, its digest.
    """
    depends = ",".join(
        f"{other}:{how.get('condition', 'service_started')}:{plain(how.get('restart', False))}"
        for other, how in project.depends(name).items()
    )
    service = project.everything[name]
    files = (line for path in texts(service.get("label_file")) for line in read_env(project.path(path), {}).items())
    return {
        **dict(files), **pairs(service.get("labels")),
        PROJECT: project.name, SERVICE: name, NUMBER: str(number), CONFIG_HASH: config_hash(project, name),
        ONEOFF: "False", f"{PREFIX}depends_on": depends, f"{PREFIX}image": image, f"{PREFIX}version": __version__,
        f"{PREFIX}project.config_files": ",".join(project.files), f"{PREFIX}project.working_dir": project.directory,
    }  # fmt: skip


def environment(project: Project, name: str) -> dict[str, str]:
    """Return a service's variables: of its files, then its own; one without a value is taken from ours. Raises: ComposeError."""
    service = project.everything[name]
    found: dict[str, str] = {}
    files = service.get("env_file") or []
    for one in files if isinstance(files, list) else [files]:
        path, required = (one["path"], truth(one.get("required", True))) if isinstance(one, dict) else (str(one), True)
        found |= read_env(project.path(path), {**project.variables, **found}, required)
    for key, value in as_mapping(service.get("environment")).items():
        if value is not None:
            found[key] = plain(value)
        elif key in project.variables:
            found[key] = project.variables[key]
    return found
