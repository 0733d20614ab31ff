"""Capabilities: root's power in 41 pieces, and which of them a container keeps.

The kernel knows them as bits of five masks for each thread (man 7 capabilities): what it has now
(effective), may take up (permitted), hands on through execve (inheritable, ambient), and may
ever have again (bounding). People know them by name, config.json as "CAP_NET_ADMIN", docker's flags
also as "net_admin" and "ALL". Everything here turns one into the other; nothing here changes a process.

Source of the names: linux/capability.h, in its order, as of Linux 5.9 (the last addition). A kernel
says how many it has itself: see `last_cap`.
"""

from __future__ import annotations

import struct

from minirt.errors import MinirtError, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

__all__ = [
    "DEFAULT",
    "NAMES",
    "CapabilityError",
    "add_and_drop",
    "last_cap",
    "mask",
    "name",
    "names",
    "normalise",
    "number",
    "of_process",
    "pack_header",
    "pack_sets",
    "permitted",
]

# The place in this list is the kernel's number, CAP_CHOWN = 0 … CAP_CHECKPOINT_RESTORE = 40 (linux/capability.h).
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_NUMBERS = {name: at for at, name in enumerate(NAMES)}

# What docker leaves to a container's root: enough to install packages, change users and bind port 80; nothing that
# reaches past its namespaces (moby oci/caps/defaults.go).
DEFAULT = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
)

ALL = "ALL"
VERSION = 0x20080522  # _LINUX_CAPABILITY_VERSION_3, linux/capability.h: masks of 64 bits in two halves

# /proc/PID/status writes the sets under these names (man 5 proc_pid_status)
_STATUS = {b"Inh": "inheritable", b"Prm": "permitted", b"Eff": "effective", b"Bnd": "bounding", b"Amb": "ambient"}


class CapabilityError(MinirtError, ValueError):
    """A capability that nobody knows; the message is one line and proposes the nearest."""


def normalise(name: str) -> str:
    """Return a capability's name in the kernel's form ("CAP_NET_ADMIN"), or "ALL".

    name: in any case, with or without "CAP_". Raises CapabilityError for a name that does not exist.
    """
    upper = name.strip().upper()
    if upper in (ALL, "CAP_ALL"):
        return ALL
    full = upper if upper.startswith("CAP_") else "CAP_" + upper
    if full not in _NUMBERS:
        near = nearest(full.removeprefix("CAP_"), (known.removeprefix("CAP_") for known in NAMES))
        raise CapabilityError(f"unknown capability {name!r}" + (f"; did you mean CAP_{near}?" if near else ""))
    return full


def number(name: str) -> int:
    """Return a capability's number, its bit in the kernel's masks, 0 to 40 (linux/capability.h)."""
    full = normalise(name)
    if full == ALL:
        raise CapabilityError(f"{name!r} is all capabilities, not one")
    return _NUMBERS[full]


def mask(capabilities: Iterable[str]) -> int:
    """Return capabilities as the kernel's mask, u64, bit N for number N."""
    bits = 0
    for name in capabilities:
        bits |= 1 << number(name)
    return bits


def name(number: int) -> str:
    """Return a capability's name; one that is newer than this list has that which capsh gives it, its number."""
    return NAMES[number] if number < len(NAMES) else str(number)


def names(bits: int) -> list[str]:
    """Return the capabilities of a mask (u64) by name, in the kernel's order."""
    return [name(number) for number in range(64) if bits >> number & 1]


def add_and_drop(
    add: Collection[str] = (),
    drop: Collection[str] = (),
    base: Collection[str] = DEFAULT,
    everything: Collection[str] = NAMES,
) -> list[str]:
    """Return what a container keeps after --cap-add and --cap-drop, in the kernel's order.

    add, drop: names in any form, or "ALL"; base: what it would keep without either; everything: what
    "ALL" adds, say the names of one's own bounding set, as nobody can hand on more.
    As in docker (moby oci/caps/utils.go, TweakCapabilities) the order of the flags does not count:
    with ALL added it is all but those dropped by name, also if ALL is dropped too; with ALL dropped,
    only those added; else base without the dropped ones and then the added ones, so that what is
    named in both is kept. Raises CapabilityError.
    """
    adds, drops = {normalise(name) for name in add}, {normalise(name) for name in drop}
    if ALL in adds:
        kept = {normalise(name) for name in everything} - drops
    elif ALL in drops:
        kept = adds
    else:
        kept = {normalise(name) for name in base} - drops | adds
    return sorted(kept, key=_NUMBERS.__getitem__)


def last_cap() -> int:
    """Return the highest capability number that the running kernel has.

    A newer one than it knows must not be asked of it: prctl(PR_CAPBSET_DROP) gives EINVAL then.
    Source: /proc/sys/kernel/cap_last_cap (man 7 capabilities); without it, this list's last.
    """
    try:
        with open("/proc/sys/kernel/cap_last_cap", "rb", buffering=0) as file:
            return int(file.read())
    except (OSError, ValueError):
        return len(NAMES) - 1


def pack_header(pid: int = 0) -> bytes:
    """Return capset's first argument, a struct __user_cap_header_struct (man 2 capset).

    pid: thread id, int; 0 is the caller, and capset takes no other.
    """
    return struct.pack("=Ii", VERSION, pid)


def pack_sets(effective: int, permitted: int, inheritable: int) -> bytes:
    """Return capset's second argument, two struct __user_cap_data_struct: low halves, then high.

    effective, permitted, inheritable: masks, u64. Source: man 2 capset.
    """
    low = [bits & 0xFFFFFFFF for bits in (effective, permitted, inheritable)]
    high = [bits >> 32 for bits in (effective, permitted, inheritable)]
    return struct.pack("=6I", *low, *high)


def permitted() -> int:
    """Return what this thread may take up, as a mask (u64); by capget, which costs less than a file of all that it is."""
    from minirt.linux import constants
    from minirt.linux.direct import syscall

    sets = bytearray(24)  # two struct __user_cap_data_struct (man 2 capget)
    syscall(constants.SYS_capget, pack_header(), sets)
    _, low, _, _, high, _ = struct.unpack("=6I", sets)
    return int(low | high << 32)


def of_process(pid: int | str = "self") -> dict[str, int]:
    """Return the five sets of a process as masks (u64): inheritable, permitted, effective, bounding, ambient.

    pid: as the caller's /proc shows it. Raises OSError if there is no such process.
    Source: /proc/PID/status, Cap* (man 5 proc_pid_status).
    """
    with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
        lines = file.read().split(b"\n")
    return {_STATUS[line[3:6]]: int(line[8:], 16) for line in lines if line.startswith(b"Cap")}
