"""docker's ways to write a value on the command line, each read by one function that says what is wrong with it."""

from __future__ import annotations

import os

from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "device_access", "expand_device", "parse_cpus", "parse_device", "parse_device_rule", "parse_environment", "parse_hosts",
    "parse_id_map", "parse_io_max", "parse_labels", "parse_pairs", "parse_size",
    "parse_sysctl", "parse_ulimit", "parse_variables",
]  # fmt: skip

UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LIMITS = {
    "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio", "rttime",
    "sigpending", "stack", "as",
}  # fmt: skip
UNLIMITED = (1 << 64) - 1  # RLIM64_INFINITY


def is_number(text: str) -> bool:
    """Say whether a text is a number of a sane length: all that the kernel takes fit into 20 digits."""
    return text.isascii() and text.isdigit() and len(text) <= 20


def parse_size(text: str, flag: str) -> int:
    """Return the bytes that `64m`, `1.5g`, `512k`, `100b` or a plain number mean (1k is 1024, as docker has it)."""
    lower = text.strip().lower()
    if len(lower) > 2 and lower.endswith("ib"):
        lower = lower[:-2]
    elif len(lower) > 1 and lower.endswith("b") and not lower[-2].isdigit():
        lower = lower[:-1]
    digits = lower.rstrip("bkmgt")
    unit = lower[len(digits) :]
    if unit not in UNITS or not is_number(digits.replace(".", "", 1)):
        raise UsageError(f"{flag} {text}: a size is written as 64m, 1.5g or 67108864")
    number = float(digits) if "." in digits else int(digits)
    size = int(number * UNITS[unit])
    if size > (1 << 63) - 1:
        raise UsageError(f"{flag} {text}: more than any memory can hold")
    return size


def parse_cpus(text: str) -> tuple[int, int]:
    """Return (quota, period) in microseconds for `--cpus 1.5`: quota = cpus x period, period 100 ms."""
    whole, _, part = text.partition(".")
    if not is_number(whole + part):
        raise UsageError(f"--cpus {text}: a number of CPUs is written as 2 or 0.5")
    quota = int(float(text) * 100000 + 0.5)
    if quota < 1000:
        raise UsageError(f"--cpus {text}: the kernel's smallest share is 0.01 (1 ms of every 100 ms)")
    available = os.cpu_count() or 1
    if quota > available * 100000:
        raise UsageError(f"--cpus {text}: this machine has {available}")
    return quota, 100000


def parse_environment(items: list[str], files: list[str]) -> dict[str, str]:
    """Return the variables of --env-file and then --env; `NAME` alone takes the caller's value, if it has one."""
    lines = [line for path in files for line in lines_of(path, "--env-file")]
    return parse_variables([*lines, *items], "--env")


def parse_variables(items: list[str], flag: str) -> dict[str, str]:
    """Return the values of NAME=VALUE by name; `NAME` alone takes the caller's variable, if there is one."""
    found = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not name or " " in name or "\0" in item:
            raise UsageError(f"{flag} {item!r}: it is written NAME=VALUE")
        if equals:
            found[name] = value
        elif name in os.environ:
            found[name] = os.environ[name]
    return found


def parse_pairs(items: list[str], flag: str) -> dict[str, str]:
    """Return what KEY=VALUE, again and again, means; without = the value is empty. Raises: UsageError."""
    pairs = dict(item.partition("=")[::2] for item in items)
    if any(not key.strip() or "\0" in key for key in pairs):
        raise UsageError(f"{flag}: it is written KEY=VALUE")
    return pairs


def parse_ulimit(text: str) -> dict[str, Any]:
    """Return process.rlimits' entry for `nofile=1024:2048` (soft:hard); -1 or unlimited is no limit."""
    name, _, values = text.partition("=")
    parts = [UNLIMITED if v in ("-1", "unlimited") else int(v) if is_number(v) else None for v in values.split(":")]
    if name not in LIMITS or len(parts) not in (1, 2) or None in parts:
        raise UsageError(f"--ulimit {text}: it is written NAME=SOFT[:HARD], NAME one of {', '.join(sorted(LIMITS))}")
    soft, hard = parts[0], parts[-1]
    assert soft is not None and hard is not None
    if hard > UNLIMITED:
        raise UsageError(f"--ulimit {text}: more than the kernel's 64 bits hold; -1 is no limit")
    if soft > hard:
        raise UsageError(f"--ulimit {text}: the soft limit is above the hard one")
    return {"type": f"RLIMIT_{name.upper()}", "soft": soft, "hard": hard}


def parse_device(text: str) -> dict[str, Any]:
    """Return linux.devices' entry for `--device /dev/fuse[:/dev/name[:rwm]]`, as the host's node has it."""
    import stat

    parts = text.split(":")
    source = parts[0]
    target = parts[1] if len(parts) > 1 and parts[1].startswith("/") else source
    try:
        info = os.stat(source)
    except OSError as error:
        raise UsageError(f"--device {text}: {source}: {error.strerror}") from None
    kind = "c" if stat.S_ISCHR(info.st_mode) else "b" if stat.S_ISBLK(info.st_mode) else ""
    if not kind:
        raise UsageError(f"--device {text}: {source} is no device")
    return {
        "path": target, "type": kind, "major": os.major(info.st_rdev), "minor": os.minor(info.st_rdev),
        "fileMode": stat.S_IMODE(info.st_mode), "uid": info.st_uid, "gid": info.st_gid,
    }  # fmt: skip


def expand_device(text: str) -> list[str]:
    """Return --device for each node that is meant: of a directory, all devices in it. Raises: UsageError."""
    import stat

    source, _, rest = text.partition(":")
    if "=" in source and not source.startswith("/"):
        raise UsageError(f"--device {text}: names of the Container Device Interface are not implemented: give a path below /dev")
    if not os.path.isdir(source):
        return [text]
    target, access = rest if rest.startswith("/") else source, "" if rest.startswith("/") else rest
    target, _, access = target.partition(":") if rest.startswith("/") else (target, "", access)
    found = []
    for above, _, names in os.walk(source):
        for name in sorted(names):
            mode = os.lstat(os.path.join(above, name)).st_mode
            if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
                below = os.path.relpath(os.path.join(above, name), source)
                found.append(f"{os.path.join(above, name)}:{os.path.join(target, below)}:{access or 'rwm'}")
    if not found:
        raise UsageError(f"--device {text}: no device is in {source}")
    return found


def parse_device_rule(text: str) -> dict[str, Any]:
    """Return linux.resources.devices' entry for `--device-cgroup-rule 'c 1:* rmw'`. Raises: UsageError."""
    parts = text.split()
    numbers = parts[1].split(":") if len(parts) == 3 else []
    good = len(numbers) == 2 and all(number == "*" or (is_number(number) and int(number) < 1 << 32) for number in numbers)
    if not good or parts[0] not in ("a", "b", "c") or not parts[2] or set(parts[2]) - set("rwm"):
        raise UsageError(f"--device-cgroup-rule {text!r}: it is written as 'c 1:3 rwm', * for any number, a, b or c for the kind")
    rule: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
    return rule | {key: int(number) for key, number in zip(("major", "minor"), numbers, strict=True) if number != "*"}


def parse_labels(items: list[str], files: list[str]) -> dict[str, str]:
    """Return the labels of --label-file and then --label. Raises: UsageError."""
    return parse_pairs([*(line for path in files for line in lines_of(path, "--label-file")), *items], "--label")


def lines_of(path: str, flag: str) -> list[str]:
    """Return the lines of a file that say something: no empty ones, no comments. Raises: UsageError."""
    try:
        with open(path, encoding="utf-8") as file:
            return [line.strip("\r\n") for line in file if line.strip() and not line.lstrip().startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{flag} {path}: {getattr(error, 'strerror', None) or 'not text'}") from None


def parse_hosts(items: list[str]) -> list[tuple[str, str]]:
    """Return (name, address) for `--add-host NAME:ADDRESS` or NAME=ADDRESS. Raises: UsageError."""
    from ipaddress import ip_address

    found = []
    for text in items:
        sign = "=" if "=" in text else ":"
        name, _, address = text.partition(sign)
        address = address.removeprefix("[").removesuffix("]")
        try:
            if address != "host-gateway":
                ip_address(address)
            if not name or any(letter.isspace() for letter in name):
                raise ValueError
        except ValueError:
            raise UsageError(f"--add-host {text}: it is written NAME:ADDRESS, or NAME:host-gateway") from None
        found.append((name, address))
    return found


def device_access(text: str) -> str:
    """Return what `--device NODE[:NODE[:ACCESS]]` may be used for: letters of "rwm" (read, write, mknod), by default all.

    Raises: UsageError.
    """
    parts = text.split(":")[1:]
    access = parts[-1] if parts and not parts[-1].startswith("/") else "rwm"
    if not access or set(access) - set("rwm"):
        raise UsageError(f"--device {text}: {access!r} is no access: letters of rwm, for read, write and mknod")
    return access


# Settings that belong to a namespace, so that a container may have its own (runtime-spec config-linux.md#sysctl).
IPC_SYSCTLS = {"kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax",
               "kernel.shmmni", "kernel.shm_rmid_forced"}  # fmt: skip


def parse_sysctl(text: str, namespaces: set[str]) -> tuple[str, str]:
    """Return (name, value) for `--sysctl net.ipv4.ip_forward=1`; one that would change the host is refused."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--sysctl {text}: it is written NAME=VALUE")
    parts = name.split(".")
    if not all(part and "/" not in part for part in parts):
        raise UsageError(f"--sysctl {text}: a name is written with dots, as net.ipv4.ip_forward")
    owner = "network" if parts[0] == "net" else "ipc" if name in IPC_SYSCTLS or name.startswith("fs.mqueue.") else ""
    if not owner:
        raise UsageError(f"--sysctl {name}: not a setting of a namespace, so it would change the host")
    if owner not in namespaces:
        raise UsageError(
            f"--sysctl {name}: the container shares the host's {owner} namespace, so it would change the host"
        )
    return name, value


def parse_id_map(text: str, flag: str) -> dict[str, int]:
    """Return uidMappings' entry for `--uidmap CONTAINER:HOST:SIZE` (man 7 user_namespaces)."""
    parts = text.split(":")
    if len(parts) != 3 or not all(map(is_number, parts)) or int(parts[2]) == 0:
        raise UsageError(f"{flag} {text}: it is written CONTAINER:HOST:SIZE, as 0:100000:65536")
    inside, outside, size = map(int, parts)
    if max(inside, outside) + size > (1 << 32) - 1:
        raise UsageError(f"{flag} {text}: ids end at 4294967294")
    return {"containerID": inside, "hostID": outside, "size": size}


def parse_io_max(text: str) -> dict[str, Any]:
    """Return {major, minor, rbps, wbps, riops, wiops} for `--io-max /dev/sda:rbps=1m,wiops=100`."""
    path, _, limits = text.rpartition(":")
    if not path or not limits:
        raise UsageError(f"--io-max {text}: it is written DEVICE:rbps=N,wbps=N,riops=N,wiops=N")
    device = parse_device(path)
    result: dict[str, Any] = {"major": device["major"], "minor": device["minor"]}
    for item in limits.split(","):
        key, _, value = item.partition("=")
        if key not in ("rbps", "wbps", "riops", "wiops"):
            raise UsageError(f"--io-max {text}: no limit {key!r}; there are rbps, wbps, riops, wiops")
        result[key] = parse_size(value, f"--io-max {key}")
    return result
