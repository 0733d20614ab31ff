"""Rules of config.json for what few containers have: see validate.py, which loads this file for those alone."""

from __future__ import annotations

from minirt.oci.shapes import Wrong, shown
from minirt.oci.validate_namespaces import kinds, mappings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Json = dict[str, Any]

__all__ = ["RULES"]


def scheduler(config: Json, warnings: list[str]) -> None:
    """config.md#linux-process, scheduler; man 2 sched_setattr for which fields a policy has."""
    wanted = config["process"]["scheduler"]
    policy, path = wanted["policy"], (".scheduler", ".process")
    priority = wanted.get("priority") or 0
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 1 <= priority <= 99:
            raise Wrong(f"{priority} is not a whole number from 1 to 99, as {policy} has", ".priority", *path)
    elif priority:
        raise Wrong(f"{priority} is for SCHED_FIFO and SCHED_RR; {policy} has none", ".priority", *path)
    times = {key: wanted.get(key) or 0 for key in ("runtime", "deadline", "period")}
    if policy != "SCHED_DEADLINE":
        for key, value in times.items():
            if value:
                raise Wrong(f"{value} is for SCHED_DEADLINE; {policy} has none", f".{key}", *path)
        return
    if times["runtime"] < 1024:  # DL_SCALE: less cannot be told apart
        raise Wrong(f"{times['runtime']} is less than 1024 nanoseconds, which SCHED_DEADLINE needs", ".runtime", *path)
    if times["deadline"] < times["runtime"]:
        raise Wrong(f"{times['deadline']} is less than runtime, {times['runtime']}", ".deadline", *path)
    if times["period"] and times["period"] < times["deadline"]:
        raise Wrong(f"{times['period']} is less than deadline, {times['deadline']}", ".period", *path)


def id_mapped(config: Json, warnings: list[str], i: int) -> None:
    """config.md#posix-platform-mounts, uidMappings and gidMappings; man 2 mount_setattr, ID-mapped mounts."""
    mount = config["mounts"][i]
    options, path = mount.get("options") or (), (f"[{i}]", ".mounts")
    if not ("bind" in options or "rbind" in options or mount.get("type") == "bind"):
        kind = shown(mount.get("type") or "none")
        raise Wrong(f"id-mapped mounts are bind mounts here, and this one has type {kind}", ".options", *path)
    for key, other in (("uidMappings", "gidMappings"), ("gidMappings", "uidMappings")):
        if mount.get(key) and not mount.get(other):
            raise Wrong(f"missing; it MUST be given along with {key}", f".{other}", *path)
        if mount.get(key):
            mappings(mount[key], f".{key}", *path)
    if not mount.get("uidMappings") and "user" not in kinds(config):
        raise Wrong("idmap without uidMappings needs a user namespace, whose maps count then", ".options", *path)


def time_offsets(config: Json, warnings: list[str]) -> None:
    """config-linux.md#time-offsets: they can only be set while nobody is in the namespace (man 7 time_namespaces)."""
    if config["linux"]["timeOffsets"] and kinds(config).get("time") != "":
        raise Wrong("needs a new time namespace in linux.namespaces", ".timeOffsets", ".linux")


def net_devices(config: Json, warnings: list[str]) -> None:
    """config-linux.md#network-devices: moved to the container's network namespace, under names that are different there."""
    names: dict[str, str] = {}
    for key, device in config["linux"]["netDevices"].items():
        if "network" not in kinds(config):
            raise Wrong("needs a network namespace in linux.namespaces; the host's has them already", ".netDevices", ".linux")
        name = device.get("name") or key
        if name in names:
            rule = f"{shown(name)} is {shown(names[name])}'s name already"
            raise Wrong(rule, ".name", f"[{shown(key)}]", ".netDevices", ".linux")
        names[name] = key


def intel_rdt(config: Json, warnings: list[str]) -> None:
    """config-linux.md#intelrdt: an error where there is no resctrl; here there is nothing to write to it."""
    raise Wrong("is not supported: this runtime does not use the resctrl file system", ".intelRdt", ".linux")


# What set_mempolicy(2) wants beside a mode: nodes, none, or as one likes.
WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")


def memory_policy(config: Json, warnings: list[str]) -> None:
    """config-linux.md#memory-policy; man 2 set_mempolicy for what goes together."""
    policy = config["linux"]["memoryPolicy"]
    mode, nodes, flags, path = policy["mode"], policy.get("nodes"), policy.get("flags") or (), (".memoryPolicy", ".linux")
    if mode in WITHOUT_NODES and nodes:
        raise Wrong(f"{mode} takes no nodes", ".nodes", *path)
    if mode not in (*WITHOUT_NODES, "MPOL_PREFERRED") and not nodes:
        raise Wrong(f"missing; {mode} needs nodes", ".nodes", *path)
    if "MPOL_F_STATIC_NODES" in flags and "MPOL_F_RELATIVE_NODES" in flags:
        raise Wrong("MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other", ".flags", *path)
    if "MPOL_F_NUMA_BALANCING" in flags and mode not in ("MPOL_BIND", "MPOL_PREFERRED_MANY"):
        raise Wrong(f"MPOL_F_NUMA_BALANCING is not for {mode}", ".flags", *path)


def personality(config: Json, warnings: list[str]) -> None:
    """No flag is supported currently (config-linux.md#personality)."""
    flags = config["linux"]["personality"].get("flags")
    if flags:
        raise Wrong(f"{shown(flags[0])} is not supported; no flag is", "[0]", ".flags", ".personality", ".linux")


def cpu(config: Json, warnings: list[str]) -> None:
    """config-linux.md#cpu: burst MUST be no larger than any positive quota."""
    limits = config["linux"]["resources"]["cpu"]
    quota, burst = limits.get("quota") or 0, limits.get("burst") or 0
    if 0 < quota < burst:
        raise Wrong(f"{burst} is more than quota, {quota}", ".burst", ".cpu", ".resources", ".linux")


def memory(config: Json, warnings: list[str]) -> None:
    """config-linux.md#memory: swap is memory and swap together."""
    limits = config["linux"]["resources"]["memory"]
    limit, swap = limits.get("limit") or 0, limits.get("swap") or 0
    if swap > 0 and limit == 0:
        raise Wrong("needs memory.limit: it is memory and swap together", ".swap", ".memory", ".resources", ".linux")
    if 0 < swap < limit:
        raise Wrong(f"{swap} is less than limit, {limit}: it is memory and swap together",
                    ".swap", ".memory", ".resources", ".linux")  # fmt: skip


def block_io(config: Json, warnings: list[str]) -> None:
    """config-linux.md#block-io: weights are from 10 to 1000 (Documentation/block/bfq-iosched.rst; 0 is "not set")."""
    io, path = config["linux"]["resources"]["blockIO"], (".blockIO", ".resources", ".linux")
    for key in ("weight", "leafWeight"):
        check_weight(io.get(key), f".{key}", *path)
    for i, device in enumerate(io.get("weightDevice") or ()):
        for key in ("weight", "leafWeight"):
            check_weight(device.get(key), f".{key}", f"[{i}]", ".weightDevice", *path)
        if device.get("weight") is None and device.get("leafWeight") is None:
            raise Wrong("needs weight or leafWeight, or both", f"[{i}]", ".weightDevice", *path)


def check_weight(weight: int | None, *path: str) -> None:
    """Raise Wrong for a weight that the kernel does not have."""
    if weight and weight < 10:
        raise Wrong(f"{weight} is not a whole number from 10 to 1000", *path)


def rdma(config: Json, warnings: list[str]) -> None:
    """At least one of the two MUST be there (config-linux.md#rdma)."""
    for name, device in config["linux"]["resources"]["rdma"].items():
        if device.get("hcaHandles") is None and device.get("hcaObjects") is None:
            raise Wrong("needs hcaHandles or hcaObjects, or both", f"[{shown(name)}]", ".rdma", ".resources", ".linux")


RULES: Any = {
    "scheduler": scheduler,
    "mounts": id_mapped,
    "timeOffsets": time_offsets,
    "netDevices": net_devices,
    "intelRdt": intel_rdt,
    "memoryPolicy": memory_policy,
    "personality": personality,
    "cpu": cpu,
    "memory": memory,
    "blockIO": block_io,
    "rdma": rdma,
}
