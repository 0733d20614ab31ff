"""A project is made to be as its file says: what is missing is made, what has another configuration is made anew, all is started.

    images ─▶ networks, volumes ─▶ per service, after those it depends on: wait for them ─▶ its containers

It can be broken off at any moment and done again: what a container was made from stands in its labels, so the next `up` sees
what is left to do.
"""

from __future__ import annotations

from minirt.compose.contents import put_contents
from minirt.compose.options import options_of
from minirt.compose.project import Project
from minirt.compose.ready import number_of, of_project, wait_ready
from minirt.compose.service import CONFIG_HASH, PREFIX, config_hash, replicas
from minirt.compose.text import ComposeError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["Up", "made"]


class Up:
    """One `up`.

    Args:
        project: what is to be.
        images: of its services.
        say: told what has been done: of what, and what.
    """

    def __init__(self, project: Project, images: dict[str, Image], say: Callable[[str, str], None]) -> None:
        self.project = project
        self.images = images
        self.say = say
        self.scale: dict[str, int] = {}
        self.again = "changed"  # which containers are made anew: changed, all, none
        self.start = True
        self.timeout: float | None = None  # s for a container to end
        self.until: float | None = None  # for what is waited for
        self.renewed: set[str] = set()  # services with a container made anew

    def run(self, names: Sequence[str]) -> None:
        """Make services to be as the file says, in the order given. Raises: MinirtError."""
        for name in names:
            if self.start:
                self.await_dependencies(name)
            self.service(name)

    def await_dependencies(self, name: str) -> None:
        """Wait for what a service depends on."""
        for other, how in self.project.depends(name).items():
            condition = str(how.get("condition", "service_started"))
            if other not in self.project.services or condition == "service_started":
                continue
            try:
                wait_ready(self.project, other, condition, self.until, self.say)
            except ComposeError as error:
                if how.get("required", True):
                    raise self.project.fail(str(error), "services", name, "depends_on", other) from None

    def service(self, name: str) -> None:
        """Make a service's containers to be as many, and as they should be."""
        wanted = self.scale.get(name, replicas(self.project.everything[name]))
        if wanted > 1 and self.project.everything[name].get("container_name"):
            raise self.project.fail("one container_name, and more containers than one", "services", name, "container_name")
        there = {number_of(container): container for container in of_project(self.project.name, name)}
        for number in sorted(there):
            if number > wanted:
                self.remove(there.pop(number))
        for number in range(1, wanted + 1):
            self.container(name, number, there.get(number))

    def container(self, name: str, number: int, there: Container | None) -> None:
        """Make one container to be as it should be, and have it run."""
        from minirt.engine.control import restart
        from minirt.engine.start import start

        kept: dict[str, str] = {}
        if there is not None and self.differs(name, there):
            kept = anonymous_of(there)
            self.remove(there, "Recreated")
            self.renewed.add(name)
            there = None
        if there is None:
            there = self.make(name, number, kept)
            self.say(f"Container {there.label}", "Created")
        if self.start and not there.running:
            start(there)
            self.say(f"Container {there.label}", "Started")
        elif there.running and name in self.project.restarted_with(self.renewed):
            restart(there, self.timeout)
            self.say(f"Container {there.label}", "Restarted")
        elif there.running:
            self.say(f"Container {there.label}", "Running")

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

    def remove(self, container: Container, word: str = "Removed") -> None:
        """End a container and remove it."""
        from minirt.engine.control import stop
        from minirt.engine.removal import remove

        if container.running:
            stop(container, self.timeout)
        remove(container, force=True)
        self.say(f"Container {container.label}", word)


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
