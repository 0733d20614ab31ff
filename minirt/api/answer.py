"""A request, answered by who answers such (router.py knows), whatever goes wrong meanwhile."""

from __future__ import annotations

from minirt.api.errors import message_of, status_of
from minirt.api.http import Gone
from minirt.api.router import DONE, Created, find
from minirt.api.routes import headers
from minirt.errors import MinirtError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.api.http import Request

__all__ = ["answer"]


def answer(request: Request) -> None:
    """Answer one request, also where something goes wrong. Raises: Gone."""
    request.extra = headers()
    try:
        handler, parts = find(request)
        value = handler(request, **parts)
        if value is None:
            request.answer(204)
        elif isinstance(value, int):
            request.answer(value)
        elif value is not DONE:
            request.answer(201 if isinstance(value, Created) else 200, value)
    except Gone:
        raise
    except MinirtError as error:
        refuse(request, status_of(error), message_of(error))
    except Exception as error:
        refuse(request, 500, f"{type(error).__name__}: {error}")
        raise


def refuse(request: Request, status: int, message: str) -> None:
    """Answer with an error. Raises: Gone where an answer has begun: then breaking off is all that is left."""
    if request.answered:
        raise Gone(message)
    request.answer(status, {"message": message.replace("\n", " ")})
