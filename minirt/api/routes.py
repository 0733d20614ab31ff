"""All routes: to import this is to know them."""

from minirt.api import containers, execs, streams, system
from minirt.api.system import headers

__all__ = ["containers", "execs", "headers", "streams", "system"]
