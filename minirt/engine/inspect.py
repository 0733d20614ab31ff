"""All that is known of a container, in the words of Docker's Engine API ("Inspect a container")."""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["image_of", "inspect", "is_ending", "options_of", "spec_of", "state_of", "status_of"]

NEVER = "0001-01-01T00:00:00Z"  # what Go writes for a time that has not come


def inspect(container: Container) -> dict[str, Any]:
    """Return what is known of a container as a JSON object."""
    from minirt.engine.execs import begun
    from minirt.engine.host_config import config_of, host_config, mounts_of

    state, path = container.state, container.path
    options, image = options_of(container), image_of(container)
    spec = spec_of(container, options, image)
    args = (spec.get("process") or {}).get("args") or [""]
    settings = network_settings(container, options)
    return {
        "Id": container.id,
        "Created": moment(state.get("created")),
        "Path": args[0],
        "Args": args[1:],
        "State": state_of(container),
        "Image": image.id if image is not None else "",
        "ResolvConfPath": f"{path}/resolv.conf",
        "HostnamePath": f"{path}/hostname",
        "HostsPath": f"{path}/hosts",
        "LogPath": f"{path}/log" if os.path.exists(f"{path}/log") else "",
        "Name": f"/{container.label}",
        "RestartCount": state.get("restarts", 0),
        "Driver": "overlay2",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": [exec.id for exec in begun(container)] or None,
        "HostConfig": host_config(options),
        "GraphDriver": {
            "Name": "overlay2",
            "Data": {"UpperDir": f"{path}/upper", "WorkDir": f"{path}/work", "MergedDir": f"{path}/merged"},
        },
        "Mounts": mounts_of(state, spec),
        "Config": config_of(container, options, spec, image),
        "NetworkSettings": settings,
    }


def options_of(container: Container) -> RunOptions:
    """Return what a container was asked for; of one that was run in the foreground, what its state still says of that."""
    from minirt.engine.asked import load_options
    from minirt.engine.container import ContainerError
    from minirt.engine.options import RunOptions

    try:
        return load_options(container)
    except ContainerError:
        state = container.state
        return RunOptions(str(state.get("image")), list(state.get("command") or ()), rm=bool(state.get("rm")), log_driver="none")


def image_of(container: Container) -> Image | None:
    """Return the image that a container stands on; None where it cannot be read any more."""
    from minirt.image.errors import ImageError
    from minirt.image.store import Store
    from minirt.paths import data_root

    try:
        return Store(os.path.join(data_root(), "image")).held(container.id)
    except ImageError:
        return None


def spec_of(container: Container, options: RunOptions, image: Image | None) -> dict[str, Any]:
    """Return a container's config.json; before its first start, the one that it would have now."""
    from minirt.engine.spec import make_spec
    from minirt.errors import MinirtError

    found = load(f"{container.path}/config.json")
    if found or image is None:
        return found
    try:
        return make_spec(options, image.config.get("config") or {}, container.id)
    except MinirtError:  # what it is to share is not there just now
        return {}


def network_settings(container: Container, options: RunOptions) -> dict[str, Any]:
    """Return the NetworkSettings object."""
    from minirt.engine.networks import settings_of

    return settings_of(container, options)


def state_of(container: Container) -> dict[str, Any]:
    """Return the State object."""
    from minirt.engine.container import ALONE
    from minirt.engine.control import settle
    from minirt.engine.gc import is_alone, mend
    from minirt.engine.health import told

    mend(container)
    if is_ending(container):
        settle(container)  # a moment, and then it is known how it ended
    state, status = container.state, status_of(container)
    return {
        "Status": status,
        "Running": status in ("running", "paused"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(state.get("oom_killed")),
        "Dead": False,
        "Pid": state.get("pid", 0) if container.running else 0,
        "ExitCode": container.exit_code,
        "Error": state.get("error") or (ALONE if is_alone(container) else ""),
        "StartedAt": moment(state.get("started")),
        "FinishedAt": moment(state.get("finished")),
        **({"Health": health} if (health := told(container)) else {}),
    }


def status_of(container: Container) -> str:
    """Return docker's word for what a container does: created, running, paused, restarting, exited."""
    if container.running:
        return "paused" if container.paused else "running"
    return str(container.state.get("status"))  # where that is running, its monitor is about to write down how it ended


def is_ending(container: Container) -> bool:
    """Say whether a container's program has ended, and its monitor is about to write down how."""
    return container.state.get("status") == "running" and not container.running


def load(path: str) -> dict[str, Any]:
    """Return a JSON file's object, an empty one where there is none."""
    try:
        with open(path, encoding="utf-8") as file:
            found: dict[str, Any] = json.load(file)
    except (FileNotFoundError, ValueError):
        return {}
    return found


def moment(seconds: float | None) -> str:
    """Return seconds since 1970 as RFC 3339."""
    if not seconds:
        return NEVER
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1e9):09d}Z"
