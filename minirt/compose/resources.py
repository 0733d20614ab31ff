"""The networks and volumes of a project: made before its containers, with docker compose's labels, and removed after them."""

from __future__ import annotations

from minirt import __version__
from minirt.compose.merge import named
from minirt.compose.project import Project
from minirt.compose.service import PREFIX, PROJECT, network_name, pairs, truth, volume_name
from minirt.compose.text import ComposeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

__all__ = ["ensure_networks", "ensure_volumes", "remove_networks", "remove_volumes"]


IPAM = {"subnet": "Subnet", "gateway": "Gateway", "ip_range": "IPRange"}


def labels(project: Project, kind: str, name: str, own: Any) -> dict[str, str]:
    """Return the labels of a network or volume."""
    return {**pairs(own), PROJECT: project.name, f"{PREFIX}{kind}": name, f"{PREFIX}version": __version__}


def used_networks(project: Project, services: Iterable[str]) -> list[str]:
    """Return the file's names of the networks that services are in."""
    found: dict[str, None] = {}
    for name in services:
        service = project.everything[name]
        if not service.get("network_mode"):
            found.update(dict.fromkeys(named(service.get("networks") or ["default"], "networks")))
    return list(found)


def ensure_networks(project: Project, services: Iterable[str], say: Callable[[str, str], None]) -> None:
    """Make the networks that services are in, where they are missing. Raises: ComposeError, NetworkError."""
    from minirt.engine.networks import create, inspect
    from minirt.network.store import NetworkError

    for name in used_networks(project, services):
        one, real = project.part("networks").get(name) or {}, network_name(project, name)
        try:
            there = inspect(real)
        except NetworkError:
            there = None
        if one.get("external"):
            if there is None:
                raise project.fail(f"network {real} is external and not there: minirt network create {real}", "networks", name)
            continue
        if there is not None:
            if (there["Labels"] or {}).get(PROJECT, project.name) != project.name:
                raise project.fail(f"network {real} is another project's", "networks", name)
            continue
        ipam = [
            {key: str(config.get(field, "")) for field, key in IPAM.items()}
            for config in (one.get("ipam") or {}).get("config") or ()
        ]
        create({
            "Name": real, "Driver": str(one.get("driver") or "bridge"), "Internal": truth(one.get("internal", False)),
            "EnableIPv6": truth(one.get("enable_ipv6", False)), "IPAM": {"Config": ipam}, "Options": pairs(one.get("driver_opts")),
            "Labels": labels(project, "network", name, one.get("labels")),
        })  # fmt: skip
        say(f"Network {real}", "Created")


def ensure_volumes(project: Project, services: Iterable[str], say: Callable[[str, str], None]) -> None:
    """Make the volumes that services use, where they are missing. Raises: ComposeError, VolumeError."""
    from minirt.compose.project import volume_of
    from minirt.engine.volumes import create
    from minirt.volume.store import load

    wanted = {volume_of(mount): None for name in services for mount in project.everything[name].get("volumes") or ()}
    for name in filter(None, wanted):
        one, real = project.part("volumes").get(name) or {}, volume_name(project, name)
        there = load(real)
        if one.get("external"):
            if there is None:
                raise project.fail(f"volume {real} is external and not there: minirt volume create {real}", "volumes", name)
        elif there is None:
            if one.get("driver", "local") != "local":
                raise project.fail(f"driver {one['driver']}: there is local", "volumes", name, "driver")
            create(real, labels(project, "volume", name, one.get("labels")), pairs(one.get("driver_opts")))
            say(f"Volume {real}", "Created")


def remove_networks(project: str, say: Callable[[str, str], None]) -> None:
    """Remove a project's networks; one that somebody else is in stays, and that is said."""
    from minirt.engine.networks import listed, remove
    from minirt.network.store import NetworkError

    for network in listed({"label": [f"{PROJECT}={project}"]}):
        try:
            remove(network["Name"])
            say(f"Network {network['Name']}", "Removed")
        except NetworkError as error:
            say(f"Network {network['Name']}", f"is in use: {error}")


def remove_volumes(project: str, say: Callable[[str, str], None]) -> None:
    """Remove a project's volumes. Raises: ComposeError where one is in use."""
    from minirt.engine.volumes import remove
    from minirt.volume.store import VolumeError, volumes

    for volume in volumes():
        if volume.labels.get(PROJECT) == project:
            try:
                remove(volume.name)
            except VolumeError as error:
                raise ComposeError(str(error)) from None
            say(f"Volume {volume.name}", "Removed")
