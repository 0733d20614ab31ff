"""Which fields a compose file has, and what their values look like; what is known and not implemented is told as that.

Source: compose-spec 05-services.md, 06-networks.md, 07-volumes.md, 08-configs.md, 09-secrets.md, deploy.md. The kinds are words:

    text      a text, or a number or truth that is taken for one       [kind]         a list
    number    a number, or a text that is one                          {str: kind}    names of one's own, and a value each
    truth     true or false                                            {...: kind}    these fields and no others
    (a, b)    one or the other                                         a set          one of these words
    None      nothing, or the field is left empty                      "no: reason"   refused
    any       whatever; it is for a verb that is not here
"""

from __future__ import annotations

import re

from minirt.compose.text import Document, Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["SERVICE", "TOP", "check"]

TEXT, NUMBER, TRUTH, ANY = "text", "number", "truth", "any"
LIST: Any = [TEXT]
PAIRS: Any = ([TEXT], {str: (TEXT, None)})  # KEY=VALUE, or a mapping
NO = "no: not implemented"
SWARM = "no: it is for a swarm"

FILE_REFERENCE: Any = [(TEXT, {"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": (NUMBER, TEXT)})]
BUILD: Any = (
    TEXT,
    {
        "context": TEXT, "dockerfile": TEXT, "dockerfile_inline": TEXT, "args": PAIRS, "labels": PAIRS, "target": TEXT,
        "network": TEXT, "no_cache": TRUTH, "pull": TRUTH, "tags": LIST, "secrets": FILE_REFERENCE, "ssh": NO, "cache_from": LIST,
        "cache_to": LIST, "additional_contexts": NO, "extra_hosts": NO, "isolation": NO, "privileged": NO, "shm_size": NO,
        "ulimits": NO, "platforms": NO, "entitlements": NO,
    },
)  # fmt: skip
HEALTH: Any = {
    "test": (TEXT, LIST), "interval": TEXT, "timeout": TEXT, "retries": NUMBER, "start_period": TEXT, "start_interval": TEXT,
    "disable": TRUTH,
}  # fmt: skip
RESOURCES: Any = {
    "limits": {"cpus": TEXT, "memory": TEXT, "pids": NUMBER},
    "reservations": {"cpus": TEXT, "memory": TEXT, "devices": NO, "generic_resources": SWARM},
}
DEPLOY: Any = {
    "replicas": NUMBER, "resources": RESOURCES, "labels": PAIRS, "mode": {"replicated", "global", "replicated-job", "global-job"},
    "restart_policy": {"condition": {"none", "on-failure", "any"}, "delay": TEXT, "max_attempts": NUMBER, "window": TEXT},
    "endpoint_mode": SWARM, "placement": SWARM, "rollback_config": SWARM, "update_config": SWARM,
}  # fmt: skip
PORT: Any = {
    "target": NUMBER, "published": TEXT, "host_ip": TEXT, "protocol": TEXT, "mode": TEXT, "name": TEXT, "app_protocol": TEXT,
}  # fmt: skip
MOUNT: Any = {
    "type": {"bind", "volume", "tmpfs"}, "source": TEXT, "target": TEXT, "read_only": TRUTH, "consistency": TEXT,
    "bind": {"propagation": TEXT, "create_host_path": TRUTH, "recursive": TEXT, "selinux": TEXT},
    "volume": {"nocopy": TRUTH, "subpath": TEXT, "labels": PAIRS}, "tmpfs": {"size": TEXT, "mode": (NUMBER, TEXT)},
}  # fmt: skip
MEMBER: Any = ({
    "aliases": LIST, "ipv4_address": TEXT, "ipv6_address": TEXT, "mac_address": TEXT, "priority": NUMBER,
    "link_local_ips": NO, "driver_opts": NO, "interface_name": NO, "gw_priority": NO,
}, None)  # fmt: skip

SERVICE: Any = {
    "annotations": PAIRS, "attach": TRUTH, "build": BUILD, "cap_add": LIST, "cap_drop": LIST, "cgroup": {"host", "private"},
    "command": (TEXT, LIST, None), "configs": FILE_REFERENCE, "container_name": TEXT, "cpu_period": NUMBER, "cpu_quota": NUMBER,
    "cpu_shares": NUMBER, "cpus": TEXT, "cpuset": TEXT,
    "depends_on": (LIST, {str: {
        "condition": {"service_started", "service_healthy", "service_completed_successfully"}, "restart": TRUTH, "required": TRUTH,
    }}),
    "deploy": DEPLOY, "device_cgroup_rules": LIST, "devices": [(TEXT, {"source": TEXT, "target": TEXT, "permissions": TEXT})],
    "dns": (TEXT, LIST), "dns_opt": LIST, "dns_search": (TEXT, LIST), "domainname": TEXT, "entrypoint": (TEXT, LIST, None),
    "env_file": (TEXT, [(TEXT, {"path": TEXT, "required": TRUTH, "format": NO})]), "environment": PAIRS, "expose": LIST,
    "extends": (TEXT, {"file": TEXT, "service": TEXT}),
    "extra_hosts": ([TEXT], {str: (TEXT, LIST)}), "group_add": LIST, "healthcheck": HEALTH, "hostname": TEXT,
    "image": TEXT, "init": TRUTH, "ipc": TEXT, "label_file": (TEXT, LIST), "labels": PAIRS,
    "logging": {"driver": TEXT, "options": {str: (TEXT, None)}}, "mac_address": TEXT, "mem_limit": TEXT, "mem_reservation": TEXT,
    "memswap_limit": TEXT, "network_mode": TEXT, "networks": (LIST, {str: MEMBER}), "oom_score_adj": NUMBER, "pid": (TEXT, None),
    "pids_limit": NUMBER, "platform": TEXT, "ports": [(TEXT, PORT)], "privileged": TRUTH, "profiles": LIST, "pull_policy": TEXT,
    "read_only": TRUTH, "restart": TEXT, "scale": NUMBER, "secrets": FILE_REFERENCE, "security_opt": LIST, "shm_size": TEXT,
    "stdin_open": TRUTH, "stop_grace_period": TEXT, "stop_signal": TEXT, "sysctls": PAIRS, "tmpfs": (TEXT, LIST), "tty": TRUTH,
    "ulimits": {str: (NUMBER, {"soft": NUMBER, "hard": NUMBER})}, "user": TEXT, "userns_mode": TEXT, "uts": TEXT,
    "volumes": [(TEXT, MOUNT)], "volumes_from": LIST, "working_dir": TEXT, "develop": ANY,
    "blkio_config": NO, "cgroup_parent": NO, "cpu_count": NO, "cpu_percent": NO, "cpu_rt_period": NO, "cpu_rt_runtime": NO,
    "credential_spec": NO, "external_links": NO, "gpus": NO, "isolation": NO,
    "links": "no: services of one network know each other by name",
    "mem_swappiness": NO, "models": NO, "oom_kill_disable": NO, "post_start": NO, "pre_stop": NO, "provider": NO, "runtime": NO,
    "storage_opt": NO, "use_api_socket": NO, "pull_refresh_after": NO,
}  # fmt: skip
NETWORK: Any = ({
    "name": TEXT, "driver": TEXT, "driver_opts": {str: TEXT}, "external": (TRUTH, {"name": TEXT}), "internal": TRUTH,
    "attachable": TRUTH, "labels": PAIRS, "enable_ipv4": TRUTH, "enable_ipv6": TRUTH,
    "ipam": {"driver": TEXT, "options": {str: TEXT}, "config": [{"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT,
                                                                "aux_addresses": {str: TEXT}}]},
}, None)  # fmt: skip
VOLUME: Any = ({
    "name": TEXT, "driver": TEXT, "driver_opts": {str: TEXT}, "external": (TRUTH, {"name": TEXT}), "labels": PAIRS,
}, None)  # fmt: skip
CONTENT: Any = {
    "name": TEXT, "file": TEXT, "environment": TEXT, "content": TEXT, "external": SWARM, "labels": PAIRS, "driver": SWARM,
    "driver_opts": SWARM, "template_driver": SWARM,
}  # fmt: skip
TOP: Any = {
    "name": TEXT, "version": TEXT, "services": {str: SERVICE}, "networks": ({str: NETWORK}, None), "volumes": ({str: VOLUME}, None),
    "secrets": ({str: CONTENT}, None), "configs": ({str: CONTENT}, None), "include": NO, "models": NO,
}  # fmt: skip

OWN_NAME = re.compile(r"[a-zA-Z0-9._-]+", re.ASCII)
WORDS = {TEXT: "a text", NUMBER: "a number", TRUTH: "true or false"}


def check(document: Document) -> None:
    """Refuse what is no compose file, with its line. Raises: ComposeError."""
    if not isinstance(document.value, dict):
        raise document.fail((), "a compose file is a mapping, with services: in it")
    look(document, document.value, TOP, ())


def look(document: Document, value: Any, kind: Any, path: Path) -> None:
    """Compare a value with its kind."""
    alternatives = kind if isinstance(kind, tuple) else (kind,)
    if value is None and (None in alternatives or not path):
        return
    fitting = [one for one in alternatives if one is not None and shape_fits(value, one)]
    if not fitting:
        if isinstance(kind, str) and kind.startswith("no: "):
            raise document.fail(path, kind.removeprefix("no: "))
        raise document.fail(path, f"{described(alternatives)} is expected, not {shown(value)}")
    one = fitting[0]
    if isinstance(one, list):
        for i, inner in enumerate(value):
            look(document, inner, one[0], (*path, i))
    elif isinstance(one, dict):
        fields(document, value, one, path)


def fields(document: Document, value: dict[str, Any], kind: dict[Any, Any], path: Path) -> None:
    """Compare a mapping's fields with those that there are; x-... are for others."""
    free = kind.get(str)
    for key, inner in value.items():
        if str in kind:
            if path[:1] != () and len(path) == 1 and not OWN_NAME.fullmatch(key):
                raise document.fail((*path, key), "a name is made of letters, digits, . _ -")
            look(document, inner, free, (*path, key))
        elif key in kind:
            look(document, inner, kind[key], (*path, key))
        elif not key.startswith("x-"):
            near = close_to(key, kind)
            raise document.fail((*path, key), f"there is no such field{f'; is {near} meant?' if near else ''}")


def close_to(key: str, kind: dict[Any, Any]) -> str:
    """Return the field that is written most like one that is not there."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(key, list(kind), 1)), "")


def shape_fits(value: Any, kind: Any) -> bool:
    """Say whether a value has a kind's outer form."""
    if isinstance(kind, list):
        return isinstance(value, list)
    if isinstance(kind, dict):
        return isinstance(value, dict)
    if isinstance(kind, (set, frozenset)):
        return isinstance(value, str) and value in kind
    if kind == ANY:
        return True
    if kind == TEXT:
        return isinstance(value, (str, int, float)) and not isinstance(value, dict)
    if kind == NUMBER:
        return (isinstance(value, (int, float)) and not isinstance(value, bool)) or (isinstance(value, str) and is_number(value))
    if kind == TRUTH:
        return isinstance(value, bool) or (isinstance(value, str) and value.lower() in ("true", "false"))
    return False


def is_number(text: str) -> bool:
    """Say whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def described(alternatives: tuple[Any, ...]) -> str:
    """Return what is expected, in words."""
    names = []
    for one in alternatives:
        if isinstance(one, (set, frozenset)):
            names.append(f"one of {', '.join(sorted(one))}")
        elif one is not None:
            names.append("a list" if isinstance(one, list) else "a mapping" if isinstance(one, dict) else WORDS.get(one, str(one)))
    return " or ".join(names)


def shown(value: Any) -> str:
    """Return a value for a message."""
    if isinstance(value, (dict, list)):
        return "a mapping" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)
