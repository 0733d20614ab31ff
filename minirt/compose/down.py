"""A project is taken down: its containers are stopped and removed, those first that others do not depend on; then its networks."""

from __future__ import annotations

from minirt.compose.ready import of_project
from minirt.compose.resources import remove_networks, remove_volumes
from minirt.compose.service import PREFIX, SERVICE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minirt.compose.crew import Crew, Say
    from minirt.compose.project import Project
    from minirt.engine.container import Container

__all__ = ["down", "each_of", "stop_all"]


def below(found: list[Container], project: Project | None) -> dict[str, set[str]]:
    """Return what the containers' services depend on, also through others; without a file by what their labels say."""
    services = {service_of(container) for container in found}
    if project is not None:
        return {name: project.below(name) if name in project.everything else set() for name in services}
    direct: dict[str, set[str]] = {}
    for container in found:
        said = container.state["labels"].get(f"{PREFIX}depends_on", "").split(",")
        direct.setdefault(service_of(container), set()).update(text.partition(":")[0] for text in said if text)
    deep = direct
    for _ in direct:  # a path is no longer than that
        deep = {name: some.union(*(deep.get(other, set()) for other in some)) for name, some in deep.items()}
    return deep


def service_of(container: Container) -> str:
    """Return the name of a container's service."""
    return str(container.state["labels"].get(SERVICE, ""))


def each_of(
    found: list[Container], project: Project | None, crew: Crew, do: Callable[[Container, Say], object], backward: bool = False,
) -> None:  # fmt: skip
    """Do one thing to each container, at the same time where no service depends on the other.

    Args: found, by service and number; project, None: by the containers' labels; backward, before what it depends on, not after.
    Raises: MinirtError.
    """
    deep = below(found, project)
    boxes = {container.label: container for container in sorted(found, key=lambda c: len(deep[service_of(c)]))}
    pairs = [(a, b) for a, one in boxes.items() for b, other in boxes.items() if service_of(other) in deep[service_of(one)]]
    after: dict[str, set[str]] = {}
    for upper, lower in pairs:
        first, then = (upper, lower) if backward else (lower, upper)
        after.setdefault(then, set()).add(first)

    def one(label: str, say: Say) -> None:
        with crew.slot:
            do(boxes[label], say)

    crew.do(list(reversed(boxes) if backward else boxes), after, one)


def stop_all(found: list[Container], project: Project | None, seconds: float | None, crew: Crew) -> None:
    """Stop containers that run, each before those that its service depends on."""
    from minirt.engine.control import stop

    def one(container: Container, say: Say) -> None:
        if container.running or container.state.get("status") == "restarting":
            stop(container, seconds)
            say(f"Container {container.label}", "Stopped")

    each_of(found, project, crew, one, backward=True)


def down(
    name: str, project: Project | None, crew: Crew, *, services: Sequence[str] = (), volumes: bool = False,
    images: str = "", orphans: bool = False, seconds: float | None = None,
) -> None:  # fmt: skip
    """Remove what `up` made.

    Args:
        name: of the project.
        project: its files; None: by the containers' labels alone.
        crew: does it, and tells of it.
        services: only these, and no network.
        volumes: named and anonymous volumes, too.
        images: `local`: images that have no name of their own in the file; `all`.
        orphans: containers of services that the files do not have, too.
        seconds: before a container is killed.
    """
    from minirt.engine.removal import remove

    found = of_project(name, oneoff=True)
    if project is not None and not orphans:
        found = [c for c in found if service_of(c) in project.everything]
    if services:
        found = [c for c in found if service_of(c) in services]
    stop_all(found, project, seconds, crew)

    def one(container: Container, say: Say) -> None:
        remove(container, force=True, volumes=volumes)
        say(f"Container {container.label}", "Removed")

    each_of(found, project, crew, one, backward=True)
    if services:
        return
    remove_networks(name, crew.say)
    if volumes:
        remove_volumes(name, crew.say)
    if images and project is not None:
        remove_images(project, images, crew.say)


def remove_images(project: Project, which: str, say: Say) -> None:
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
