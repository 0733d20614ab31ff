"""What a killed minirt leaves, and nobody owns: found, told, removed.

    a container half made, half removed, never begun, or to be removed at its end (--rm): its directory
    one whose program has ended with nobody to see it: shown as exited, for what it changed is the user's
    its cgroup; mounts below its directory; the hold on its image
    half-written content of the image store and of the seccomp cache

A container of a minirt that lives, or whose program does, is left alone. A group is only looked for under the id
of a container that is known here: an empty one of another MINIRT_ROOT may be one that is just being made.
"""

from __future__ import annotations

import os
import sys

from minirt.engine import owner
from minirt.engine.container import LOST, Container, died_attributes, directory
from minirt.linux.process import start_time
from minirt.paths import cache_root, data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from minirt.engine.container import Happening
    from minirt.image.store import Store

__all__ = ["Garbage", "clear", "collect", "groups", "is_alone", "mend", "notice"]

RESTING = ("created", "exited")  # where nobody needs to be with a container


def on_stderr(container: Container, text: str) -> None:
    """Tell it where a command tells what is wrong."""
    print(f"minirt: {container.label}: {text}", file=sys.stderr)


notice: Callable[[Container, str], object] = on_stderr  # told once of each that has ended with nobody to see it


class Garbage:
    """One thing that nobody owns."""

    __slots__ = ("kind", "path", "why")

    def __init__(self, kind: str, path: str, why: str) -> None:
        self.kind = kind  # container, exited, cgroup, mount, hold, volume, image part, image content, filter
        self.path = path
        self.why = why

    def as_dict(self) -> dict[str, str]:
        """Return it as a JSON object."""
        return {name: getattr(self, name) for name in self.__slots__}


def collect(dry: bool = False) -> list[Garbage]:
    """Remove what nobody owns.

    Args:
        dry: only look. Content of images that no name leads to is then not told: the store knows of it when it
            removes it.

    Returns: what was found. Raises: MinirtError.
    """
    if not os.path.isdir(data_root()):
        return []
    found: list[Garbage] = []
    with owner.making(directory(), shared=False):  # else one could be between its mkdir and its lock
        for name in _list(directory()):
            found += _container(name, dry)
        found += _rows(dry)
        found += _holds(dry)
        found += _places(dry)
    return [*found, *_volume_parts(dry), *_image_parts(dry), *_filters(dry)]


def mend(container: Container) -> bool:
    """Show a container as what it is, where the minirt that stayed with it is gone. Returns whether it is still there.

    Its program may live on: then it runs. If it has ended the container has exited, with a status that nobody saw.
    """
    if container.state["status"] in RESTING or container.running:
        return True
    fd = owner.take(container.path)
    if fd < 0:
        return _known(container)  # a minirt is with it, and about to say how it ended
    try:
        fresh = Container.load(container.id)  # as it is now that nobody else may change it
        if fresh is None:
            return False
        container.state = fresh.state
        if _alive(container):
            return True
        if container.state["rm"] or container.state["status"] == "creating":
            clear(container.id)
            return False
        if container.state["status"] in ("running", "restarting"):
            clear(container.id, keep=True)  # no address or port stays with what does not run
            exited(container)
            notice(container, LOST + restarted_by(container))
        return True
    finally:
        os.close(fd)


def is_alone(container: Container) -> bool:
    """Say whether a container runs, and nobody stays with it."""
    return container.state["status"] == "running" and container.running and owner.is_free(container.path) and container.running


def restarted_by(container: Container) -> str:
    """Return what is to be done for one that --restart would have started again, had its monitor lived."""
    from minirt.engine.restarts import is_stopped, next_start

    state = container.state
    if next_start(state["restart"], state["exit_code"], state["restarts"], 0, is_stopped(container)) is None:
        return ""
    return f"; --restart {state['restart']}: `minirt start {container.label}` starts it again, as `minirt serve` does by itself"


def _known(container: Container) -> bool:
    """Say whether a container has a directory; where somebody has removed that by hand, forget it."""
    if Container.load(container.id) is not None and not os.path.isdir(container.path):
        container.remove()
    return Container.load(container.id) is not None


def exited(container: Container) -> None:
    """Write down that a container's program has ended, and nobody saw how. The caller owns it."""
    import time

    from minirt.engine.exits import read_exit

    code, when = read_exit(container) or (None, time.time())
    lived = when - (container.state["started"] or when)
    died = [("die", died_attributes(code, lived))] if container.state["status"] == "running" else []
    container.save(died, status="exited", exit_code=code, finished=when, pid=0, error=LOST)


def _alive(container: Container) -> bool:
    """Say whether the program of a container that no minirt is with lives; note which process it is."""
    if container.running or container.state.get("status") == "exited":
        return container.running
    for pid in owner.programs(container.id)[:1]:
        new: list[Happening] = [("create", {}), ("start", {})] if container.state["status"] == "creating" else []
        container.save(new, status="running", pid=pid, started_ticks=start_time(pid))
        return True
    return False


def _container(name: str, dry: bool) -> list[Garbage]:
    """Look at one entry of the containers' directory, and remove what is to be removed."""
    id, path = name, os.path.join(directory(), name)
    fd = owner.take(path)
    if fd < 0:
        return []
    try:
        container = Container.load(id, removing=True)
        if container is not None and container.state.get("step") and not dry:
            owner.end(id, container.state["pid"] if container.running else 0)
        if container is not None and container.state["status"] != "removing" and _alive(container):
            return []
        why = _verdict(container)
        found = [Garbage("cgroup", group, "no process is in it, and its container is over") for group in groups(id)]
        found += [Garbage("mount", point, "its container is over") for point in _mounts(path)]
        if why:
            found.append(Garbage("container", path, why))
        elif container is not None and container.state["status"] not in RESTING:
            found.append(Garbage("exited", path, "its program has ended, and minirt was killed before it saw how"))
        if not dry:
            clear(id, keep=not why)
            if container is not None and not why and container.state["status"] not in RESTING:
                exited(container)
        return found
    finally:
        os.close(fd)


def _rows(dry: bool) -> Iterator[Garbage]:
    """Forget containers whose directory somebody has removed by hand."""
    from minirt.state.containers import everything
    from minirt.state.schema import State

    with State(look=True) as base:
        gone = [c for c in map(Container, everything(base, removing=True)) if not os.path.isdir(c.path)]
    for container in gone:
        if not dry:
            container.remove()
        yield Garbage("container", container.path, "its directory is not there any more")


def _verdict(container: Container | None) -> str:
    """Say why a directory that nobody owns goes, or nothing where it stays."""
    if container is None:
        return "half made, or half removed"
    if container.state["status"] == "creating":
        return "minirt was killed before it began"
    if container.state["status"] == "removing":
        return "half removed"
    if container.state["status"] == "created":  # it waits for `minirt start`, also with --rm
        return ""
    return "minirt was killed before it could remove it (--rm)" if container.state["rm"] else ""


def clear(id: str, keep: bool = False, volumes: bool = False) -> None:
    """Remove a container's group, the mounts below its directory, and unless it is to be kept the container.

    Args: volumes, those that were made for it alone too.
    """
    from minirt.linux.cgroup2 import Cgroup

    for group in groups(id):
        Cgroup.open(group).remove()
    container = Container.load(id, removing=True) or Container({"id": id})
    if os.path.exists(f"{container.path}/pasta.pid"):
        from minirt.network.pasta import stop

        stop(id, container.path)
    elif os.path.exists(_networks()):
        from minirt.network.schema import is_connected

        if is_connected(id):
            from minirt.network.connect import leave

            leave(id)
    if os.path.isdir(os.path.join(data_root(), "volumes")):
        from minirt.engine.volumes import detach

        detach(container)
    for point in _mounts(container.path):  # before the directory: else what is mounted there would be removed too
        _unmount(point)
    if not keep:
        container.remove(volumes=volumes)


def groups(id: str) -> list[str]:
    """Return the container's group, if there is one."""
    from minirt.linux.cgroup2 import CgroupError, locate

    try:
        group = locate(id).directory
    except CgroupError:  # no cgroup v2
        return []
    return [group] if os.path.isdir(group) else []


def _mounts(path: str) -> list[str]:
    """Return the mount points below a directory in our mount namespace, the innermost first."""
    from minirt.linux import mountinfo

    real = os.path.realpath(path)
    return sorted((mount.point for mount in mountinfo.read() if mount.point.startswith(real + "/")), key=len, reverse=True)


def _unmount(point: str) -> None:
    from minirt.linux import constants as k
    from minirt.plan import Plan

    Plan().umount2(point, k.MNT_DETACH, why="nobody owns it").exit_group(0).run()


def _holds(dry: bool) -> Iterator[Garbage]:
    """Let go of images for containers and builds that are not there any more."""
    from minirt.image.holds import BUILD
    from minirt.image.store import Store

    store = Store(os.path.join(data_root(), "image"))
    yield from _build_holds(store, dry)
    for id in store.holders():
        if id.startswith(BUILD):
            continue
        path = os.path.join(store.root, "holds", id)
        if not os.path.isdir(os.path.join(directory(), id)) and os.path.exists(path):  # still: it goes before its container does
            if not dry:
                store.release(id)
            yield Garbage("hold", path, "its container is not there any more")


def _build_holds(store: Store, dry: bool) -> Iterator[Garbage]:
    """Let go of images for builds that were killed: all of them, as no build runs."""
    from minirt.image.holds import BUILD

    if not any(owner.startswith(BUILD) for owner in store.holders()):
        return
    try:
        with store.steps.using(alone=True):
            for owner in [owner for owner in store.holders() if owner.startswith(BUILD)]:
                if not dry:
                    store.release(owner)
                yield Garbage("hold", os.path.join(store.root, "holds", owner), "its build was killed")
    except BlockingIOError:
        return  # a build runs, and which of them it holds nobody knows


def _networks() -> str:
    """Return the path of the database of networks, which is there if there has ever been one (minirt.network.store)."""
    return os.path.join(data_root(), "network.sqlite")


def _places(dry: bool) -> Iterator[Garbage]:
    """Take containers that are not there any more out of their networks."""
    if not dry and os.path.exists(_networks()):
        from minirt.network.connect import sweep

        for id in sweep(_list(directory())):
            yield Garbage("network", id, "its container is not there any more")


def _volume_parts(dry: bool) -> Iterator[Garbage]:
    """Remove volumes that are half made or half removed, and what is mounted for containers that have ended."""
    from minirt.engine.volumes import is_open
    from minirt.volume import device, store

    if not os.path.isdir(store.directory()):
        return
    with store.changing():
        for path in store.sweep(dry):
            yield Garbage("volume", path, "half made, or half removed")
        for volume in store.volumes():
            if device.is_attached(volume) and not is_open(volume.name):
                yield Garbage("mount", volume.data, "no container that runs uses the volume")
                if not dry:
                    device.detach(volume)


def _image_parts(dry: bool) -> Iterator[Garbage]:
    """Remove what was being added to the image store: each such part is locked by who writes it."""
    from minirt.image.store import Store

    store = Store(os.path.join(data_root(), "image"))
    if not os.path.isdir(store.root):
        return
    for name in _list(f"{store.root}/tmp"):
        if _unlocked(path := f"{store.root}/tmp/{name}"):
            yield Garbage("image part", path, "minirt was killed while it wrote it")
    if not dry:
        for digest in store.collect(wait=False):
            yield Garbage("image content", digest, "no image needs it")


def _filters(dry: bool) -> Iterator[Garbage]:
    """Remove compiled filters that were being written: KEY.PID.RANDOM."""
    folder = os.path.join(cache_root(), "seccomp")
    for name in _list(folder):
        _, *rest = name.split(".")
        if rest and not os.path.isdir(f"/proc/{rest[0]}"):
            if not dry:
                os.unlink(os.path.join(folder, name))
            yield Garbage("filter", os.path.join(folder, name), "minirt was killed while it wrote it")


def _unlocked(path: str) -> bool:
    import fcntl

    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(fd)


def _list(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []
