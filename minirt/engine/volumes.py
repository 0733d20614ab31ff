"""Containers and the volumes that they use.

    claim       what a new container asks for: directories and volumes are made, and its state says what it uses
    attach      before a start: what its volumes are mounts of is mounted
    detach      after its end: what no other container uses is not
    users       who uses a volume
    remove      a volume that nobody uses
    let_go      the volumes that were made for one container, with that

What a container uses stands in its own state, and is written under the volumes' lock, as a volume's removal is: so a
volume in use is never removed, and who has been killed uses nothing.
"""

from __future__ import annotations

import os

from minirt.engine.mounts import Request, requests
from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from minirt.engine.container import Container
    from minirt.engine.options import RunOptions
    from minirt.image.store import Image
    from minirt.volume.store import Volume

__all__ = ["attach", "bytes_below", "claim", "create", "detach", "is_open", "let_go", "prune", "remove", "usage", "users"]


def claim(container: Container, options: RunOptions, image: Image) -> None:
    """Make what a new container's mounts need, and write down what it uses. `options.mounts` is then what they became.

    Raises: UsageError, VolumeError with exit code 125.
    """
    wanted = requests(options, image.config.get("config") or {})
    for request in wanted:
        if request.make and not os.path.lexists(request.source):
            try:
                os.makedirs(request.source, exist_ok=True)  # another container's beginning may make it meanwhile
            except OSError as error:
                raise UsageError(f"{request.where}: {request.source}: {error.strerror}") from None
    if any(request.kind == "volume" for request in wanted):
        try:
            claim_volumes(container, [r for r in wanted if r.kind == "volume"], wanted, image)
        except MinirtError as error:
            error.exit_code = 125
            raise
    elif wanted:
        container.save(mounts=[request.as_dict() for request in wanted])
    options.mounts = [request.as_dict() for request in wanted]


def claim_volumes(container: Container, mine: list[Request], wanted: list[Request], image: Image) -> None:
    """Make volumes, write down who uses them, and fill those that are empty."""
    from minirt.volume import store
    from minirt.volume.fill import fill

    for request in mine:
        request.source = request.source or store.anonymous_name()
    with store.changing():
        container.save(mounts=[request.as_dict() for request in wanted])  # first: who is killed after this leaves no volume behind
        for request in mine:
            labels = {**request.labels, **({store.ANONYMOUS: ""} if request.anonymous else {})}
            volume = make(request.source, labels, request.driver_options)
            # Simplified: one that another container has open is left as it is; docker fills it under its eyes.
            if not request.nocopy and not request.subpath and not volume.options and not is_open(volume.name, container.id, False):
                fill(volume, image.layers(), request.target)


def is_open(name: str, but: str = "", made: bool = True) -> bool:
    """Say whether a container has a volume open, or is about to: it is being started, and waits for the lock or had it.

    Args: but, the id of one that is not meant; made, whether those count that are just being made: it may be to run at once.
    """
    from minirt.engine import owner

    for user in users(name):
        status = user.state["status"]
        about = status != "running" and (made or status != "creating")  # "running", and it does not: it has ended
        if user.id != but and (user.running or (about and not owner.is_free(user.path))):
            return True
    return False


def users(name: str) -> list[Container]:
    """Return the containers that use a volume, running or not."""
    from minirt.engine.container import containers

    return [container for container in containers() if name in names_of(container.state)]


def names_of(state: dict[str, Any], anonymous: bool = False) -> set[str]:
    """Return the volumes that a container's state names; only those that were made for it, if so wanted."""
    found = (made for made in state.get("mounts") or () if made["kind"] == "volume")
    return {made["source"] for made in found if made["anonymous"] or not anonymous}


def attach(container: Container, options: RunOptions) -> None:
    """Mount what a container's volumes are mounts of, and wait for who fills one. The caller owns it. Raises: VolumeError."""
    from minirt.volume import device, store

    names = names_of({"mounts": options.mounts})
    for request in options.mounts or ():
        if request["kind"] == "volume":
            check_subpath(Request(**request))
    found = [store.find(name) for name in sorted(names)]
    if found:
        with store.changing():  # from here on it has them open for those who ask `is_open`
            for volume in found:
                device.attach(volume)


def check_subpath(request: Request) -> None:
    """Refuse a part of a volume that is not there, or that a link leads out of. Raises: UsageError.

    The plan looks again when it takes hold of it: this is for the words.
    """
    from minirt.errors import KernelError
    from minirt.linux.files import open_beneath

    if not request.subpath:
        return
    top = os.open(request.entry()["source"], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(open_beneath(top, request.subpath))
    except KernelError as error:
        text = os.strerror(error.errno or 0)
        raise UsageError(f"{request.where}: {request.subpath} in volume {request.source}: {text}") from None
    finally:
        os.close(top)


def detach(container: Container) -> None:
    """Unmount what a container's volumes are mounts of, where no other one that runs uses it. It may be half removed."""
    from minirt.volume import device, store

    names = names_of(container.state)
    if not names or not os.path.isdir(store.directory()):
        return
    found = [volume for volume in map(store.load, sorted(names)) if volume is not None and device.is_attached(volume)]
    if found:
        with store.changing():
            for volume in found:
                if not is_open(volume.name, container.id):
                    device.detach(volume)


def create(name: str = "", labels: dict[str, str] | None = None, options: dict[str, str] | None = None) -> Volume:
    """Make a volume, if there is none of this name.

    Args:
        name: by default one is made up, and the volume counts as anonymous.
        labels: of a new one.
        options: type, o and device, as mount(8) has them; without, a directory.

    Returns: the volume. Raises: VolumeError.
    """
    from minirt.volume import store

    if name:
        store.check_name(name)
    with store.changing():
        own = {**(labels or {}), **({} if name else {store.ANONYMOUS: ""})}
        return make(name or store.anonymous_name(), own, options or {})


def make(name: str, labels: dict[str, str], options: dict[str, str]) -> Volume:
    """Make a volume, if it is not there, and tell of it; the caller holds the volumes' lock. Raises: VolumeError."""
    from minirt.state.events import tell
    from minirt.volume import store

    new = store.load(name) is None
    made = store.create(name, labels, options)
    if new:
        tell("volume", "create", name, {"driver": "local"})
    return made


def drop(volume: Volume) -> str:
    """Let nobody find a volume any more, and tell of it; the caller holds `removing`. Returns the path to be erased."""
    from minirt.state.events import tell
    from minirt.volume import store

    hidden = store.drop(volume)
    tell("volume", "destroy", volume.name, {"driver": "local"})
    return hidden


def remove(name: str) -> None:
    """Remove a volume that no container uses. Raises: VolumeError, which names the containers."""
    from minirt.volume import store

    store.find(name)  # else there may be no place for volumes, and none is made
    with store.removing():
        with store.changing():
            volume = store.find(name)  # another may have removed it
            if using := users(name):
                labels = ", ".join(container.label for container in using)
                raise store.VolumeInUse(f"volume {name} is in use by {labels}: minirt rm {using[0].label}")
            hidden = drop(volume)
        erase([hidden])


def let_go(state: dict[str, Any]) -> None:
    """Remove the volumes that were made for a container which is no longer there, and that no other one uses."""
    from minirt.volume import store

    names = names_of(state, anonymous=True)
    if not names:
        return
    hidden = []
    with store.removing():
        with store.changing():
            for name in sorted(names):
                volume = store.load(name)
                if volume is not None and volume.anonymous and not users(name):
                    hidden.append(drop(volume))
        erase(hidden)


def erase(hidden: Iterable[str]) -> None:
    """Remove what nobody can find any more; the caller holds `removing`, and others go on."""
    from minirt.linux.rmtree import remove_tree

    for path in hidden:
        remove_tree(path)


def prune(everything: bool = False, keep: Any = None) -> tuple[list[str], int]:
    """Remove the volumes that no container uses: those that nobody named, or all.

    Args:
        everything: those with names too.
        keep: called with a volume; True where a filter does not choose it.

    Returns: the names, and how many bytes they had.
    """
    from minirt.volume import store

    hidden, names, size = [], [], 0
    if not os.path.isdir(store.directory()):
        return [], 0
    with store.removing():
        with store.changing():
            used = in_use()
            for volume in store.volumes():
                if volume.name not in used and (everything or volume.anonymous) and not (keep and keep(volume)):
                    size += usage(volume)
                    names.append(volume.name)
                    hidden.append(drop(volume))
        erase(hidden)
    return names, size


def in_use() -> set[str]:
    """Return the names of all volumes that containers use."""
    from minirt.engine.container import containers

    return {name for container in containers() for name in names_of(container.state)}


def usage(volume: Volume) -> int:
    """Return the bytes that a volume's files take on the disk."""
    return bytes_below(volume.data)


def bytes_below(path: str) -> int:
    """Return the bytes that the files below a directory take on the disk; a file with several names counts once."""
    total, seen = 0, set()
    for above, _, files in os.walk(path):
        for name in ["", *files]:
            try:
                status = os.lstat(os.path.join(above, name))
            except OSError:
                continue  # a container that runs has removed it meanwhile
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total
