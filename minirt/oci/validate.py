"""Is this config.json one that can be run? Asked before anything is made.

First each value alone, against schema.py; then what they mean to each other, one rule a function below. A rule raises
`Wrong` with the JSON path of what is wrong. Those of namespaces are in validate_namespaces.py; those of what few containers
have in validate_rare.py, loaded only for these.

runc refuses the same, where it looks; the specification's MUSTs that it does not look at are refused too, and what it
leaves to the kernel, which would only say EINVAL.
"""

from __future__ import annotations

from minirt.errors import MinirtError
from minirt.oci.schema import CONFIG, PROCESS, RESOURCES
from minirt.oci.shapes import Wrong, shown
from minirt.oci.validate_namespaces import kinds, namespaces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.oci.shapes import Shape

    Json = dict[str, Any]

__all__ = ["ConfigError", "validate", "validate_process", "validate_resources"]

MAJOR, MINOR = 1, 3  # of the specification that schema.py is
OTHER_PLATFORMS = ("windows", "solaris", "vm", "zos", "freebsd")
# What has a rule of its own in validate_rare.py, under this name.
RARE = ("timeOffsets", "netDevices", "intelRdt", "memoryPolicy", "personality")
RARE_RESOURCES = ("blockIO", "cpu", "memory", "rdma")


class ConfigError(MinirtError):
    """A configuration breaks a rule; the message is one line with the JSON path and the rule."""


def validate(config: Any, rootless: bool = False) -> list[str]:
    """Check a config.json for Linux (runtime-spec config.md, config-linux.md).

    Args:
        config: as decoded.
        rootless: whether it is for a user who may not map other users than itself.

    Returns: a sentence for each thing that will be ignored. Raises: ConfigError.
    """
    warnings: list[str] = []
    try:
        CONFIG.check(config)
        for rule in RULES:
            rule(config, warnings)
        if rootless:
            rootless_rule(config)
    except Wrong as wrong:
        raise ConfigError(f"config.json: {wrong}") from None
    return warnings


def validate_process(process: Any, where: str) -> list[str]:
    """Check a process object alone, as `exec --process` reads one.

    Args:
        process: as decoded.
        where: its file, for messages.

    Returns: a sentence for each thing that will be ignored. Raises: ConfigError.
    """
    warnings: list[str] = []
    try:
        alone(PROCESS, process, ".process")
        process_rules({"process": process}, warnings)
    except Wrong as wrong:
        raise ConfigError(f"{where}: {wrong}") from None
    return warnings


def validate_resources(resources: Any, where: str) -> None:
    """Check linux.resources alone, as `update --resources` reads them. Raises: ConfigError."""
    try:
        alone(RESOURCES, resources, ".resources", ".linux")
        rare_rules({"linux": {"resources": resources}}, [])
    except Wrong as wrong:
        raise ConfigError(f"{where}: {wrong}") from None


def alone(shape: Shape, value: Any, *path: str) -> None:
    """Check a part of a configuration, whose path is given, its last part first. Raises: Wrong."""
    try:
        shape.check(value)
    except Wrong as wrong:
        wrong.path += path
        raise


# -- rules: (config, warnings) -> None ---------------------------------------------------------------------------


def version(config: Json, warnings: list[str]) -> None:
    """SemVer 2.0.0; compatible within major version 1 (config.md#specification-version)."""
    text: str = config["ociVersion"]
    numbers = semantic(text)
    if numbers is None:
        raise Wrong(f"{shown(text)} is not in the form of SemVer 2.0.0, as 1.3.0", ".ociVersion")
    if numbers[0] != MAJOR:
        raise Wrong(f"{shown(text)} is not supported; versions 1.0.0 to 1.{MINOR} are", ".ociVersion")
    if numbers[1] > MINOR:
        warnings.append(f"config.json: ociVersion {text} is newer than 1.{MINOR}: what is new in it is ignored")


def semantic(text: str) -> tuple[int, ...] | None:
    """Return major, minor, patch of a version in the form of semver.org 2.0.0; None for what is in another form."""
    rest, plus, build = text.partition("+")
    core, dash, before = rest.partition("-")
    numbers = core.split(".")
    if len(numbers) != 3 or not all(number_in_version(part) for part in numbers):
        return None
    for extra, given in ((before, dash), (build, plus)):
        for part in extra.split(".") if given else ():
            if not part or not part.isascii() or not part.replace("-", "0").isalnum():
                return None
            if extra is before and part.isdigit() and not number_in_version(part):
                return None
    return tuple(map(int, numbers))


def number_in_version(part: str) -> bool:
    """Say whether it is a number without leading zeros."""
    return part.isascii() and part.isdigit() and (part == "0" or part[0] != "0")


def platforms(config: Json, warnings: list[str]) -> None:
    """What other platforms have is not for this one (config.md#platform-specific-configuration)."""
    for name in OTHER_PLATFORMS:
        if config.get(name):
            warnings.append(f"config.json: {name} is ignored: this is Linux")


def process_rules(config: Json, warnings: list[str]) -> None:
    """config.md#process and below."""
    process = config.get("process")
    if not process:
        return
    size = process.get("consoleSize")
    if size and process.get("terminal"):  # "Runtimes MUST ignore consoleSize if terminal is false or unset"
        for key in ("height", "width"):
            if size[key] > 0xFFFF:  # struct winsize (man 2 TIOCGWINSZ)
                raise Wrong(f"{size[key]} is not a whole number from 0 to 65535", f".{key}", ".consoleSize", ".process")
    if process.get("rlimits"):
        limits(process["rlimits"])
    if process.get("capabilities"):
        capability_names(process["capabilities"], warnings)
        if config.get("linux") and "user" not in kinds(config):
            capabilities_not_had(process["capabilities"], warnings)
    if process.get("scheduler"):
        rare(config, warnings, "scheduler")


def limits(rlimits: list[Json]) -> None:
    """config.md#posix-process: no type twice; and man 2 setrlimit: EINVAL where soft is over hard."""
    seen = set()
    for i, limit in enumerate(rlimits):
        if limit["type"] in seen:
            raise Wrong(f"{limit['type']} is there twice", ".type", f"[{i}]", ".rlimits", ".process")
        seen.add(limit["type"])
        if limit["soft"] > limit["hard"]:
            raise Wrong(f"{limit['soft']} is more than hard, {limit['hard']}", ".soft", f"[{i}]", ".rlimits", ".process")


def capability_names(sets: dict[str, list[str]], warnings: list[str]) -> None:
    """config.md#linux-process: a capability that cannot be granted is a warning, no error."""
    from minirt.linux.capabilities import NAMES

    for kind, names in sets.items():
        for name in names if isinstance(names, list) else ():
            if name not in NAMES:
                warnings.append(f"config.json: process.capabilities.{kind}: {shown(name)} is no capability; it is ignored")


def capabilities_not_had(sets: dict[str, list[str]], warnings: list[str]) -> None:
    """The same of one that this process has not itself."""
    from minirt.linux.capabilities import names, of_process

    held = names(of_process()["permitted"])
    for kind in ("permitted", "effective"):
        lacking = [name for name in sets.get(kind) or () if name.startswith("CAP_") and name not in held]
        if lacking:
            warnings.append(f"config.json: process.capabilities.{kind}: {', '.join(lacking)} cannot be granted here")


def mounts(config: Json, warnings: list[str]) -> None:
    """config.md#mounts."""
    for i, mount in enumerate(config.get("mounts") or ()):
        if mount["destination"][0] != "/":
            path = shown(mount["destination"])
            warnings.append(f"config.json: mounts[{i}].destination: {path} is deprecated; it counts from /")
        options = mount.get("options") or ()
        bind = "bind" in options or "rbind" in options or mount.get("type") == "bind"
        if bind and not mount.get("source") and "remount" not in options:
            raise Wrong("missing; a bind mount shows a file or directory of the host", ".source", f"[{i}]", ".mounts")
        if mount.get("uidMappings") or mount.get("gidMappings") or "idmap" in options or "ridmap" in options:
            rare(config, warnings, "mounts", i)


def devices(config: Json, warnings: list[str]) -> None:
    """config-linux.md#devices."""
    for i, device in enumerate((config.get("linux") or {}).get("devices") or ()):
        for key in ("major", "minor"):
            if device["type"] != "p" and device.get(key) is None:
                raise Wrong(f"missing; a device of type {device['type']} has one", f".{key}", f"[{i}]", ".devices", ".linux")


def seccomp(config: Json, warnings: list[str]) -> None:
    """config-linux.md#seccomp."""
    profile = (config.get("linux") or {}).get("seccomp")
    if not profile:
        return
    listened = profile.get("listenerPath")
    if profile.get("listenerMetadata") and not listened:
        raise Wrong("must not be set without listenerPath", ".listenerMetadata", ".seccomp", ".linux")
    if profile["defaultAction"] == "SCMP_ACT_NOTIFY":
        raise Wrong("SCMP_ACT_NOTIFY cannot be the default: who listens could not be told", ".defaultAction", ".seccomp", ".linux")
    action(profile, "defaultAction", "defaultErrnoRet", ".seccomp", ".linux")
    for i, entry in enumerate(profile.get("syscalls") or ()):
        if entry["action"] == "SCMP_ACT_NOTIFY" and not listened:
            raise Wrong("SCMP_ACT_NOTIFY needs listenerPath", ".action", f"[{i}]", ".syscalls", ".seccomp", ".linux")
        action(entry, "action", "errnoRet", f"[{i}]", ".syscalls", ".seccomp", ".linux")


def action(entry: Json, key: str, number: str, *path: str) -> None:
    """An errno beside an action that returns none MUST be an error (config-linux.md#seccomp)."""
    if entry.get(number) is None:
        return
    if entry[key] not in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE"):
        raise Wrong(f"{entry[key]} returns no errno", f".{number}", *path)
    if entry[key] == "SCMP_ACT_ERRNO" and entry[number] > 4095:
        raise Wrong(f"{entry[number]} is not a whole number from 0 to 4095", f".{number}", *path)


def rare_rules(config: Json, warnings: list[str]) -> None:
    """Those of validate_rare.py that concern this configuration."""
    linux = config.get("linux") or {}
    resources = linux.get("resources") or {}
    for owner, keys in ((linux, RARE), (resources, RARE_RESOURCES)):
        for key in keys:
            if owner.get(key) is not None:
                rare(config, warnings, key)


def rare(config: Json, warnings: list[str], key: str, *more: int) -> None:
    """Apply the rule of a field that few containers have."""
    from minirt.oci import validate_rare

    validate_rare.RULES[key](config, warnings, *more)


def rootless_rule(config: Json) -> None:
    """An unprivileged user's container is in a user namespace of its own (man 7 user_namespaces)."""
    if "user" not in kinds(config):
        raise Wrong("a user namespace is needed where root does not run it", ".namespaces", ".linux")


RULES = (version, platforms, process_rules, mounts, namespaces, devices, seccomp, rare_rules)
