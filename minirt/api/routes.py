"""All routes: to import this is to know them."""

from minirt.api import build, containers, execs, files, images, networks, streams, swarm, system, usage, volumes
from minirt.api.system import headers

__all__ = [
    "build", "containers", "execs", "files", "headers", "images", "networks", "streams", "swarm", "system", "usage", "volumes",
]  # fmt: skip
