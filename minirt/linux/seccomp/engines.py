"""From an engine's profile to the OCI's: one profile for every machine and container, cut to this one.

docker and podman share a format (`--security-opt seccomp=FILE`) that the OCI's does not know: entries
that hold only with certain capabilities, on certain architectures or from a certain kernel on, and
the foreign calling conventions of each machine (archMap). A runtime is handed what is left of it
after those questions are answered. Here that is `resolve`, and its result goes into config.json.

Sources: moby profiles/seccomp (seccomp_linux.go), containers/common pkg/seccomp; runtime-spec
config-linux.md#seccomp for the result.
"""

from __future__ import annotations

import errno
import os

from .profile import WITH_ERRNO, items, want
from .tables import SeccompError, architecture, native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

__all__ = ["is_engine_format", "resolve"]

# What engines call an architecture in `arches` (libseccomp's words in Go); others are the OCI's in small letters.
ENGINE_NAMES = {"SCMP_ARCH_X86_64": "amd64", "SCMP_ARCH_AARCH64": "arm64"}


def is_engine_format(profile: dict[str, Any]) -> bool:
    """Return whether a profile has anything that the OCI's format lacks, so that it needs `resolve`."""
    if "archMap" in profile or "defaultErrno" in profile:
        return True
    entries = profile.get("syscalls")
    marks = {"includes", "excludes", "name", "errno"}
    return isinstance(entries, list) and any(isinstance(entry, dict) and marks & set(entry) for entry in entries)


def resolve(
    profile: dict[str, Any],
    capabilities: Collection[str],
    arch: str | None = None,
    kernel: str | None = None,
    where: str = "profile",
) -> dict[str, Any]:
    """Return what a profile in the engines' format comes to for one container, in the OCI's format.

    capabilities: names as in config.json ("CAP_SYS_ADMIN"), of the container's bounding set;
    arch: the machine as uname(2) names it, kernel: its release ("6.1.0"), both by default this host's;
    where: what messages call the profile.
    Raises SeccompError for a condition that it cannot judge; actions and arguments are left to
    the compiler.
    """
    machine = native(arch)
    release = _release(kernel or os.uname().release, "kernel")
    want(profile, dict, where)
    known = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "listenerPath", "listenerMetadata")
    result = {key: profile[key] for key in known if profile.get(key) is not None}
    if profile.get("defaultErrno") is not None:
        result["defaultErrnoRet"] = _errno(profile["defaultErrno"], f"{where}.defaultErrno")
    if profile.get("defaultAction") not in WITH_ERRNO:
        result.pop("defaultErrnoRet", None)
    if profile.get("archMap"):
        if profile.get("architectures"):
            raise SeccompError(f"{where}.archMap: must not be set together with architectures")
        result["architectures"] = _architectures(profile, machine.name, where)
    word = ENGINE_NAMES.get(machine.name, machine.name.removeprefix("SCMP_ARCH_").lower())
    result["syscalls"] = [
        _entry(entry, place)
        for place, entry in items(profile, "syscalls", where)
        if _holds(want(entry, dict, place), place, frozenset(capabilities), word, release)
    ]
    return result


def _architectures(profile: dict[str, Any], name: str, where: str) -> list[str]:
    """Return the architectures that archMap gives for a machine; none if it is not in there."""
    for place, entry in items(profile, "archMap", where):
        if want(entry, dict, place).get("architecture") == name:
            subs = [
                architecture(want(sub, str, sub_place), sub_place).name
                for sub_place, sub in items(entry, "subArchitectures", place)
            ]
            return [name, *subs]
    return []


def _holds(
    entry: dict[str, Any], where: str, capabilities: frozenset[str], arch: str, release: tuple[int, int]
) -> bool:
    """Whether an entry's `includes` all hold and none of its `excludes` does."""
    includes = want(entry.get("includes") or {}, dict, f"{where}.includes")
    excludes = want(entry.get("excludes") or {}, dict, f"{where}.excludes")
    for owner, key in ((includes, "includes"), (excludes, "excludes")):
        for name in owner:
            if name not in ("arches", "caps", "minKernel"):
                raise SeccompError(f"{where}.{key}: unknown condition {name!r}")
    arches, caps = _words(includes, "arches", f"{where}.includes"), _words(includes, "caps", f"{where}.includes")
    if (arches and arch not in arches) or not capabilities.issuperset(caps):
        return False
    if arch in _words(excludes, "arches", f"{where}.excludes"):
        return False
    if not capabilities.isdisjoint(_words(excludes, "caps", f"{where}.excludes")):
        return False
    least, most = includes.get("minKernel"), excludes.get("minKernel")
    if least and release < _release(least, f"{where}.includes.minKernel"):
        return False
    return not (most and release >= _release(most, f"{where}.excludes.minKernel"))


def _words(owner: dict[str, Any], key: str, where: str) -> list[str]:
    """Return an optional list of strings."""
    return [want(word, str, place) for place, word in items(owner, key, where)]


def _entry(entry: dict[str, Any], where: str) -> dict[str, Any]:
    """Return an entry of `syscalls` with only what the OCI's format has."""
    if entry.get("name") and entry.get("names"):
        raise SeccompError(f"{where}.name: must not be set together with names")
    names = [entry["name"]] if entry.get("name") else entry.get("names")
    result = {"names": names, "action": entry.get("action")}
    if entry.get("errno") is not None:
        result["errnoRet"] = _errno(entry["errno"], f"{where}.errno")
    elif entry.get("errnoRet") is not None:
        result["errnoRet"] = entry["errnoRet"]
    if entry.get("action") not in WITH_ERRNO:
        result.pop("errnoRet", None)  # engines take it in silence, a runtime must not
    if entry.get("args"):
        result["args"] = entry["args"]
    return result


def _errno(name: object, where: str) -> int:
    """Return the number of an errno's name, which differs between architectures (man 3 errno)."""
    value = getattr(errno, name, None) if isinstance(name, str) else None
    if not isinstance(value, int):
        raise SeccompError(f"{where}: unknown errno {name!r}")
    return value


def _release(text: object, where: str) -> tuple[int, int]:
    """Return major and minor of a kernel release, "6.1.0-13-amd64" or "4.8"."""
    parts = str(text).split(".", 2)
    minor = (parts[1] if len(parts) > 1 else "").partition("-")[0]
    if not (parts[0].isdecimal() and minor.isdecimal()):
        raise SeccompError(f"{where}: not a kernel release: {text!r}")
    return int(parts[0]), int(minor)
