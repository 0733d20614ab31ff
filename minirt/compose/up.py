"""A project is made to be as its file says: what is missing is made, what has another configuration is made anew, all is started.

    images ─▶ networks, volumes ─▶ per service, after those it depends on: wait for them ─▶ its containers

Services that do not depend on each other are made at the same time, and so are one service's containers. It can be broken
off at any moment and done again: what a container was made from stands in its labels, so the next `up` sees what is left.
"""

from __future__ import annotations

from minirt.compose.contents import put_contents
from minirt.compose.options import options_of
from minirt.compose.project import Project
from minirt.compose.ready import number_of, of_project, wait_ready
from minirt.compose.service import CONFIG_HASH, PREFIX, config_hash, container_name, replicas
from minirt.compose.text import ComposeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.compose.crew import Crew, Say
    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["Up", "made"]


class Up:
    """One `up`.

    Args:
        project: what is to be.
        images: of its services.
        crew: does it, and tells of it.
    """

    def __init__(self, project: Project, images: dict[str, Image], crew: Crew) -> None:
        self.project = project
        self.images = images
        self.crew = crew
        self.scale: dict[str, int] = {}
        self.again = "changed"  # which containers are made anew: changed, all, none
        self.start = True
        self.timeout: float | None = None  # s for a container to end
        self.until: float | None = None  # for what is waited for
        self.renewed: set[str] = set()  # services with a container made anew

    def run(self, names: Sequence[str]) -> None:
        """Make services to be as the file says, each after those that it depends on. Raises: MinirtError."""

        def one(name: str, say: Say) -> None:
            if not self.start or self.await_dependencies(name, say):
                self.service(name, say)

        self.crew.do(names, {name: self.project.below(name) for name in names}, one, kind="Service")

    def await_dependencies(self, name: str, say: Say) -> bool:
        """Wait for what a service depends on; say whether it is there, and nobody has given up meanwhile. Raises: ComposeError."""
        for other, how in self.project.depends(name).items():
            condition = str(how.get("condition", "service_started"))
            if other not in self.project.services or condition == "service_started":
                continue
            try:
                if not wait_ready(self.project, other, condition, self.until, say, lambda: self.crew.over):
                    return False
            except ComposeError as error:
                if how.get("required", True):
                    raise self.project.fail(str(error), "services", name, "depends_on", other) from None
        return True

    def service(self, name: str, say: Say) -> None:
        """Make a service's containers to be as many, and as they should be."""
        wanted = self.scale.get(name, replicas(self.project.everything[name]))
        if wanted > 1 and self.project.everything[name].get("container_name"):
            raise self.project.fail("one container_name, and more containers than one", "services", name, "container_name")
        there = {number_of(container): container for container in of_project(self.project.name, name)}
        self.remove_all([there.pop(number) for number in sorted(there) if number > wanted], say)
        numbers = {container_name(self.project, name, number): number for number in range(1, wanted + 1)}

        def one(label: str, say: Say) -> None:
            with self.crew.slot:
                self.container(name, numbers[label], there.get(numbers[label]), say)

        self.crew.do(list(numbers), {}, one, say)

    def container(self, name: str, number: int, there: Container | None, say: Say) -> None:
        """Make one container to be as it should be, and have it run."""
        from minirt.engine.control import restart
        from minirt.engine.start import start

        kept: dict[str, str] = {}
        if there is not None and self.differs(name, there):
            kept = anonymous_of(there)
            self.remove(there, say, "Recreated")
            self.renewed.add(name)
            there = None
        if there is None:
            there = self.make(name, number, kept)
            say(f"Container {there.label}", "Created")
        if self.start and not there.running:
            start(there)
            say(f"Container {there.label}", "Started")
        elif there.running and name in self.project.restarted_with(self.renewed):
            restart(there, self.timeout)
            say(f"Container {there.label}", "Restarted")
        elif there.running:
            say(f"Container {there.label}", "Running")

    def differs(self, name: str, container: Container) -> bool:
        """Say whether a container is to be made anew."""
        if self.again != "changed":
            return self.again == "all"
        labels = container.state["labels"]
        image = self.images[name].id
        return bool(labels.get(CONFIG_HASH) != config_hash(self.project, name) or labels.get(f"{PREFIX}image", image) != image)

    def make(self, name: str, number: int, kept: dict[str, str]) -> Container:
        """Make a container. Args: kept, anonymous volumes that the one before it had, by their places: its data is kept."""
        options = options_of(self.project, name, number, self.images[name].id)
        named = {text.split(":")[1] for text in options.volume if ":" in text}
        kept = {place: volume for place, volume in kept.items() if place not in named}
        options.volume = [text for text in options.volume if text not in kept]
        options.volume += [f"{volume}:{place}" for place, volume in kept.items()]
        container = made(self.project, name, options, self.images[name])
        if kept:  # they still go with it
            mounts = [{**one, "anonymous": one["anonymous"] or one["target"] in kept} for one in container.state["mounts"]]
            container.save(mounts=mounts)
        return container

    def remove_all(self, found: list[Container], say: Say | None = None) -> None:
        """End containers and remove them."""
        boxes = {container.label: container for container in found}

        def one(label: str, say: Say) -> None:
            with self.crew.slot:
                self.remove(boxes[label], say)

        self.crew.do(list(boxes), {}, one, say)

    def remove(self, container: Container, say: Say, word: str = "Removed") -> None:
        """End a container and remove it."""
        from minirt.engine.control import stop
        from minirt.engine.removal import remove

        if container.running:
            stop(container, self.timeout)
        remove(container, force=True)
        say(f"Container {container.label}", word)


def made(project: Project, name: str, options: RunOptions, image: Image) -> Container:
    """Return a container of a service with its secrets and configs; where they cannot be, none is left."""
    from minirt.engine.removal import remove
    from minirt.engine.start import create

    container = create(options, image)
    try:
        put_contents(project, name, container)
    except BaseException:
        remove(container, force=True)
        raise
    return container


def anonymous_of(container: Container) -> dict[str, str]:
    """Return the volumes that were made for a container, by their places."""
    return {made["target"]: made["source"] for made in container.state.get("mounts") or () if made.get("anonymous")}
