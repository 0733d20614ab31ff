"""What docker has and minirt has not, said in the words that docker's commands ask for."""

from __future__ import annotations

from minirt.api.errors import ApiError
from minirt.api.router import route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request

NOUNS = ("swarm", "nodes", "services", "tasks", "secrets", "configs")


def refuse(request: Request, **parts: str) -> Any:
    """Say that this is no swarm. Raises: ApiError."""
    raise ApiError(503, "This node is not a swarm manager: minirt has no swarm")


for noun in NOUNS:
    for method in ("GET", "POST", "DELETE"):
        route(method, f"/{noun}")(refuse)
        route(method, f"/{noun}/{{rest...}}")(refuse)
