"""A service -> the options of its containers, as `minirt run` would have them."""

from __future__ import annotations

import os
import shlex

from minirt.compose.merge import named
from minirt.compose.project import Project, volume_of
from minirt.compose.service import (
    container_name,
    environment,
    image_name,
    labels_of,
    network_name,
    pairs,
    plain,
    seconds,
    texts,
    truth,
    volume_name,
)
from minirt.engine.options import RunOptions

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["file_of", "options_of"]


def options_of(project: Project, name: str, number: int, image: str) -> RunOptions:
    """Return the options of one of a service's containers. Raises: ComposeError, with the line in the file."""
    from minirt.errors import UsageError

    service, where = project.everything[name], ("services", name)
    try:
        options = RunOptions(image_name(project, name), name=container_name(project, name, number), detach=True)
        options.label = [f"{key}={value}" for key, value in labels_of(project, name, number, image).items()]
        words(options, service)
        simple(options, service)
        limits(options, service)
        options.env = [f"{key}={value}" for key, value in environment(project, name).items()]
        options.volume, options.mount, options.tmpfs = mounts(project, name)
        networks(project, name, options)
        shared(project, name, options)
        options.publish = [text for port in service.get("ports") or () for text in published(port)]
        options.healthcheck = health(service)
        files(project, name, options)
        return options
    except (ValueError, UsageError) as error:
        raise project.fail(str(error), *where) from None


def words(options: RunOptions, service: dict[str, Any]) -> None:
    """Put the entry point and the command together."""
    command, entrypoint = service.get("command"), service.get("entrypoint")
    split = shlex.split(str(command)) if isinstance(command, (str, int, float)) else texts(command)
    if "entrypoint" in service and entrypoint is not None:
        first = shlex.split(str(entrypoint)) if not isinstance(entrypoint, list) else texts(entrypoint)
        options.entrypoint = first[0] if first else ""
        split = [*first[1:], *split]
    options.command = split


# field -> option, with the same meaning
TEXTS = {"user": "user", "working_dir": "workdir", "hostname": "hostname", "domainname": "domainname", "stop_signal": "stop_signal",
         "mac_address": "mac_address", "cgroup": "cgroupns", "uts": "uts", "userns_mode": "userns", "mem_limit": "memory",
         "mem_reservation": "memory_reservation", "memswap_limit": "memory_swap", "cpus": "cpus", "cpuset": "cpuset_cpus",
         "shm_size": "shm_size"}  # fmt: skip
TRUTHS = {"init": "init", "privileged": "privileged", "read_only": "read_only", "stdin_open": "interactive", "tty": "tty"}
LISTS = {"cap_add": "cap_add", "cap_drop": "cap_drop", "group_add": "group_add", "security_opt": "security_opt", "dns": "dns",
         "dns_opt": "dns_option", "dns_search": "dns_search", "expose": "expose", "device_cgroup_rules": "device_cgroup_rule"}
NUMBERS = {"cpu_period": "cpu_period", "cpu_quota": "cpu_quota", "cpu_shares": "cpu_shares", "oom_score_adj": "oom_score_adj",
           "pids_limit": "pids_limit"}  # fmt: skip


def simple(options: RunOptions, service: dict[str, Any]) -> None:
    """Take over what has one option each."""
    for field, option in TEXTS.items():
        if service.get(field) not in (None, ""):
            setattr(options, option, plain(service[field]))
    for field, option in TRUTHS.items():
        setattr(options, option, truth(service.get(field, False)))
    for field, option in LISTS.items():
        setattr(options, option, texts(service.get(field)))
    for field, option in NUMBERS.items():
        if service.get(field) is not None:
            setattr(options, option, int(float(service[field])))
    options.sysctl = [f"{key}={value}" for key, value in pairs(service.get("sysctls")).items()]
    options.annotation = [f"{key}={value}" for key, value in pairs(service.get("annotations")).items()]
    hosts = service.get("extra_hosts") or ()
    given = hosts.items() if isinstance(hosts, dict) else (text.replace("=", ":", 1).split(":", 1) for text in map(str, hosts))
    options.add_host = [f"{host}={one}" for host, value in given for one in texts(value)]
    for one in service.get("devices") or ():
        if isinstance(one, dict):
            one = f"{one['source']}:{one.get('target', one['source'])}:{one.get('permissions', 'rwm')}"
        options.device.append(str(one))
    for key, value in (service.get("ulimits") or {}).items():
        options.ulimit.append(f"{key}={value['soft']}:{value['hard']}" if isinstance(value, dict) else f"{key}={value}")
    logging = service.get("logging") or {}
    options.log_driver = str(logging.get("driver") or "json-file")
    options.log_opt = [f"{key}={plain(value)}" for key, value in (logging.get("options") or {}).items()]
    if service.get("stop_grace_period"):
        options.stop_timeout = max(round(seconds(str(service["stop_grace_period"]))), 0)
    restart = plain(service.get("restart", "no")) if service.get("restart") is not False else "no"
    policy = (service.get("deploy") or {}).get("restart_policy")
    if policy and "restart" not in service:
        restart = {"any": "always", "none": "no"}.get(str(policy.get("condition", "any")), "on-failure")
        restart += f":{policy['max_attempts']}" if restart == "on-failure" and policy.get("max_attempts") else ""
    options.restart = restart


def limits(options: RunOptions, service: dict[str, Any]) -> None:
    """Take over deploy.resources."""
    found = (service.get("deploy") or {}).get("resources") or {}
    limit, kept = found.get("limits") or {}, found.get("reservations") or {}
    options.cpus = plain(limit.get("cpus", options.cpus))
    options.memory = plain(limit.get("memory", options.memory))
    options.memory_reservation = plain(kept.get("memory", options.memory_reservation))
    if limit.get("pids") is not None:
        options.pids_limit = int(limit["pids"])


def mounts(project: Project, name: str) -> tuple[list[str], list[str], list[str]]:
    """Return --volume, --mount and --tmpfs of a service's volumes."""
    volumes, long = [], []
    for one in project.everything[name].get("volumes") or ():
        if isinstance(one, dict):
            long.append(mount_of(project, one))
            continue
        source, colon, rest = str(one).partition(":")
        if colon:
            source = volume_name(project, source) if volume_of(one) else project.path(source)
        volumes.append(source + colon + rest)
    return volumes, long, texts(project.everything[name].get("tmpfs"))


def mount_of(project: Project, one: dict[str, Any]) -> str:
    """Return an entry of the long form as --mount's value."""
    kind = one.get("type", "volume")
    fields = [f"type={kind}", f"target={one['target']}"]
    if one.get("source"):
        source = project.path(str(one["source"])) if kind == "bind" else volume_name(project, str(one["source"]))
        fields.append(f"source={source}")
        if kind == "bind" and truth((one.get("bind") or {}).get("create_host_path", True)) and not os.path.lexists(source):
            os.makedirs(source, exist_ok=True)
    fields += ["readonly"] if truth(one.get("read_only", False)) else []
    bind, volume, tmpfs = one.get("bind") or {}, one.get("volume") or {}, one.get("tmpfs") or {}
    fields += [f"bind-propagation={bind['propagation']}"] if bind.get("propagation") else []
    fields += [f"bind-recursive={bind['recursive']}"] if bind.get("recursive") else []
    fields += ["volume-nocopy"] if truth(volume.get("nocopy", False)) else []
    fields += [f"volume-subpath={volume['subpath']}"] if volume.get("subpath") else []
    fields += [f"volume-label={key}={value}" for key, value in pairs(volume.get("labels")).items()]
    fields += [f"tmpfs-size={tmpfs['size']}"] if tmpfs.get("size") else []
    mode = tmpfs.get("mode")
    fields += [f"tmpfs-mode={mode:o}" if isinstance(mode, int) else f"tmpfs-mode={mode}"] if mode is not None else []
    return ",".join('"' + field.replace('"', '""') + '"' if "," in field or '"' in field else field for field in fields)


def networks(project: Project, name: str, options: RunOptions) -> None:
    """Say which networks a container is in, and what it is called there: its service's name is known in all."""
    service = project.everything[name]
    mode = str(service.get("network_mode") or "")
    if mode:
        options.network = container_of(project, mode)
        return
    given = named(service.get("networks") or ["default"], "networks")
    ordered = sorted(given.items(), key=lambda item: -int((item[1] or {}).get("priority", 0)))
    found = []
    for network, how in ordered:
        how = how or {}
        words = [f"name={network_name(project, network)}", f"alias={name}", *(f"alias={one}" for one in texts(how.get("aliases")))]
        for key, word in (("ipv4_address", "ip"), ("ipv6_address", "ip6"), ("mac_address", "mac-address")):
            words += [f"{word}={how[key]}"] if how.get(key) else []
        found.append(",".join(words))
    options.network, options.networks = found[0], found[1:]


def container_of(project: Project, text: str) -> str:
    """Return service:NAME as the container that is meant."""
    if not text.startswith("service:"):
        return text
    return f"container:{container_name(project, text.removeprefix('service:'), 1)}"


def shared(project: Project, name: str, options: RunOptions) -> None:
    """Say what is shared with other containers."""
    service = project.everything[name]
    for field in ("pid", "ipc"):
        if service.get(field):
            setattr(options, field, container_of(project, str(service[field])))
    for text in map(str, service.get("volumes_from") or ()):
        bare = text.removeprefix("container:")
        other, colon, mode = bare.partition(":")
        options.volumes_from.append((other if bare != text else container_name(project, other, 1)) + colon + mode)


def published(port: Any) -> list[str]:
    """Return an entry of ports as --publish has it."""
    if not isinstance(port, dict):
        return [plain(port)]
    address, outer = str(port.get("host_ip") or ""), str(port.get("published") or "")
    address = f"[{address}]" if ":" in address else address
    inner = f"{port['target']}/{port.get('protocol', 'tcp')}"
    if not outer and not address:
        return [inner]
    return [f"{address}:{outer}:{inner}" if address else f"{outer}:{inner}"]


def health(service: dict[str, Any]) -> dict[str, Any] | None:
    """Return a health check as the Engine API has it. Raises: ValueError."""
    given = service.get("healthcheck")
    if not given:
        return None
    if truth(given.get("disable", False)):
        return {"Test": ["NONE"]}
    test = given.get("test")
    found: dict[str, Any] = {"Test": ["CMD-SHELL", plain(test)] if isinstance(test, (str, int)) else texts(test)}
    for field in ("interval", "timeout", "start_period", "start_interval"):
        if given.get(field) is not None:
            found[field.title().replace("_", "")] = int(seconds(str(given[field])) * 1e9)
    if given.get("retries") is not None:
        found["Retries"] = int(given["retries"])
    return {key: value for key, value in found.items() if value}


def files(project: Project, name: str, options: RunOptions) -> None:
    """Bind secrets and configs that are files of the host; what is content goes into the container when that is made (up.py)."""
    for kind in ("secrets", "configs"):
        for one in project.everything[name].get(kind) or ():
            source, target = file_of(one, kind)
            described = project.part(kind)[source]
            if described.get("file"):
                path = project.path(str(described["file"]))
                if not os.path.exists(path):
                    raise project.fail(f"{path}: there is no such file", kind, source, "file")
                options.mount.append(f'type=bind,readonly,"source={path}","target={target}"')


def file_of(one: Any, kind: str) -> tuple[str, str]:
    """Return a secret's or config's name, and where it is in the container."""
    source = str(one["source"] if isinstance(one, dict) else one)
    target = str((one.get("target") if isinstance(one, dict) else "") or "")
    if target.startswith("/"):
        return source, target
    return source, f"/run/secrets/{target or source}" if kind == "secrets" else f"/{target or source}"
