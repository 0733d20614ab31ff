"""Options and an image's configuration, to the container's config.json."""

from __future__ import annotations

import os

from minirt.engine import values
from minirt.engine.sharing import share, shared_memory
from minirt.errors import UsageError
from minirt.linux import capabilities
from minirt.oci.lookup import DEFAULT_PATH
from minirt.oci.spec import default_spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from minirt.engine.options import RunOptions

__all__ = ["labels_of", "make_spec", "security_options"]


def make_spec(options: RunOptions, image: dict[str, Any], id: str) -> dict[str, Any]:
    """Return config.json for a container.

    Args:
        options: what was asked for.
        image: the image's `config` object (image-spec config.md).
        id: the container's, for its default host name.

    Raises: UsageError, which names the flag.
    """
    spec = default_spec()
    linux = spec["linux"]
    namespaces(options, linux)
    spec["hostname"] = hostname(options, id)
    spec["process"].update(process(options, image, spec["hostname"]))
    spec["root"]["readonly"] = options.read_only
    spec["mounts"] = mounts(options, image, spec["mounts"])
    if options.domainname:
        spec["domainname"] = options.domainname
    asked = [one for text in options.device for one in values.expand_device(text)]
    linux["devices"] = [values.parse_device(text) for text in asked]
    kinds = {n["type"] for n in linux["namespaces"]}
    linux["sysctl"] = dict(values.parse_sysctl(text, kinds) for text in options.sysctl)
    if options.privileged:
        privileged(spec)
    if options.security_opt:
        from minirt.engine.security import hide_paths

        hide_paths(options, spec)
    spec["annotations"] = {**labels_of(options, image), **values.parse_pairs(options.annotation, "--annotation")}
    limits = resources(options)
    limits["devices"] = device_rules(options, asked, linux["devices"])
    if limits:
        linux["resources"] = limits
    return spec


def labels_of(options: RunOptions, image: dict[str, Any]) -> dict[str, str]:
    """Return a container's labels: its image's, and its own. Args: image, the image's `config` object."""
    own = values.parse_labels(options.label, options.label_file)
    return {**(image.get("Labels") or {}), **own}


def namespaces(options: RunOptions, linux: dict[str, Any]) -> None:
    """Leave out the namespaces that are shared with the host, and add a user namespace where one is asked for."""
    share(options, linux)
    if options.network == "host":
        linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "network"]
    elif options.network.startswith("container:"):
        share_network(options.network, linux)
    if options.userns not in ("host", "auto", "private", ""):
        raise UsageError(f"--userns {options.userns}: there are host and auto (or give --uidmap and --gidmap)")
    uids = [values.parse_id_map(text, "--uidmap") for text in options.uidmap]
    gids = [values.parse_id_map(text, "--gidmap") for text in options.gidmap] or uids
    uids = uids or gids
    rootless = os.geteuid() != 0
    if not uids and (rootless or options.userns in ("auto", "private")):
        if rootless:
            uids = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
            gids = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        else:
            uids = gids = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    if uids:
        if options.pid == "host":
            raise UsageError("--pid host: a user namespace of one's own cannot mount /proc for the host's processes")
        for ids, flag in ((uids, "--uidmap"), (gids, "--gidmap")):
            if not any(m["containerID"] == 0 for m in ids):
                raise UsageError(f"{flag}: container id 0 must be mapped: it sets up the container")
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"], linux["gidMappings"] = uids, gids


def share_network(value: str, linux: dict[str, Any]) -> None:
    """Put the network namespace of another container in place of a new one. Raises: UsageError, ContainerError."""
    from minirt.engine.container import find

    other = find(value.removeprefix("container:"))
    if not other.running:
        raise UsageError(f"--network {value}: that container does not run, and has no network")
    for namespace in linux["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = f"/proc/{other.state['pid']}/ns/net"


def hostname(options: RunOptions, id: str) -> str:
    """Return the container's host name: as asked, or the host's where its network is shared, or the id's beginning."""
    if options.hostname:
        if options.uts == "host":
            raise UsageError("--hostname: with --uts host it would rename the host")
        if len(options.hostname) > 64:
            raise UsageError("--hostname: at most 64 bytes (man 2 sethostname)")
        return options.hostname
    if options.uts == "host" or options.network == "host":
        return os.uname().nodename
    return id[:12]


def process(options: RunOptions, image: dict[str, Any], name: str) -> dict[str, Any]:
    """Return config.json's process."""
    entrypoint = image.get("Entrypoint") or []
    command = options.command or (image.get("Cmd") or [] if options.entrypoint is None else [])
    if options.entrypoint is not None:
        entrypoint = [options.entrypoint] if options.entrypoint else []
    args = [*entrypoint, *command]
    if not args:
        raise UsageError(f"image {options.image} names no command: give one after the image's name")
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": name}
    if options.tty:
        env["TERM"] = "xterm"
    env |= dict(item.partition("=")[::2] for item in image.get("Env") or ())
    env |= values.parse_environment(options.env, options.env_file)
    cwd = options.workdir or image.get("WorkingDir") or "/"
    if not cwd.startswith("/"):
        raise UsageError(f"--workdir {cwd}: it must be an absolute path in the container")
    mine: Sequence[str] = capabilities.NAMES  # of a new user namespace one has them all
    if not in_user_namespace(options):  # else nobody can hand on more than he has
        mine = capabilities.names(capabilities.of_process()["permitted"])
    added = ["ALL"] if options.privileged else options.cap_add
    kept = capabilities.add_and_drop(added, options.cap_drop, everything=mine)
    result: dict[str, Any] = {
        "terminal": options.tty,
        "args": args,
        "env": [f"{key}={value}" for key, value in env.items()],
        "cwd": os.path.normpath(cwd),
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), kept),
        "noNewPrivileges": security_options(options)[0],
        "rlimits": [values.parse_ulimit(text) for text in options.ulimit],
    }
    if options.oom_score_adj is not None:
        if not -1000 <= options.oom_score_adj <= 1000:
            raise UsageError("--oom-score-adj: from -1000 to 1000")
        result["oomScoreAdj"] = options.oom_score_adj
    return result


def in_user_namespace(options: RunOptions) -> bool:
    """Say whether the container has a user namespace of its own: asked for, or needed without privilege."""
    return options.userns in ("auto", "private") or bool(options.uidmap or options.gidmap) or os.geteuid() != 0


def mounts(options: RunOptions, image: dict[str, Any], default: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mounts: the default ones changed where asked, then those asked for, parents before children."""
    result = {m["destination"]: m for m in default}
    shared_memory(options, result, values.parse_size(options.shm_size, "--shm-size"))
    if options.network == "host" and in_user_namespace(options):
        # sysfs shows the devices of a network namespace, and only who owns that may mount it.
        result["/sys"] = {"destination": "/sys", "type": "bind", "source": "/sys", "options": ["rbind", "rro"]}
        result.pop("/sys/fs/cgroup", None)
    if os.geteuid() != 0:
        pts = result["/dev/pts"]
        pts["options"] = [o for o in pts["options"] if o != "gid=5"]  # group 5 is not mapped
    mapped = in_user_namespace(options) and os.geteuid() == 0
    asked = options.mounts or options.volume or options.mount or options.tmpfs or options.volumes_from or image.get("Volumes")
    if not asked:
        return list(result.values())
    from minirt.engine.mounts import requests

    for request in requests(options, image):
        result.pop(request.target, None)  # so that it comes after what is mounted above it
        result[request.target] = request.entry(idmap=mapped)
    return list(result.values())


def security_options(options: RunOptions) -> tuple[bool, str]:
    """Return (no_new_privs, seccomp) from --security-opt: seccomp is `default`, `unconfined` or a profile's path."""
    if not options.security_opt:
        return False, "unconfined" if options.privileged else "default"
    from minirt.engine.security import security_of

    found = security_of(options)
    return found.no_new_privileges, found.seccomp


def device_rules(options: RunOptions, asked: list[str], devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return linux.resources.devices: nothing but what every container may use, and the devices asked for."""
    if options.privileged:
        return [{"allow": True, "access": "rwm"}]
    rules: list[dict[str, Any]] = [{"allow": False, "access": "rwm"}]
    for text, device in zip(asked, devices, strict=True):
        rule = {key: device[key] for key in ("type", "major", "minor")}
        rules.append({"allow": True, **rule, "access": values.device_access(text)})
    return rules + [values.parse_device_rule(text) for text in options.device_cgroup_rule]


def privileged(spec: dict[str, Any]) -> None:
    """Take down what keeps a container from the host's devices and settings: docker's --privileged."""
    import stat

    linux = spec["linux"]
    linux["maskedPaths"], linux["readonlyPaths"] = [], []
    for mount in spec["mounts"]:
        if mount["destination"] in ("/sys", "/sys/fs/cgroup"):
            mount["options"] = [o for o in mount["options"] if o != "ro"]
    known = {"null", "zero", "full", "random", "urandom", "tty", "console", "ptmx"}
    for name in sorted(os.listdir("/dev")):
        mode = os.lstat(f"/dev/{name}").st_mode
        if name not in known and (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            linux["devices"].append(values.parse_device(f"/dev/{name}"))


def resources(options: RunOptions) -> dict[str, Any]:
    """Return linux.resources: only what was asked for (runtime-spec config-linux.md#control-groups)."""
    memory: dict[str, int] = {}
    if options.memory:
        memory["limit"] = values.parse_size(options.memory, "--memory")
        if memory["limit"] < 512 * 1024:
            raise UsageError(f"--memory {options.memory}: too little for any process; the least is 512k")
    if options.memory_reservation:
        memory["reservation"] = values.parse_size(options.memory_reservation, "--memory-reservation")
    if options.memory_swap:
        if options.memory_swap != "-1" and not options.memory:
            raise UsageError("--memory-swap is memory and swap together: give --memory too")
        swap = -1 if options.memory_swap == "-1" else values.parse_size(options.memory_swap, "--memory-swap")
        if swap != -1 and swap < memory["limit"]:
            raise UsageError("--memory-swap is memory and swap together: it cannot be less than --memory")
        memory["swap"] = swap
    cpu: dict[str, Any] = {}
    if options.cpus:
        if options.cpu_quota or options.cpu_period:
            raise UsageError("--cpus and --cpu-quota or --cpu-period say the same: give one of them")
        cpu["quota"], cpu["period"] = values.parse_cpus(options.cpus)
    for name, value in (("quota", options.cpu_quota), ("period", options.cpu_period), ("shares", options.cpu_shares)):
        if value is not None:
            cpu[name] = value
    for name, text in (("cpus", options.cpuset_cpus), ("mems", options.cpuset_mems)):
        if text:
            cpu[name] = text
    result: dict[str, Any] = {name: part for name, part in (("memory", memory), ("cpu", cpu)) if part}
    if options.pids_limit is not None:
        result["pids"] = {"limit": options.pids_limit}
    io: dict[str, Any] = {}
    if options.io_weight is not None:
        io["weight"] = options.io_weight
    for limit in map(values.parse_io_max, options.io_max):
        for key, name in (("rbps", "ReadBps"), ("wbps", "WriteBps"), ("riops", "ReadIOPS"), ("wiops", "WriteIOPS")):
            if key in limit:
                device = {"major": limit["major"], "minor": limit["minor"], "rate": limit[key]}
                io.setdefault(f"throttle{name}Device", []).append(device)
    if io:
        result["blockIO"] = io
    if options.cpu_weight is not None:
        if not 1 <= options.cpu_weight <= 10000:
            raise UsageError("--cpu-weight: from 1 to 10000; 100 is the default")
        result["unified"] = {"cpu.weight": str(options.cpu_weight)}
    return result
