"""The images of a project's services: built, fetched, or there."""

from __future__ import annotations

import os

from minirt.compose.merge import as_mapping
from minirt.compose.project import Project
from minirt.compose.service import image_name, pairs, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from minirt.compose.crew import Say
    from minirt.image.store import Image

    Fetch = Callable[[str, str, Callable[[], bool]], Image]

__all__ = ["build_services", "fetch_all", "images_for"]

POLICIES = ("never", "missing", "always")  # of several services with one image the strongest
PULLS = 3  # at a time, as many layers as docker fetches at a time


def build_services(project: Project, names: Sequence[str], say: Callable[[str, str], None], no_cache: bool = False,
                   pull: bool = False, quiet: bool = False) -> None:  # fmt: skip
    """Build the images of services that have build. Raises: ComposeError, BuildError."""
    from minirt.build.build import Build
    from minirt.build.options import BuildOptions
    from minirt.engine.disk import open_store

    store = open_store()
    for name in names:
        given = project.everything[name].get("build")
        if not given:
            continue
        given = given if isinstance(given, dict) else {"context": given}
        context = project.path(str(given.get("context", ".")))
        if not os.path.isdir(context):
            text = f"{context}: no such directory (contexts from elsewhere are not implemented)"
            raise project.fail(text, "services", name, "build")
        options = BuildOptions(
            context, names=[image_name(project, name), *map(str, given.get("tags") or ())], target=str(given.get("target") or ""),
            build_args={key: project.variables.get(key, "") if value is None else str(value)
                        for key, value in (pairs_or_none(given.get("args"))).items()},
            labels=pairs(given.get("labels")), network=given.get("network") or "default",
            no_cache=no_cache or truth(given.get("no_cache", False)),
            pull="always" if pull or truth(given.get("pull", False)) else "missing", progress="quiet" if quiet else "plain",
        )  # fmt: skip
        options.file = os.path.join(context, str(given["dockerfile"])) if given.get("dockerfile") else ""
        options.text = str(given["dockerfile_inline"]) if given.get("dockerfile_inline") else None
        with Build(store, options) as build:
            build.finish(build.run())
        say(f"Image {image_name(project, name)}", "Built")


def pairs_or_none(value: object) -> dict[str, str | None]:
    """Return build arguments; one without a value is taken from the environment."""
    return dict(as_mapping(value))


def fetch_all(wanted: Mapping[str, str], fetch: Fetch, say: Callable[[str, str], None], done: str = "") -> dict[str, Image]:
    """Return images, fetched where that is asked for, a few at the same time; where one fails the others are broken off.

    Args:
        wanted: their names, each with its policy (always, missing, never).
        fetch: finds an image by name and policy; asks meanwhile, by its third argument, whether to go on.
        say: told of each image that it is `done`, if that is a word.

    Raises: ImageError.
    """
    from contextlib import suppress

    from minirt.compose.crew import Crew
    from minirt.image.remote.together import Stopped

    crew = Crew(say, PULLS)
    found: dict[str, Image] = {}

    def one(name: str, say: Say) -> None:
        with suppress(Stopped):  # why, another tells
            found[name] = fetch(name, wanted[name], lambda: not crew.over)
            if done:
                say(f"Image {name}", done)

    crew.do(list(wanted), {}, one, kind="Image")
    return found


def images_for(project: Project, names: Sequence[str], say: Callable[[str, str], None], *, build: bool = False,
               fetch: Fetch, pull: str = "", quiet: bool = False) -> dict[str, Image]:  # fmt: skip
    """Return the image of each service, built or fetched where it is missing.

    Args:
        build: build those with build: also where the image is there.
        fetch: finds an image by its name: as for `fetch_all`.
        pull: policy in place of the file's.

    Raises: ComposeError, ImageError, BuildError.
    """
    built = [name for name in names if project.everything[name].get("build")]
    given = {name: image_name(project, name) for name in names if name not in built}
    wanted: dict[str, str] = {}
    for name, image in given.items():
        wanted[image] = max(wanted.get(image, POLICIES[0]), policy_of(project, name, pull), key=POLICIES.index)
    fetched = fetch_all(wanted, fetch, say)
    found = {name: fetched[image] for name, image in given.items()}
    for name in built:
        found[name] = built_image(project, name, say, build, quiet)
    return found


def policy_of(project: Project, name: str, pull: str) -> str:
    """Return when a service's image is fetched: always, missing or never. Args: pull, in place of what the file says."""
    given = pull or str(project.everything[name].get("pull_policy") or "")
    return given if given in POLICIES else "missing"


def built_image(project: Project, name: str, say: Callable[[str, str], None], build: bool, quiet: bool) -> Image:
    """Return the image of a service that has build, built where that is wanted, or it is missing."""
    from minirt.engine.images import find_image
    from minirt.image.errors import UnknownImage

    image = image_name(project, name)
    if not build and project.everything[name].get("pull_policy") != "build":
        try:
            return find_image(image)
        except UnknownImage:
            pass
    build_services(project, [name], say, quiet=quiet)
    return find_image(image)
