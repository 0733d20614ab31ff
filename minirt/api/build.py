"""build: an image from a Dockerfile and a context that comes as a tar, by docker's classic protocol (not BuildKit's)."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack

from minirt.api.errors import ApiError
from minirt.api.images import open_store
from minirt.api.lines import Lines, tell
from minirt.api.router import DONE, route
from minirt.build.progress import Progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.api.http import Request
    from minirt.build.options import BuildOptions

STEP = re.compile(r"\[(?:\S+ )?(\d+)/(\d+)\] (.*)", re.DOTALL)


class Steps(Progress):
    """Tells a build's steps as docker's classic builder does."""

    def __init__(self, lines: Lines) -> None:
        super().__init__("quiet")
        self._lines = lines

    def write(self, number: int, event: str, text: str, seconds: float) -> None:
        """Send what happens in a step."""
        step = STEP.fullmatch(text)
        words = {
            "begin": f"Step {step[1]}/{step[2]} : {step[3]}\n" if step else f"{text}\n", "output": f"{text}\n",
            "cached": " ---> Using cache\n",
        }  # fmt: skip
        if event in words:
            self._lines.say(stream=words[event])


@route("POST", "/build")
def build(request: Request) -> Any:
    """Build, and tell of each step."""
    from minirt.build.build import Build
    from minirt.build.origin import Origin
    from minirt.engine.images import tell_image

    if request.text("version", "1") != "1":
        raise ApiError(501, "not implemented: BuildKit's protocol: set DOCKER_BUILDKIT=0")
    store, options = open_store(), options_of(request)
    quiet = request.flag("q")

    def work(lines: Lines) -> None:
        with ExitStack() as undo:
            file = undo.enter_context(request.spooled())
            origin = undo.enter_context(Origin(store, request.text("remote") or "-", file))
            options.context, options.inside, options.text = origin.path, True, origin.text
            made = undo.enter_context(Build(store, options))
            if not quiet:
                made.progress = Steps(lines)
            image = made.finish(made.run())
        for name in options.names:
            tell_image("tag", name, image.id)
        if quiet:
            lines.say(stream=f"{image.id}\n")
            return
        lines.say(aux={"ID": image.id})
        lines.say(stream=f"Successfully built {image.id.removeprefix('sha256:')[:12]}\n")
        for name in options.names:
            lines.say(stream=f"Successfully tagged {name}\n")

    tell(request, work)
    return DONE


def options_of(request: Request) -> BuildOptions:
    """Return what is asked for. Raises: ApiError."""
    from minirt.build.options import BuildOptions

    for name in ("extrahosts", "cachefrom", "outputs"):
        if request.text(name) not in ("", "null", "[]"):
            raise ApiError(501, f"not implemented: {name} of a build")
    arguments = {key: value for key, value in pairs(request, "buildargs").items() if value is not None}
    return BuildOptions(
        "", file=request.text("dockerfile"), names=[name for name in request.query.get("t", []) if name], build_args=arguments,
        labels=pairs(request, "labels"), target=request.text("target"), platform=request.text("platform"),
        network=request.text("networkmode") or "default",
        pull="always" if request.flag("pull") else "missing", no_cache=request.flag("nocache"), squash=request.flag("squash"),
    )  # fmt: skip


def pairs(request: Request, name: str) -> dict[str, Any]:
    """Return an object of the query. Raises: ApiError."""
    try:
        found = json.loads(request.text(name) or "{}") or {}
        return dict(found.items())
    except (ValueError, AttributeError):
        raise ApiError(400, f"{name}: not an object of JSON") from None


@route("POST", "/build/prune")
def prune(request: Request) -> Any:
    """Remove what builds keep."""
    from minirt.build.prune import prune as sweep

    done = sweep(request.flag("all"))
    return {"CachesDeleted": done.gone, "SpaceReclaimed": done.freed}
