"""A project is taken down: its containers are stopped and removed, those first that others do not depend on; then its networks."""

from __future__ import annotations

from minirt.compose.ready import of_project
from minirt.compose.resources import remove_networks, remove_volumes
from minirt.compose.service import SERVICE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minirt.compose.project import Project
    from minirt.engine.container import Container

__all__ = ["down", "stop_all"]


def in_order(found: list[Container], project: Project | None) -> list[Container]:
    """Return containers, each before those that its service depends on."""
    known = {name: i for i, name in enumerate(project.order() if project is not None else ())}
    return sorted(found, key=lambda c: -known.get(c.state["labels"].get(SERVICE, ""), len(known)))


def stop_all(found: list[Container], project: Project | None, seconds: float | None, say: Callable[[str, str], None]) -> None:
    """Stop containers that run."""
    from minirt.engine.control import stop

    for container in in_order(found, project):
        if container.running or container.state.get("status") == "restarting":
            stop(container, seconds)
            say(f"Container {container.label}", "Stopped")


def down(
    name: str, project: Project | None, say: Callable[[str, str], None], *, services: Sequence[str] = (), volumes: bool = False,
    images: str = "", orphans: bool = False, seconds: float | None = None,
) -> None:  # fmt: skip
    """Remove what `up` made.

    Args:
        name: of the project.
        project: its files; None: by the containers' labels alone.
        services: only these, and no network.
        volumes: named and anonymous volumes, too.
        images: `local`: images that have no name of their own in the file; `all`.
        orphans: containers of services that the files do not have, too.
        seconds: before a container is killed.
    """
    from minirt.engine.removal import remove

    found = of_project(name, oneoff=True)
    if project is not None and not orphans:
        found = [c for c in found if c.state["labels"].get(SERVICE) in project.everything]
    if services:
        found = [c for c in found if c.state["labels"].get(SERVICE) in services]
    stop_all(found, project, seconds, say)
    for container in in_order(found, project):
        remove(container, force=True, volumes=volumes)
        say(f"Container {container.label}", "Removed")
    if services:
        return
    remove_networks(name, say)
    if volumes:
        remove_volumes(name, say)
    if images and project is not None:
        remove_images(project, images, say)


def remove_images(project: Project, which: str, say: Callable[[str, str], None]) -> None:
    """Remove the images of a project's services."""
    from minirt.compose.service import image_name
    from minirt.engine.disk import open_store
    from minirt.image.errors import ImageError

    store = open_store()
    for name, service in project.everything.items():
        if which == "all" or (service.get("build") and not service.get("image")):
            try:
                store.remove(image_name(project, name))
                say(f"Image {image_name(project, name)}", "Removed")
            except ImageError:
                continue  # another service has had it too
