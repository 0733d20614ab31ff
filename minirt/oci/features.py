"""What this runtime can do, as the features document of runtime-spec features.md: taken from the tables that do it.

An engine asks before it writes a config.json (`minirt oci features`): is there an `rro`, a time namespace, an id map?
What the kernel here has is another matter, but for supportedFlags.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["features"]


def features() -> dict[str, Any]:
    """Return the features document. Tables are imported here and not above: no other command wants them all."""
    from minirt.oci import VERSION
    from minirt.oci.options import OPTIONS
    from minirt.oci.schema import HOOKS

    return {
        "ociVersionMin": "1.0.0",
        "ociVersionMax": VERSION,
        "hooks": list(HOOKS),
        "mountOptions": sorted(OPTIONS),
        "linux": linux(),
        "annotations": about(),
        # properties of a scope (linux/systemd_unit.py); a file that tells CRIU what to do (runtime/saved.py)
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property.", "org.criu.config"],
    }


def linux() -> dict[str, Any]:
    """Return the document's part for Linux (features-linux.md)."""
    from minirt.linux.capabilities import NAMES
    from minirt.oci.namespaces import TYPES
    from minirt.oci.schema import MEMORY_FLAGS, MEMORY_MODES

    return {
        "namespaces": sorted(TYPES),
        "capabilities": list(NAMES),
        "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
        "seccomp": seccomp(),
        "apparmor": {"enabled": True},
        "selinux": {"enabled": True},
        "intelRdt": {"enabled": False, "schemata": False, "monitoring": False},
        "memoryPolicy": {"modes": sorted(MEMORY_MODES), "flags": sorted(MEMORY_FLAGS)},
        "mountExtensions": {"idmap": {"enabled": True}},
        "netDevices": {"enabled": True},
    }


def seccomp() -> dict[str, Any]:
    """Return what filters are made of (features-linux.md#seccomp)."""
    from minirt.linux.seccomp.profile import ACTIONS, FLAGS, OPERATORS
    from minirt.linux.seccomp.tables import names

    return {
        "enabled": True,
        "actions": sorted(ACTIONS),
        "operators": sorted(OPERATORS),
        "archs": sorted(names()),
        "knownFlags": sorted(FLAGS),
        "supportedFlags": sorted(flag for flag, bit in FLAGS.items() if kernel_takes(bit)),
    }


def kernel_takes(flag: int) -> bool:
    """Say whether seccomp(2) knows a flag: it looks at flags first (EINVAL), and then for a filter where none is (EFAULT)."""
    from errno import EFAULT

    from minirt.linux import constants as k
    from minirt.linux.direct import syscall
    from minirt.linux.seccomp.profile import FLAGS

    if flag == FLAGS["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]:
        flag |= k.SECCOMP_FILTER_FLAG_NEW_LISTENER  # alone it is EINVAL
    return syscall(k.SYS_seccomp, k.SECCOMP_SET_MODE_FILTER, flag) == -EFAULT


def about() -> dict[str, str]:
    """Return what is known of the program itself (features.md#annotations)."""
    from importlib.metadata import version

    return {"minirt.version": version("minirt"), "minirt.checkpoint.enabled": "true"}
