"""overlay_options: the layers alone, which nobody can write to.

The check says: born: EINVAL
"""

from minirt.oci.rootfs import escape
from minirt.oci.step import Overlay


def overlay_options(layers: Overlay, lower: list[str], userxattr: bool) -> str:
    return "lowerdir=" + ":".join(map(escape, lower)) + ",userxattr" * userxattr
