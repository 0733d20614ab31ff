"""new_flags: the flags written down one by one, and the PID namespace forgotten.

The check says: new-namespaces: pid: the host's
"""

from minirt.linux import constants as k
from minirt.oci.step import Context


def new_flags(c: Context) -> int:
    flags = k.CLONE_NEWNS
    if "uts" in c.fresh:
        flags |= k.CLONE_NEWUTS
    if "ipc" in c.fresh and "user" not in c.fresh:
        flags |= k.CLONE_NEWIPC
    if "network" in c.fresh:
        flags |= k.CLONE_NEWNET
    if "user" in c.fresh:
        flags |= k.CLONE_NEWUSER
    return flags
