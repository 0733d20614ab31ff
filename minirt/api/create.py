"""What a client asks for when it creates a container, in the words of `minirt run` (Docker Engine API, ContainerCreate)."""

from __future__ import annotations

from minirt.api.errors import ApiError, reading
from minirt.engine.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["changes_of", "options_of", "size_of"]

# Fields whose value is the option's own.
TEXTS = {"Hostname": "hostname", "Domainname": "domainname", "User": "user", "WorkingDir": "workdir", "StopSignal": "stop_signal"}
HOST_TEXTS = {"CpusetCpus": "cpuset_cpus", "CpusetMems": "cpuset_mems"}
LISTS = {"GroupAdd": "group_add", "CapAdd": "cap_add", "CapDrop": "cap_drop", "SecurityOpt": "security_opt", "Dns": "dns",
         "DnsSearch": "dns_search", "DnsOptions": "dns_option", "ExtraHosts": "add_host",
         "DeviceCgroupRules": "device_cgroup_rule"}  # fmt: skip
# What is refused rather than taken and forgotten, and why (minirt/cli/refused.py has the flags).
REFUSED = {
    "BlkioWeightDevice": "cgroup v2 weighs a group on all devices alike",
    "CgroupParent": "containers' groups are minirt's to place",
    "CpuRealtimePeriod": "cgroup v2 has no such limit", "CpuRealtimeRuntime": "cgroup v2 has no such limit",
    "DeviceRequests": "give the device nodes as Devices", "KernelMemory": "cgroup v2 has no such limit",
    "Links": "containers of one network know each other by name", "OomKillDisable": "cgroup v2 has no such limit",
    "StorageOpt": "what a container writes has no limit of its own",
}  # fmt: skip
RUNTIMES = ("", "minirt", "runc", "io.containerd.runc.v2")
NUMBERS = {"OomScoreAdj": "oom_score_adj", "CpuShares": "cpu_shares", "CpuQuota": "cpu_quota", "CpuPeriod": "cpu_period",
           "PidsLimit": "pids_limit", "BlkioWeight": "io_weight"}  # fmt: skip
SIZES = {"Memory": "memory", "MemoryReservation": "memory_reservation", "MemorySwap": "memory_swap", "ShmSize": "shm_size"}
RATES = {"BlkioDeviceReadBps": "rbps", "BlkioDeviceWriteBps": "wbps", "BlkioDeviceReadIOps": "riops",
         "BlkioDeviceWriteIOps": "wiops"}  # fmt: skip
NAMESPACES = {"PidMode": "pid", "IpcMode": "ipc", "UTSMode": "uts", "CgroupnsMode": "cgroupns", "UsernsMode": "userns"}
PRIVATE = {"PidMode": "private", "IpcMode": "private", "UTSMode": "private", "CgroupnsMode": "private", "UsernsMode": "host"}


def options_of(body: dict[str, Any], name: str) -> RunOptions:
    """Return the options. Args: body, of the request; name, of the container, empty for none. Raises: ApiError."""
    image = body.get("Image")
    if not isinstance(image, str) or not image:
        raise ApiError(400, "no image is named: Image is missing")
    host: dict[str, Any] = body.get("HostConfig") or {}
    with reading():
        refuse(host)
        chosen = {**of_config(body), **of_host(host), **of_networks(body, host)}
        chosen["volume"] = volumes_of(body, host)
        entrypoint, command = commands(body)
        return checked(RunOptions(image, command, name=name, entrypoint=entrypoint, detach=True, **chosen))


def checked(options: RunOptions) -> RunOptions:
    """Return the options, each of the type that it has by default. Raises: TypeError."""
    for name, default in vars(RunOptions("")).items():
        value = getattr(options, name)
        texts = isinstance(default, list) and name != "console_size"
        if texts and not all(isinstance(item, str) for item in value):
            raise TypeError(f"{name}: not a list of texts")
        if isinstance(default, str) and not isinstance(value, str):
            raise TypeError(f"{name}: not a text")
    for field, value in (options.healthcheck or {}).items():
        if field == "Test" and not all(isinstance(word, str) for word in value):
            raise TypeError("Healthcheck: Test: not a list of texts")
        if field != "Test" and not isinstance(value, int):
            raise TypeError(f"Healthcheck: {field}: not a number")
    return options


def refuse(host: dict[str, Any]) -> None:
    """Refuse what would be taken and do nothing. Raises: ApiError."""
    for field, why in REFUSED.items():
        if host.get(field):
            raise ApiError(400, f"HostConfig.{field}: {why}")
    if (host.get("Runtime") or "") not in RUNTIMES:
        raise ApiError(400, f"unknown or invalid runtime name: {host['Runtime']}: there is minirt")


def changes_of(body: dict[str, Any]) -> dict[str, Any]:
    """Return what is to be changed of a container that is there (ContainerUpdate). Raises: ApiError."""
    from minirt.engine.update import LIMITS

    refuse(body)
    with reading():
        chosen = of_host(body)
    changes = {name: chosen[name] for name in LIMITS if chosen.get(name)}
    if (body.get("RestartPolicy") or {}).get("Name"):
        changes["restart"] = chosen["restart"]
    return changes


def commands(body: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return --entrypoint and what follows the image's name."""
    entrypoint, command = words(body.get("Entrypoint")), words(body.get("Cmd"))
    if not entrypoint:
        return None, command
    return entrypoint[0], [*entrypoint[1:], *command]


def size_of(body: dict[str, Any]) -> list[int]:
    """Return rows and columns of the client's terminal, nothing where it has none."""
    found = body.get("ConsoleSize")
    return found if isinstance(found, list) and len(found) == 2 and all(n in range(1, 1 << 16) for n in found) else []


def words(value: Any) -> list[str]:
    """Return a command that is a list of words, or one word."""
    return [value] if isinstance(value, str) else list(map(str, value or ()))


def of_config(body: dict[str, Any]) -> dict[str, Any]:
    """Return what the body's own fields say."""
    chosen: dict[str, Any] = {option: body[field] for field, option in TEXTS.items() if body.get(field)}
    chosen |= {
        "env": [item for item in body.get("Env") or () if "=" in item],
        "label": [f"{key}={value}" for key, value in (body.get("Labels") or {}).items()],
        "tty": bool(body.get("Tty")),
        "interactive": bool(body.get("OpenStdin")),
        "stdin_once": bool(body.get("StdinOnce")),
    }
    if body.get("Healthcheck"):
        chosen["healthcheck"] = body["Healthcheck"]
    if body.get("StopTimeout") is not None:
        chosen["stop_timeout"] = int(body["StopTimeout"])
    return chosen


def of_host(host: dict[str, Any]) -> dict[str, Any]:
    """Return what HostConfig says."""
    chosen: dict[str, Any] = {option: list(host[field]) for field, option in LISTS.items() if host.get(field)}
    chosen |= {option: host[field] for field, option in HOST_TEXTS.items() if host.get(field)}
    chosen |= {option: int(host[field]) for field, option in NUMBERS.items() if host.get(field)}
    chosen |= {option: str(host[field]) for field, option in SIZES.items() if host.get(field)}
    for field, option in NAMESPACES.items():
        chosen[option] = host.get(field) or PRIVATE[field]
    if host.get("NanoCpus"):
        chosen["cpus"] = f"{host['NanoCpus'] / 1e9:g}"
    policy = host.get("RestartPolicy") or {}
    most = policy.get("MaximumRetryCount") or 0
    chosen["restart"] = (policy.get("Name") or "no") + (f":{most}" if most else "")
    log = host.get("LogConfig") or {}
    chosen |= {
        "rm": bool(host.get("AutoRemove")),
        "init": bool(host.get("Init")),
        "console_size": size_of(host),
        "publish_all": bool(host.get("PublishAllPorts")),
        "privileged": bool(host.get("Privileged")),
        "read_only": bool(host.get("ReadonlyRootfs")),
        "volumes_from": list(host.get("VolumesFrom") or ()),
        "volume_driver": host.get("VolumeDriver") or "",
        "log_driver": log.get("Type") or "json-file",
        "log_opt": [f"{key}={value}" for key, value in (log.get("Config") or {}).items()],
        "tmpfs": [f"{path}:{opts}" if opts else path for path, opts in (host.get("Tmpfs") or {}).items()],
        "sysctl": [f"{key}={value}" for key, value in (host.get("Sysctls") or {}).items()],
        "ulimit": [f"{u['Name']}={u['Soft']}:{u['Hard']}" for u in host.get("Ulimits") or ()],
        "device": [device_of(device) for device in host.get("Devices") or ()],
        "annotation": [f"{key}={value}" for key, value in (host.get("Annotations") or {}).items()],
        "mount": [mount_of(mount) for mount in host.get("Mounts") or ()],
        "io_max": [f"{rate['Path']}:{key}={rate['Rate']}" for field, key in RATES.items() for rate in host.get(field) or ()],
        "publish": [port for key, bindings in (host.get("PortBindings") or {}).items() for port in ports_of(key, bindings)],
    }
    return chosen


def device_of(device: dict[str, Any]) -> str:
    """Return --device's form of a device."""
    outside = device["PathOnHost"]
    return f"{outside}:{device.get('PathInContainer') or outside}:{device.get('CgroupPermissions') or 'rwm'}"


def volumes_of(body: dict[str, Any], host: dict[str, Any]) -> list[str]:
    """Return -v's forms: of Binds, and of those Volumes that these, or Mounts, do not tell more of."""
    binds = list(host.get("Binds") or ())
    told = {bind.split(":")[1] if ":" in bind else bind for bind in binds} | {m["Target"] for m in host.get("Mounts") or ()}
    return [*(path for path in body.get("Volumes") or () if path not in told), *binds]


def mount_of(mount: dict[str, Any]) -> str:
    """Return --mount's form of a mount."""
    parts = [f"type={mount.get('Type') or 'bind'}", f"target={mount['Target']}"]
    parts += [f"source={mount['Source']}"] if mount.get("Source") else []
    parts += ["readonly"] if mount.get("ReadOnly") else []
    bind, tmpfs, volume = (mount.get(f"{kind}Options") or {} for kind in ("Bind", "Tmpfs", "Volume"))
    parts += ["volume-nocopy"] if volume.get("NoCopy") else []
    parts += [f"volume-subpath={volume['Subpath']}"] if volume.get("Subpath") else []
    parts += [f"volume-label={key}={value}" for key, value in (volume.get("Labels") or {}).items()]
    driver = (volume.get("DriverConfig") or {}).get("Options") or {}
    parts += [f"volume-opt={key}={value}" for key, value in driver.items()]
    parts += [f"bind-propagation={bind['Propagation']}"] if bind.get("Propagation") else []
    parts += [f"tmpfs-size={tmpfs['SizeBytes']}"] if tmpfs.get("SizeBytes") else []
    parts += [f"tmpfs-mode={tmpfs['Mode']:o}"] if tmpfs.get("Mode") else []
    return ",".join(f'"{part}"' if "," in part or '"' in part else part for part in parts)


def ports_of(key: str, bindings: Any) -> list[str]:
    """Return -p's forms of a port of the container (`80/tcp`) and its places on the host."""
    inside, _, protocol = key.partition("/")
    end = f"{inside}/{protocol or 'tcp'}"
    found = []
    for binding in bindings or [{}]:
        address, port = binding.get("HostIp") or "", binding.get("HostPort") or ""
        address = f"[{address}]" if ":" in address else address  # of IPv6
        found.append(f"{address}:{port}:{end}" if address else f"{port}:{end}" if port else end)
    return found


def of_networks(body: dict[str, Any], host: dict[str, Any]) -> dict[str, Any]:
    """Return what is said of the network: HostConfig names it, NetworkingConfig tells the address and the names there."""
    mode = host.get("NetworkMode") or "default"
    if body.get("NetworkDisabled"):
        mode = "none"
    chosen: dict[str, Any] = {"network": "bridge" if mode == "default" else mode, "expose": list(body.get("ExposedPorts") or ())}
    ends = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    end = ends.get(mode) or ends.get(chosen["network"]) or {}
    if end.get("Aliases"):
        chosen["network_alias"] = list(end["Aliases"])
    ipam = end.get("IPAMConfig") or {}
    chosen |= {"ip": ipam.get("IPv4Address") or "", "ip6": ipam.get("IPv6Address") or ""}
    chosen["mac_address"] = end.get("MacAddress") or body.get("MacAddress") or ""
    chosen["networks"] = [long_form(name, other) for name, other in ends.items() if name not in (mode, chosen["network"])]
    return chosen


def long_form(name: str, end: dict[str, Any]) -> str:
    """Return --network's form of an entry of EndpointsConfig."""
    ipam = end.get("IPAMConfig") or {}
    words = {"ip": ipam.get("IPv4Address"), "ip6": ipam.get("IPv6Address"), "mac-address": end.get("MacAddress")}
    aliases = [f"alias={alias}" for alias in end.get("Aliases") or ()]
    return ",".join([f"name={name}", *aliases, *(f"{key}={value}" for key, value in words.items() if value)])
