"""What a container was asked for, in the words of Docker's Engine API: its Config and its HostConfig, from our options.

The way back is minirt/api/create.py: what a client sends and what it is told later must agree.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["config_of", "host_config", "mounts_of", "port_bindings"]


def config_of(container: Container, options: RunOptions, spec: dict[str, Any], image: Image | None) -> dict[str, Any]:
    """Return the Config object: what does not depend on the host.

    Args: spec, config.json; image, None where it cannot be read any more.
    """
    given: dict[str, Any] = (image.config.get("config") if image is not None else None) or {}
    process = spec.get("process") or {}
    entrypoint = given.get("Entrypoint")
    command = options.command or given.get("Cmd") or []
    if options.entrypoint is not None:
        entrypoint, command = [options.entrypoint] if options.entrypoint else None, options.command
    ports = [*(given.get("ExposedPorts") or {}), *port_bindings(options)]
    return {
        "Hostname": spec.get("hostname", ""),
        "Domainname": options.domainname,
        "User": options.user or given.get("User") or "",
        "AttachStdin": False,
        "AttachStdout": not options.detach,
        "AttachStderr": not options.detach,
        "ExposedPorts": {port: {} for port in ports},
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": options.interactive and options.stdin_once,
        "Env": process.get("env") or [],
        "Cmd": command or None,
        "Image": container.state.get("image"),
        "Volumes": given.get("Volumes"),
        "WorkingDir": process.get("cwd", ""),
        "Entrypoint": entrypoint or None,
        "OnBuild": given.get("OnBuild"),
        "Labels": spec.get("annotations") or {},
        "StopSignal": options.stop_signal or given.get("StopSignal") or "SIGTERM",
        "StopTimeout": options.stop_timeout,
    }


def host_config(options: RunOptions) -> dict[str, Any]:
    """Return the HostConfig object: what the host gives it, and keeps it from."""
    policy, _, most = options.restart.partition(":")
    return {
        "Binds": list(options.volume) or None,
        "ContainerIDFile": options.cidfile,
        "LogConfig": {"Type": options.log_driver, "Config": pairs(options.log_opt)},
        "NetworkMode": options.network or "none",
        "PortBindings": port_bindings(options),
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": int(most or 0)},
        "AutoRemove": options.rm,
        "VolumeDriver": options.volume_driver,
        "VolumesFrom": list(options.volumes_from) or None,
        "CapAdd": list(options.cap_add) or None,
        "CapDrop": list(options.cap_drop) or None,
        "CgroupnsMode": options.cgroupns,
        "Dns": options.dns,
        "DnsOptions": options.dns_option,
        "DnsSearch": options.dns_search,
        "ExtraHosts": list(options.add_host) or None,
        "GroupAdd": list(options.group_add) or None,
        "IpcMode": options.ipc,
        "Links": None,
        "OomScoreAdj": options.oom_score_adj or 0,
        "DeviceCgroupRules": list(options.device_cgroup_rule) or None,
        "PidMode": "" if options.pid == "private" else options.pid,
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": list(options.security_opt) or None,
        "Sysctls": pairs(options.sysctl) or None,
        "Tmpfs": {path: rest for path, _, rest in (text.partition(":") for text in options.tmpfs)} or None,
        "UTSMode": "" if options.uts == "private" else options.uts,
        "UsernsMode": "" if options.userns == "host" else options.userns,
        "ShmSize": size(options.shm_size),
        "Runtime": "minirt",
        "Isolation": "",
        "Init": options.init or None,
        **resources(options),
    }


def resources(options: RunOptions) -> dict[str, Any]:
    """Return the limits in HostConfig."""
    from minirt.engine.values import parse_ulimit

    limits = [parse_ulimit(text) for text in options.ulimit]
    swap = options.memory_swap
    return {
        "CpuShares": options.cpu_shares or 0,
        "Memory": size(options.memory),
        "MemoryReservation": size(options.memory_reservation),
        "MemorySwap": -1 if swap == "-1" else size(swap),
        "NanoCpus": round(float(options.cpus or 0) * 1e9),
        "CpuPeriod": options.cpu_period or 0,
        "CpuQuota": options.cpu_quota or 0,
        "CpusetCpus": options.cpuset_cpus,
        "CpusetMems": options.cpuset_mems,
        "BlkioWeight": options.io_weight or 0,
        "PidsLimit": options.pids_limit,
        "OomKillDisable": None,
        "Devices": [device(text) for text in options.device],
        "Ulimits": [ulimit(limit) for limit in limits] or None,
    }


def ulimit(limit: dict[str, Any]) -> dict[str, Any]:
    """Return config.json's rlimit as the API has it."""
    return {"Name": limit["type"].removeprefix("RLIMIT_").lower(), "Soft": limit["soft"], "Hard": limit["hard"]}


def size(text: str) -> int:
    """Return a size in bytes, 0 for none."""
    from minirt.engine.values import parse_size

    return parse_size(text, "size") if text else 0


def pairs(texts: list[str]) -> dict[str, str]:
    """Return KEY=VALUE as an object."""
    return dict(text.partition("=")[::2] for text in texts)


def device(text: str) -> dict[str, str]:
    """Return --device's HOST[:CONTAINER[:MODE]] as an object."""
    outside, _, rest = text.partition(":")
    inside, _, mode = rest.partition(":")
    return {"PathOnHost": outside, "PathInContainer": inside or outside, "CgroupPermissions": mode or "rwm"}


def port_bindings(options: RunOptions) -> dict[str, list[dict[str, str]]]:
    """Return which ports of the host were asked for, by those of the container."""
    from minirt.network.ports import parse_ports

    found: dict[str, list[dict[str, str]]] = {}
    for text in options.publish:
        for port in parse_ports(text):
            binding = {"HostIp": port.address, "HostPort": str(port.host or "")}
            found.setdefault(f"{port.inside}/{port.protocol}", []).append(binding)
    return found


def mounts_of(state: dict[str, Any], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the Mounts: what somebody asked for, not what every container has."""
    from minirt.engine.mounts import Request, volume_source

    found = []
    for made in state.get("mounts") or ():
        request = Request(**made)
        mount = {"Type": request.kind, "Destination": request.target, "RW": not request.read_only, "Mode": "", "Propagation": ""}
        if request.kind == "volume":
            mount |= {"Name": request.source, "Source": volume_source(request.source)[0], "Driver": "local", "Mode": "z"}
        elif request.kind == "bind":
            mount |= {"Source": request.source, "Propagation": request.spread}
        found.append(mount | ({} if "Source" in mount else {"Source": ""}))
    return found
