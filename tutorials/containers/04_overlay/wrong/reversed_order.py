"""overlay_options: the lowest first, as the manifest has them.

The check says: top-layer-wins: that of layer 1
"""

from minirt.oci.rootfs import escape
from minirt.oci.step import Overlay


def overlay_options(layers: Overlay, lower: list[str], userxattr: bool) -> str:
    lowers = ":".join(escape(path) for path in reversed(lower))
    return f"lowerdir={lowers},upperdir={escape(layers.upper)},workdir={escape(layers.work)}" + ",userxattr" * userxattr
