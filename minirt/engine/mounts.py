"""What a container finds mounted because somebody asked for it: -v, --mount, --tmpfs, --volumes-from, the image's VOLUME.

    requests    words -> Requests, checked; nothing is made
    Request.entry   a Request -> an entry of config.json's mounts

What volumes are made, and who uses them, is for volumes.py.
"""

from __future__ import annotations

import os

from minirt.engine.values import parse_size
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from minirt.engine.options import RunOptions

__all__ = ["Request", "parse_mount", "parse_tmpfs", "parse_volume", "requests"]

SPREADS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")  # man 7 mount_namespaces
# z, Z: labels for SELinux, which is not there; the others are for machines on which docker itself is in a machine
WITHOUT_EFFECT = ("rw", "z", "Z", "cached", "consistent", "delegated")
NAMES = {"src": "source", "destination": "target", "dst": "target", "ro": "readonly", "bind-nonrecursive": "bind-recursive"}
FIELDS = {
    "bind": ("source", "target", "readonly", "bind-propagation", "bind-recursive", "consistency"),
    "tmpfs": ("target", "readonly", "tmpfs-size", "tmpfs-mode", "consistency"),
    "volume": (
        "source", "target", "readonly", "volume-driver", "volume-label", "volume-nocopy", "volume-opt", "volume-subpath",
        "consistency",
    ),
}  # fmt: skip


class Request:
    """One mount that is asked for; all its values are plain, so that a container can be started again with the same.

    Args:
        kind: bind, volume or tmpfs.
        target: the place in the container.
        source: a path of the host, or a volume's name; a volume without one is made for this container.
        **more: any attribute below.
    """

    __slots__ = (
        "anonymous", "driver_options", "kind", "labels", "make", "nocopy", "options", "read_only", "source", "spread", "subpath",
        "target", "where",
    )  # fmt: skip

    def __init__(self, kind: str, target: str, source: str = "", **more: Any) -> None:
        self.kind = kind
        self.target = target
        self.source = source
        self.read_only = False
        self.options: list[str] = []  # of config.json, beside those that follow from the others
        self.spread = "rprivate"
        self.nocopy = False  # a volume does not begin with what the image has there
        self.subpath = ""  # the part of a volume that is seen
        self.labels: dict[str, str] = {}  # of a volume that is made
        self.driver_options: dict[str, str] = {}
        self.anonymous = False  # the volume goes with the container that it was made for
        self.make = False  # a missing directory of the host is made, as -v does
        self.where = ""  # the words that asked for it
        for key, value in more.items():
            setattr(self, key, value)

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object, that `Request(**object)` takes."""
        return {name: getattr(self, name) for name in self.__slots__}

    def entry(self, idmap: bool = False) -> dict[str, Any]:
        """Return config.json's entry for it.

        Args: idmap, the container has a user namespace of its own, which a volume's owners are to be shown through.
        """
        if self.kind == "tmpfs":
            options = [*self.options, *(["ro"] if self.read_only else [])]
            return {"destination": self.target, "type": "tmpfs", "source": "tmpfs", "options": options}
        options = [*(self.options or ["rbind"]), self.spread, *(["rro"] if self.read_only else [])]
        source = self.source
        if self.kind == "volume":
            source, more, own = volume_source(self.source)
            mapped = ["idmap"] if idmap and own else []  # what is mounted there, or bound, keeps its owners
            options = ["bind", self.spread, *more, *(["ro"] if self.read_only else []), *mapped]
        made = {"destination": self.target, "type": "bind", "source": source, "options": options}
        return {**made, "subpath": self.subpath} if self.subpath else made


def volume_source(name: str) -> tuple[str, list[str], bool]:
    """Return the directory of a volume, also of one that is yet to be made; mount options; whether its files are its own."""
    from minirt.volume import store
    from minirt.volume.device import source

    volume = store.load(name) if name else None
    if volume is None:
        return os.path.join(store.directory(), name or "VOLUME", "_data"), [], True
    return (*source(volume), not volume.options)


def requests(options: RunOptions, image: dict[str, Any]) -> list[Request]:
    """Return what is asked for, parents before children.

    Args:
        options: what was asked for; once the volumes have been made, what they became.
        image: the image's `config` object, for its Volumes.

    Raises: UsageError, ContainerError.
    """
    if options.mounts is not None:
        return [Request(**made) for made in options.mounts]
    asked = [parse_volume(text, options.volume_driver) for text in options.volume] + [parse_mount(text) for text in options.mount]
    asked += [parse_tmpfs(text) for text in options.tmpfs]
    found: dict[str, Request] = {}
    for request in asked:
        if request.target in found:
            raise UsageError(f"two mounts have the target {request.target}")
        found[request.target] = request
    for text in options.volumes_from:
        for request in inherited(text):
            found.setdefault(request.target, request)
    for target in image.get("Volumes") or {}:
        target = os.path.normpath("/" + target.strip("/"))
        if target != "/":
            found.setdefault(target, Request("volume", target, anonymous=True, where=f"the image's VOLUME {target}"))
    return sorted(found.values(), key=lambda request: request.target.count("/"))


def inherited(text: str) -> list[Request]:
    """Return the mounts of another container, for --volumes-from CONTAINER[:ro|rw]. Raises: UsageError, ContainerError."""
    from minirt.engine.container import find

    name, _, mode = text.partition(":")
    if mode not in ("", "ro", "rw"):
        raise UsageError(f"--volumes-from {text}: it is written CONTAINER[:ro]")
    kept = [Request(**made) for made in find(name).state.get("mounts") or () if made["kind"] != "tmpfs"]
    for request in kept:
        request.where, request.nocopy = f"--volumes-from {text}", True
        request.read_only = request.read_only or mode == "ro"
    return kept


def target_of(text: str, where: str) -> str:
    """Return a mount's place in the container, in its plain form. Raises: UsageError."""
    if not text.startswith("/") or not os.path.normpath(text).strip("/"):
        raise UsageError(f"{where}: the target must be an absolute path inside the container, and not /")
    return "/" + os.path.normpath(text).lstrip("/")


def volume_name(name: str, where: str) -> str:
    """Return a volume's name, checked. Raises: UsageError."""
    from minirt.volume.store import VolumeError, check_name

    try:
        check_name(name)
    except VolumeError as error:
        raise UsageError(f"{where}: {error}; a path of the host begins with / or ./") from None
    return name


def parse_volume(text: str, driver: str = "") -> Request:
    """Return what `-v SOURCE:TARGET[:OPTIONS]` or `-v TARGET` asks for.

    Args:
        text: SOURCE is a path of the host or a volume's name; without one a volume is made.
        driver: --volume-driver, of a volume that is made.

    Raises: UsageError.
    """
    where, parts = f"-v {text}", text.split(":")
    if len(parts) > 3 or not all(parts[:2]):
        raise UsageError(f"{where}: it is written [SOURCE:]TARGET[:ro], SOURCE a path of the host or a volume's name")
    if driver not in ("", "local"):
        raise UsageError(f"--volume-driver {driver}: there is local")
    if len(parts) == 1:
        return Request("volume", target_of(text, where), anonymous=True, where=where)
    source, target = parts[0], target_of(parts[1], where)
    bound = source.startswith(("/", ".", "~"))
    made = Request("bind" if bound else "volume", target, where=where)
    for option in filter(None, (parts[2] if len(parts) == 3 else "").split(",")):
        if option == "ro":
            made.read_only = True
        elif option == "nocopy" and not bound:
            made.nocopy = True
        elif option in SPREADS and bound:
            made.spread = option
        elif option not in (*WITHOUT_EFFECT, *(("rbind",) if bound else ())):
            known = "ro, rw, private, slave, shared" if bound else "ro, rw, nocopy"
            raise UsageError(f"{where}: no option {option!r}; there are {known}")
    made.source = os.path.abspath(os.path.expanduser(source)) if bound else volume_name(source, where)
    made.make = bound
    return made


def fields_of(text: str) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
    """Return --mount's fields, and those that may be given several times (volume-opt, volume-label). Raises: UsageError."""
    import csv

    fields: dict[str, str] = {}
    several: dict[str, dict[str, str]] = {"volume-opt": {}, "volume-label": {}}
    try:
        (items,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise UsageError(f"--mount {text!r}: it is written type=KIND,target=PATH,FIELD=VALUE...") from None
    for item in items:
        key, equals, value = item.partition("=")
        key = key.strip().lower()
        if key in several:
            inner, _, value = value.partition("=")
            several[key][inner] = value
        elif key == "bind-nonrecursive":
            fields["bind-recursive"] = "enabled" if value in ("false", "0") else "disabled"
        else:
            fields[NAMES.get(key, key)] = value if equals else "true"
    return fields, several


def truth(fields: Mapping[str, str], name: str, where: str) -> bool:
    """Return whether a field is given, and not as false. Raises: UsageError."""
    value = fields.get(name, "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise UsageError(f"{where}: {name}={value}: true or false")
    return value in ("true", "1")


def parse_mount(text: str) -> Request:
    """Return what `--mount type=bind|volume|tmpfs,source=...,target=...[,FIELD=VALUE]...` asks for. Raises: UsageError."""
    where = f"--mount {text}"
    fields, several = fields_of(text)
    kind = fields.pop("type", "volume")
    if kind not in FIELDS:
        raise UsageError(f"{where}: type={kind} is not implemented; there are bind, volume and tmpfs")
    for name in [*fields, *(name for name, given in several.items() if given)]:
        if name not in FIELDS[kind]:
            raise UsageError(f"{where}: no field {name!r} for type={kind}; there are {', '.join(FIELDS[kind])}")
    if not fields.get("target"):
        raise UsageError(f"{where}: target= is missing")
    target, source = target_of(fields["target"], where), fields.get("source", "")
    made = Request(kind, target, source, read_only=truth(fields, "readonly", where), where=where)
    {"bind": bind_fields, "volume": volume_fields, "tmpfs": tmpfs_fields}[kind](made, fields, several)
    return made


def bind_fields(made: Request, fields: dict[str, str], _: object) -> None:
    """Read the fields of type=bind; its source must be there, unlike -v's."""
    spread, recursive = fields.get("bind-propagation", "rprivate"), fields.get("bind-recursive", "enabled")
    if spread not in SPREADS:
        raise UsageError(f"{made.where}: no bind-propagation {spread!r}; there are {', '.join(SPREADS)}")
    if recursive not in ("enabled", "disabled", "writable", "readonly"):
        raise UsageError(f"{made.where}: no bind-recursive {recursive!r}; there are enabled, disabled, writable, readonly")
    if not made.source:
        raise UsageError(f"{made.where}: source= is missing")
    made.source, made.spread = os.path.abspath(os.path.expanduser(made.source)), spread
    if not os.path.exists(made.source):
        raise UsageError(f"{made.where}: {made.source} does not exist on the host")
    made.options = ["bind" if recursive == "disabled" else "rbind"]
    if recursive == "writable" and made.read_only:  # only the top of what is bound
        made.read_only = False
        made.options.append("ro")


def volume_fields(made: Request, fields: dict[str, str], several: dict[str, dict[str, str]]) -> None:
    """Read the fields of type=volume."""
    if fields.get("volume-driver", "local") != "local":
        raise UsageError(f"{made.where}: volume-driver={fields['volume-driver']}: there is local")
    made.nocopy = truth(fields, "volume-nocopy", made.where)
    made.labels, made.driver_options = several["volume-label"], several["volume-opt"]
    made.subpath = fields.get("volume-subpath", "")
    if made.subpath.startswith("/") or ".." in made.subpath.split("/"):
        raise UsageError(f"{made.where}: volume-subpath is a path below the volume, without .. in it")
    made.anonymous = not made.source
    if made.source:
        volume_name(made.source, made.where)


def tmpfs_fields(made: Request, fields: dict[str, str], _: object) -> None:
    """Read the fields of type=tmpfs."""
    made.options = ["nosuid", "nodev", "noexec"]
    if "tmpfs-size" in fields:
        made.options.append(f"size={parse_size(fields['tmpfs-size'], '--mount tmpfs-size')}")
    mode = fields.get("tmpfs-mode", "1777")
    if not mode or mode.strip("01234567") or len(mode) > 5:
        raise UsageError(f"{made.where}: tmpfs-mode={mode}: an octal number, as 1770")
    made.options.append(f"mode={mode}")


def parse_tmpfs(text: str) -> Request:
    """Return what `--tmpfs /run[:size=64m,exec]` asks for. Raises: UsageError."""
    target, _, given = text.partition(":")
    if not target.startswith("/") or not os.path.normpath(target).strip("/"):
        raise UsageError(f"--tmpfs {text}: it is written /PATH[:OPTIONS], and the root cannot be one")
    options = [o for o in given.split(",") if o]
    names = {o.partition("=")[0] for o in options}
    defaults = [o for o, other in (("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev")) if not {o, other} & names]
    if "mode" not in names:
        defaults.append("mode=1777")
    return Request("tmpfs", os.path.normpath(target), options=defaults + options, where=f"--tmpfs {text}")
