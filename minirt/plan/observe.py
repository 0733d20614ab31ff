"""What can be seen of a process from outside, and what is different since last time.

All of it is read from /proc/PID (man 5 proc), as any other process of the host could.
"""

from __future__ import annotations

import os

from minirt.linux import mountinfo

__all__ = ["difference", "snapshot"]

STATUS = {"Uid", "Gid", "Groups", "CapEff", "CapBnd", "NoNewPrivs", "Seccomp"}


def snapshot(pid: int) -> dict[str, str]:
    """Return facts about a process: namespaces, root, mounts, id maps, ids, capabilities, cgroup; by name."""
    base = f"/proc/{pid}"
    facts: dict[str, str] = {}
    try:
        for name in sorted(os.listdir(f"{base}/ns")):
            if not name.endswith("_for_children"):
                facts[f"namespace {name}"] = os.readlink(f"{base}/ns/{name}")
        facts["working directory"] = os.readlink(f"{base}/cwd")
        for line in _lines(f"{base}/status"):
            key, _, value = line.partition(":")
            if key in STATUS:
                facts[key] = value.strip().replace("\t", " ")
        for name in ("uid_map", "gid_map"):
            facts[name] = "; ".join(" ".join(line.split()) for line in _lines(f"{base}/{name}"))
        facts["cgroup"] = next((line[3:] for line in _lines(f"{base}/cgroup") if line.startswith("0::")), "")
        for mount in mountinfo.read(f"{base}/mountinfo"):
            facts[f"mount {mount.id}"] = f"{mount.point} ({mount.kind}, {mount.options[0]})"
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass  # it has ended, or is not ours to look at: what was read so far is what there is
    return facts


def _lines(path: str) -> list[str]:
    with open(path) as file:
        return file.read().splitlines()


def difference(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Return what changed from one snapshot to the next, a line each; many mounts at once are counted."""
    lines = []
    gone = [value for key, value in before.items() if key not in after]
    new = [value for key, value in after.items() if key not in before]
    for key, value in after.items():
        if key in before and before[key] != value:
            name = "a mount" if key.startswith("mount ") else key
            lines.append(f"{name}: {before[key] or '(none)'} -> {value or '(none)'}")
    for sign, values in (("+", new), ("-", gone)):
        if len(values) > 6:
            lines.append(f"{sign} {len(values)} mounts")
        else:
            lines += [f"{sign} mount {value}" for value in values]
    return tuple(lines)
