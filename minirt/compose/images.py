"""The images of a project's services: built, fetched, or there."""

from __future__ import annotations

import os

from minirt.compose.merge import as_mapping
from minirt.compose.project import Project
from minirt.compose.service import image_name, pairs, truth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minirt.image.store import Image

__all__ = ["build_services", "images_for"]


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


def images_for(project: Project, names: Sequence[str], say: Callable[[str, str], None], *, build: bool = False,
               fetch: Callable[[str, str], Image], pull: str = "", quiet: bool = False) -> dict[str, Image]:  # fmt: skip
    """Return the image of each service, built or fetched where it is missing.

    Args:
        build: build those with build: also where the image is there.
        fetch: finds an image by its name, by a policy (always, missing, never); raises ImageError.
        pull: policy in place of the file's.

    Raises: ComposeError, ImageError, BuildError.
    """
    from minirt.engine.images import find_image
    from minirt.image.errors import UnknownImage

    found: dict[str, Image] = {}
    for name in names:
        service, image = project.everything[name], image_name(project, name)
        policy = pull or {"if_not_present": "missing", "build": "missing"}.get(str(service.get("pull_policy") or "missing"), "")
        policy = policy or str(service.get("pull_policy"))
        if service.get("build"):
            try:
                if build or service.get("pull_policy") == "build":
                    raise UnknownImage(image)
                found[name] = find_image(image)
            except UnknownImage:
                build_services(project, [name], say, quiet=quiet)
                found[name] = find_image(image)
            continue
        found[name] = fetch(image, policy if policy in ("always", "missing", "never") else "missing")
    return found
