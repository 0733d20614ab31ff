"""Containers as they are listed and chosen: `ps`, its filters, in the words of Docker's Engine API ("List containers")."""

from __future__ import annotations

import time

from minirt.engine.filters import Filters
from minirt.engine.inspect import image_of, is_ending, options_of, status_of
from minirt.engine.spans import span
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["chosen", "labels_of", "listed", "phrase"]

KEYS = ("ancestor", "before", "exited", "expose", "health", "id", "label", "name", "network", "publish", "since", "status",
        "volume")  # fmt: skip


def phrase(container: Container) -> str:
    """Return docker's words for what a container does, and since when: "Up 5 minutes", "Exited (0) 2 hours ago"."""
    state, status = container.state, status_of(container)
    now = time.time()
    if status in ("running", "paused"):
        text = f"Up {span(now - (state.get('started') or state.get('created') or now))}"
        more = " (Paused)" if status == "paused" else f" ({health_word(state['health'])})" if state["health"] else ""
        return text + more
    code = state.get("exit_code")
    ended = f"({255 if code is None else code}) {span(now - (state.get('finished') or now))} ago"
    return {"created": "Created", "restarting": f"Restarting {ended}", "creating": "Created"}.get(status, f"Exited {ended}")


def health_word(status: str) -> str:
    """Return what is said of a health check in a list."""
    return "health: starting" if status == "starting" else status


def labels_of(container: Container) -> dict[str, str]:
    """Return a container's labels, those of its image among them."""
    return container.state.get("labels") or {}


def listed(container: Container, size: bool = False) -> dict[str, Any]:
    """Return a container as an element of the list. Args: size, what it has written too, which takes a walk through its files."""
    from minirt.engine.host_config import mounts_of
    from minirt.engine.inspect import network_settings, spec_of

    options, image = options_of(container), image_of(container)
    settings = network_settings(container, options)
    process = spec_of(container, options, image).get("process") or {}
    found = {
        "Id": container.id,
        "Names": [f"/{container.label}"],
        "Image": container.state.get("image"),
        "ImageID": image.id if image is not None else "",
        "Command": " ".join(process.get("args") or container.state.get("command") or ()),
        "Created": int(container.state.get("created") or 0),
        "Ports": [
            {"PrivatePort": int(inside.partition("/")[0]), "Type": inside.partition("/")[2],
             **({"PublicPort": int(place["HostPort"]), "IP": place["HostIp"]} if place else {})}
            for inside, places in settings["Ports"].items() for place in places or [{}]
        ],
        "Labels": labels_of(container),
        "State": status_of(container),
        "Status": phrase(container),
        "HostConfig": {"NetworkMode": options.network or "none"},
        "NetworkSettings": {"Networks": settings["Networks"]},
        "Mounts": mounts_of(container.state, {}),
    }  # fmt: skip
    if size:
        found |= sizes(container)
    return found


def sizes(container: Container, written: int | None = None) -> dict[str, int]:
    """Return what a container's files take: those that it has written (SizeRw; given where it is known), and all (SizeRootFs)."""
    from minirt.engine.volumes import bytes_below

    image = image_of(container)
    written = bytes_below(f"{container.path}/upper") if written is None else written
    return {"SizeRw": written, "SizeRootFs": written + (image.size if image is not None else 0)}


def chosen(filters: Filters | list[str], everything: bool = False, last: int = 0) -> list[Container]:
    """Return the containers that filters choose, the newest first.

    Args:
        filters: those of docker ps.
        everything: those that do not run, too; a filter for a state says that itself.
        last: only so many, whatever they do.

    Raises: UsageError, ContainerError.
    """
    from minirt.engine.container import containers, find
    from minirt.engine.control import settle
    from minirt.engine.gc import mend

    wanted = filters if isinstance(filters, Filters) else Filters(filters)
    wanted.only(*KEYS)
    for state in wanted.of("status"):
        if state not in ("created", "running", "paused", "restarting", "removing", "exited", "dead"):
            raise UsageError(f"--filter status={state}: there are created, running, paused, restarting, exited")
    for state in wanted.of("health"):
        if state not in ("none", "starting", "healthy", "unhealthy"):
            raise UsageError(f"--filter health={state}: there are none, starting, healthy, unhealthy")
    everything = everything or bool(wanted.of("status") or wanted.of("exited")) or last > 0
    everyone = containers()
    for container in everyone:
        if is_ending(container):
            settle(container)
    found = [c for c in reversed(everyone) if mend(c) and c.state.get("status") != "creating"]
    for key, sign in (("before", 1), ("since", -1)):
        for name in wanted.of(key):
            edge = find(name).state.get("created") or 0.0
            found = [c for c in found if sign * (edge - (c.state.get("created") or 0.0)) > 0]
    kept = [c for c in found if (everything or c.running or c.state.get("status") == "restarting") and fits(c, wanted)]
    return kept[:last] if last else kept


def fits(container: Container, wanted: Filters) -> bool:
    """Say whether a container is what the filters choose, but for before and since."""
    state = container.state
    simple = (
        wanted.begins("id", container.id)
        and wanted.part("name", container.label, f"/{container.label}")
        and wanted.equal("status", status_of(container))
        and wanted.equal("exited", str(state.get("exit_code")) if status_of(container) == "exited" else "")
    )
    if not simple or not (set(wanted.values) - {"id", "name", "status", "exited", "before", "since"}):
        return simple
    seen = listed(container)
    mounts = [text for mount in seen["Mounts"] for text in (mount.get("Name") or "", mount["Destination"])]
    ports = [(str(port.get("PublicPort", "")), str(port["PrivatePort"]), port["Type"]) for port in seen["Ports"]]
    return (
        wanted.has_labels(seen["Labels"])
        and wanted.equal("volume", *mounts)
        and wanted.equal("network", *networks_of(seen))
        and wanted.equal("health", state["health"] or "none")
        and wanted.equal("ancestor", *ancestors(container))
        and has_port(wanted.of("publish"), [(outer, kind) for outer, _, kind in ports if outer])
        and has_port(wanted.of("expose"), [(inner, kind) for _, inner, kind in ports])
    )


def networks_of(seen: dict[str, Any]) -> list[str]:
    """Return the words that mean networks of a container: their names and ids. Args: seen, it as an element of the list."""
    networks = seen["NetworkSettings"]["Networks"]
    return [*networks, seen["HostConfig"]["NetworkMode"], *(place["NetworkID"] for place in networks.values())]


def ancestors(container: Container) -> list[str]:
    """Return the words that mean a container's image. Simplified: docker's filter also finds images below that image."""
    image = image_of(container)
    name = str(container.state.get("image"))
    ids = [image.id, image.id.partition(":")[2], image.id.partition(":")[2][:12]] if image is not None else []
    return [name, name.removesuffix(":latest"), f"{name}:latest", *ids]


def has_port(wanted: Iterable[str], ports: list[tuple[str, str]]) -> bool:
    """Say whether one of some ports is one that is asked for: 80, 80/udp, 8000-8080/tcp."""
    texts = list(wanted)
    for text in texts:
        numbers, _, kind = text.partition("/")
        first, _, last = numbers.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UsageError(f"--filter publish={text}: write 80, 80/udp or 8000-8080/tcp")
        if any(int(first) <= int(port) <= int(last or first) and protocol == (kind or "tcp") for port, protocol in ports):
            return True
    return not texts
