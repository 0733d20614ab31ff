"""All that is known of a container, in the words of Docker's Engine API ("Inspect a container")."""

from __future__ import annotations

import json
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container

__all__ = ["inspect", "status_of"]

NEVER = "0001-01-01T00:00:00Z"  # what Go writes for a time that has not come


def inspect(container: Container) -> dict[str, Any]:
    """Return what is known of a container as a JSON object."""
    state, path = container.state, container.path
    options = load(f"{path}/options.json")
    spec = load(f"{path}/config.json")
    process = spec.get("process") or {}
    return {
        "Id": container.id,
        "Name": f"/{state.get('name') or container.id[:12]}",
        "Created": moment(state.get("created")),
        "Path": (process.get("args") or [""])[0],
        "Args": (process.get("args") or [])[1:],
        "State": state_of(container),
        "Image": state.get("image"),
        "RestartCount": state.get("restarts", 0),
        "LogPath": f"{path}/log" if os.path.exists(f"{path}/log") else "",
        "HostnamePath": f"{path}/hostname",
        "HostsPath": f"{path}/hosts",
        "ResolvConfPath": f"{path}/resolv.conf",
        "GraphDriver": {"Name": "overlay", "Data": {name: f"{path}/{name}" for name in ("upper", "work", "merged")}},
        "Mounts": [
            {"Type": m.get("type"), "Source": m.get("source", ""), "Destination": m["destination"],
             "RW": "ro" not in m.get("options", ())}
            for m in spec.get("mounts") or ()
        ],
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "User": state.get("user", ""),
            "Tty": bool(options.get("tty")),
            "OpenStdin": bool(options.get("interactive")),
            "Env": process.get("env") or [],
            "Cmd": state.get("command") or [],
            "Image": state.get("image"),
            "WorkingDir": process.get("cwd", ""),
            "Labels": spec.get("annotations") or {},
            "StopSignal": options.get("stop_signal") or "SIGTERM",
            "StopTimeout": options.get("stop_timeout", 10),
        },
        "HostConfig": {
            "RestartPolicy": {"Name": str(options.get("restart", "no")).partition(":")[0]},
            "AutoRemove": bool(state.get("rm")),
            "NetworkMode": options.get("network", "none"),
            "Privileged": bool(options.get("privileged")),
            "ReadonlyRootfs": bool(options.get("read_only")),
            "LogConfig": {"Type": options.get("log_driver", "none")},
        },
    }


def state_of(container: Container) -> dict[str, Any]:
    """Return the State object."""
    from minirt.engine.gc import mend

    mend(container)
    state, status = container.state, status_of(container)
    return {
        "Status": status,
        "Running": status in ("running", "paused"),
        "Paused": status == "paused",
        "Restarting": status == "restarting",
        "OOMKilled": bool(state.get("oom_killed")),
        "Pid": state.get("pid", 0) if container.running else 0,
        "ExitCode": state.get("exit_code") or 0,
        "Error": state.get("error", ""),
        "StartedAt": moment(state.get("started")),
        "FinishedAt": moment(state.get("finished")),
    }


def status_of(container: Container) -> str:
    """Return docker's word for what a container does: created, running, paused, restarting, exited."""
    if container.running:
        group = container.cgroup
        return "paused" if group is not None and group.is_frozen() else "running"
    return str(container.state.get("status"))  # where that is running, its monitor is about to write down how it ended


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
