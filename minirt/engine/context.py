"""What a container's plan is compiled from, and what its birth finds on the host: its cgroup, its directory's files."""

from __future__ import annotations

import os

from minirt.engine.attachments import network_of, resolv_conf
from minirt.engine.spec import security_options
from minirt.errors import UsageError
from minirt.oci.rootfs import is_too_long, overlay_options
from minirt.oci.step import Context, Overlay
from minirt.paths import cache_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.linux.cgroup2 import Cgroup
    from minirt.trace import Sink

__all__ = ["INIT", "compile_filter", "in_new_userns", "make_cgroup", "make_context", "prepare"]

INIT = "/sbin/docker-init"


def make_context(
    options: RunOptions, image: Image, path: str, spec: dict[str, Any], cgroup: Cgroup | None
) -> Context:
    """Return what the plan is compiled from."""
    rootless = os.geteuid() != 0
    lower = image.layers()
    if in_new_userns(spec) and not rootless:  # the id-mapped copies are attached here, in the child's namespace only
        lower = [f"{path}/layers/{i}" for i in range(len(lower))]
    overlay = Overlay(lower, f"{path}/upper", f"{path}/work", f"{path}/merged", f"{path}/layers")
    if options.init:
        source = os.path.join(os.path.dirname(__file__), "init.elf")
        spec["mounts"].append({"destination": INIT, "type": "bind", "source": source, "options": ["bind", "ro"]})
    user = options.user or (image.config.get("config") or {}).get("User") or ""
    directory = cgroup.path if cgroup is not None else ""
    return Context(spec, path, overlay, user, directory, compile_filter(options, spec), rootless,
                   INIT if options.init else "", network=bool(network_of(options)))  # fmt: skip


def in_new_userns(spec: dict[str, Any]) -> bool:
    """Say whether config.json asks for a new user namespace."""
    return any(n["type"] == "user" for n in spec["linux"]["namespaces"])


def compile_filter(options: RunOptions, spec: dict[str, Any]) -> tuple[bytes, int] | None:
    """Return the seccomp filter as a program and its flags, or None for --security-opt seccomp=unconfined."""
    wanted = security_options(options)[1]
    if wanted == "unconfined":
        return None
    from minirt.linux import seccomp

    kept = spec["process"]["capabilities"]["bounding"]
    cache = os.path.join(cache_root(), "seccomp")
    if wanted == "default":
        made = seccomp.compile_default(kept, cache=cache)
    else:
        profile, wanted = read_profile(wanted)
        made = seccomp.compile(profile, kept, cache=cache, where=wanted)
    if made.notifies:
        raise UsageError(f"--security-opt seccomp={wanted}: SCMP_ACT_NOTIFY is not implemented in `minirt run`")
    return made.program, made.flags


def read_profile(wanted: str) -> tuple[Any, str]:
    """Return a seccomp profile, and what to call it: from its file; or it is the text, as docker's command line sends it."""
    import json

    try:
        if wanted.startswith("{"):
            return json.loads(wanted), "PROFILE"
        with open(wanted, encoding="utf-8") as file:
            return json.load(file), wanted
    except OSError as error:
        raise UsageError(f"--security-opt seccomp={wanted}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"--security-opt seccomp={wanted[:40]}: not JSON: {error}") from None


def make_cgroup(id: str, spec: dict[str, Any], sink: Sink | None) -> Any:
    """Return a context manager of the container's cgroup; it gives None where none is needed and none can be made."""
    from minirt.linux import cgroup2, device_filter

    resources = spec["linux"].get("resources") or {}
    group = cgroup2.create(id, resources, sink=sink)
    if isinstance(group, cgroup2.Cgroup):
        try:
            device_filter.attach(group.path, resources["devices"], sink)
            if spec["linux"].get("uidMappings"):
                from minirt.linux import cgroup_owner

                cgroup_owner.give(group.path, cgroup_owner.owner_of(spec))
        except BaseException:
            group.remove()
            raise
    return group


def prepare(container: Container, context: Context, image: Image, options: RunOptions) -> None:
    """Write what the container finds in its directory: config.json, the files that docker binds into /etc."""
    import json

    spec = context.config
    assert context.overlay is not None
    if in_new_userns(spec) and not context.rootless:
        from minirt.linux.userns import outside

        uid = outside(spec["linux"]["uidMappings"], 0)
        gid = outside(spec["linux"]["gidMappings"], 0)
        for path in (context.overlay.upper, context.overlay.work, context.overlay.target):
            os.chown(path, uid, gid)
        for path in (context.overlay.short, *context.overlay.lower):
            os.makedirs(path, 0o755, exist_ok=True)  # they are there already where it is started again
    elif is_too_long(overlay_options(context.overlay, context.overlay.lower, True)):
        os.makedirs(context.overlay.short, 0o755, exist_ok=True)
        for number, path in enumerate(context.overlay.lower):
            if not os.path.lexists(f"{context.overlay.short}/{number}"):
                os.symlink(path, f"{context.overlay.short}/{number}")
    os.chmod(context.overlay.upper, os.stat(image.layers()[0]).st_mode & 0o7777)  # the root directory's own mode
    texts = files_of_names(spec, options)
    if options.add_host:
        texts["hosts"] += host_lines(options)
    taken = {m["destination"] for m in spec["mounts"]}
    for file, text in texts.items():
        path = container.write(file, text)
        if f"/etc/{file}" not in taken:
            bound = ["bind", "rprivate"]
            spec["mounts"].append({"destination": f"/etc/{file}", "type": "bind", "source": path, "options": bound})
    container.write("config.json", json.dumps(spec))


def files_of_names(spec: dict[str, Any], options: RunOptions) -> dict[str, str]:
    """Return what hosts, hostname and resolv.conf in /etc say: as whose network it is."""
    if options.network.startswith("container:"):
        from minirt.engine.container import find

        other = find(options.network.removeprefix("container:")).path
        return {file: read_host(f"{other}/{file}") for file in ("hosts", "hostname", "resolv.conf")}
    name = spec["hostname"]
    hosts = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
    host_network = "network" not in {n["type"] for n in spec["linux"]["namespaces"]}
    return {
        "hosts": read_host("/etc/hosts") if host_network else f"{hosts}127.0.1.1\t{name}\n",
        "hostname": f"{name}\n",
        "resolv.conf": resolv_conf(options),
    }


def host_lines(options: RunOptions) -> str:
    """Return the lines that --add-host asks for in /etc/hosts. Raises: UsageError."""
    from minirt.engine.values import parse_hosts

    return "".join(f"{address}\t{name}\n" for name, address in parse_hosts(options.add_host))


def read_host(path: str) -> str:
    """Return a host's file, or nothing where it has none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
