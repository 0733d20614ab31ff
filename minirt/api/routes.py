"""All routes: to import this is to know them."""

from minirt.api import containers, streams, system
from minirt.api.system import headers

__all__ = ["containers", "headers", "streams", "system"]
