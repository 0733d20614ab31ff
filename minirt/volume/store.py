"""A volume: a directory with its content and a few words about it.

    volumes/NAME/_data          the content, which containers see
                 volume.json    labels, driver options, when it was made
    volumes/.NAME.RANDOM        half made, or half removed: with nobody at it the next change removes it

There is no list of volumes beside the directories, so none can disagree with them. One is made under a hidden name and
renamed when it is whole, and renamed back before it is removed; both under a lock, which the kernel drops with its holder.
To remove what is hidden takes long, and others are not to wait for it: so who does that holds a second lock, and shares it
with those who do the same. Only who gets that one alone knows that what is hidden is nobody's.
"""

from __future__ import annotations

import json
import os
import time

from minirt.errors import MinirtError
from minirt.image.scratch import Lock
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "ANONYMOUS",
    "BadName",
    "NoVolume",
    "Volume",
    "VolumeError",
    "VolumeInUse",
    "anonymous_name",
    "changing",
    "check_name",
    "create",
    "directory",
    "drop",
    "find",
    "load",
    "removing",
    "sweep",
    "volumes",
]  # fmt: skip

ANONYMOUS = "com.docker.volume.anonymous"  # the label of a volume that nobody named (docker volume prune goes by it)
OPTIONS = ("type", "o", "device")  # of docker's local driver


class VolumeError(MinirtError):
    """A volume is not there, is in use, or cannot be."""

    exit_code = 1


class BadName(VolumeError):
    """What is no name of a volume."""


class NoVolume(VolumeError):
    """No volume has this name."""


class VolumeInUse(VolumeError):
    """A container uses the volume."""


class Volume:
    """One volume."""

    __slots__ = ("created", "labels", "name", "options", "path")

    def __init__(self, name: str, path: str, described: dict[str, Any]) -> None:
        self.name = name
        self.path = path
        self.labels: dict[str, str] = described.get("labels") or {}
        self.options: dict[str, str] = described.get("options") or {}  # type, o, device
        self.created = float(described.get("created") or 0.0)  # s since 1970

    @property
    def data(self) -> str:
        """The path of its content, where docker's users look for it."""
        return os.path.join(self.path, "_data")

    @property
    def anonymous(self) -> bool:
        """Whether nobody named it."""
        return ANONYMOUS in self.labels


def directory() -> str:
    """Return the directory that holds one directory a volume."""
    return os.path.join(data_root(), "volumes")


def changing() -> Lock:
    """Return the lock that covers making a volume, removing it, and writing down that a container uses it."""
    os.makedirs(directory(), mode=0o711, exist_ok=True)
    return Lock(f"{directory()}.lock")


def removing(*, alone: bool = False) -> Lock:
    """Return the lock that covers a removal from before `drop` to its end; it is taken before `changing`.

    Args: alone, of who looks for what killed ones have left: BlockingIOError where somebody is removing.
    """
    path = f"{directory()}.removing.lock"
    return Lock(path, wait=0) if alone else Lock(path, shared=True)


def check_name(name: str) -> None:
    """Refuse what is no name (docker's rule). Raises: VolumeError."""
    plain = name.replace("-", "a").replace("_", "a").replace(".", "a")
    if len(name) < 2 or not (plain.isascii() and plain.isalnum() and name[0].isalnum()):
        raise BadName(f"volume {name!r}: a name is made of letters, digits, _ . -, two or more of them")
    if len(name) > 255:
        raise BadName("a volume's name is that of a directory: at most 255 letters")


def anonymous_name() -> str:
    """Return a name for a volume that has none."""
    return os.urandom(32).hex()


def create(name: str, labels: dict[str, str], options: dict[str, str]) -> Volume:
    """Make a volume, if it is not there; the caller holds `changing`.

    Args:
        name: checked already.
        labels: of a new one.
        options: type, o, device; as one that is there has them, or none.

    Raises: VolumeError.
    """
    from minirt.volume.device import check

    sweep()
    there = load(name)
    if there is not None:
        if options and options != there.options:
            raise VolumeError(f"volume {name} is there with other options: minirt volume inspect {name}")
        return there
    check(name, options)
    hidden = os.path.join(directory(), f".{name[:200]}.{os.urandom(6).hex()}")
    try:
        os.mkdir(hidden, 0o711)
        os.mkdir(os.path.join(hidden, "_data"), 0o755)
        os.chmod(os.path.join(hidden, "_data"), 0o755)  # whatever our umask
        with open(os.path.join(hidden, "volume.json"), "w", encoding="utf-8") as file:
            json.dump({"name": name, "labels": labels, "options": options, "created": time.time()}, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(hidden, os.path.join(directory(), name))
    except OSError as error:
        raise VolumeError(f"{directory()}: {error.strerror}: volumes are kept there") from None
    made = load(name)
    assert made is not None
    return made


def load(name: str) -> Volume | None:
    """Return a volume by its name, None where there is none."""
    path = os.path.join(directory(), name)
    try:
        with open(os.path.join(path, "volume.json"), encoding="utf-8") as file:
            return Volume(name, path, json.load(file))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise VolumeError(f"{path}/volume.json: {error}") from None


def find(name: str) -> Volume:
    """Return a volume. Raises: VolumeError where there is none."""
    found = load(name) if name and "/" not in name and not name.startswith(".") else None
    if found is None:
        raise NoVolume(f"no volume {name!r}: minirt volume ls lists them")
    return found


def volumes() -> list[Volume]:
    """Return all volumes, by name."""
    try:
        names = sorted(name for name in os.listdir(directory()) if not name.startswith("."))
    except FileNotFoundError:
        return []
    return [volume for volume in map(load, names) if volume is not None]


def drop(volume: Volume) -> str:
    """Take a volume out of sight; the caller holds `removing` and `changing`, and knows that nobody uses it.

    Returns: what is to be removed.
    """
    from minirt.volume.device import detach

    detach(volume)
    hidden = os.path.join(directory(), f".{volume.name[:200]}.{os.urandom(6).hex()}")
    os.rename(volume.path, hidden)
    return hidden


def sweep(dry: bool = False) -> list[str]:
    """Remove what a killed minirt left half made or half removed; the caller holds `changing`.

    Returns: the paths; none while somebody is removing a volume, as that is hidden too.
    """
    from minirt.linux.rmtree import remove_tree

    if not _hidden():
        return []
    try:
        with removing(alone=True):
            left = sorted(_hidden())  # now: what was there before may have been removed meanwhile
            for path in left if not dry else ():
                remove_tree(path)
            return left
    except BlockingIOError:
        return []


def _hidden() -> list[str]:
    """Return the paths of what is no volume, yet or any more."""
    try:
        return [os.path.join(directory(), name) for name in os.listdir(directory()) if name.startswith(".")]
    except FileNotFoundError:
        return []
