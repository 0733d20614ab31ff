"""`RUN --mount=…`: what a step sees beside its image, and leaves no trace of in its layer.

    type=bind,target=/src[,source=dir][,from=stage][,rw]     a directory or file of the context, a stage or an image
    type=cache,target=/c[,id=…][,sharing=shared|private|locked][,from=…,source=…][,mode=][,uid=][,gid=][,ro]
    type=tmpfs,target=/t[,size=64m]
    type=secret,id=token[,target=/run/secrets/token][,env=NAME][,required][,mode=0400][,uid=][,gid=]
    type=ssh[,id=default][,target=/run/buildkit/ssh_agent.0][,required][,mode=0600][,uid=][,gid=]

(docs.docker.com/reference/dockerfile, "RUN --mount".) Here the words are read; `run.py` makes the mounts.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.lines import Instruction

__all__ = ["Mount", "parse_mount"]

FIELDS = {
    "bind": ("target", "source", "from", "rw", "ro"),
    "cache": ("target", "id", "sharing", "from", "source", "mode", "uid", "gid", "ro", "rw"),
    "tmpfs": ("target", "size"),
    "secret": ("id", "target", "required", "mode", "uid", "gid", "env"),
    "ssh": ("id", "target", "required", "mode", "uid", "gid"),
}
SAME = {"dst": "target", "destination": "target", "src": "source", "readonly": "ro", "readwrite": "rw"}
FLAGS = ("rw", "ro", "required")  # alone they mean true


class Mount:
    """One --mount; texts with their variables as they are, until `expand`."""

    __slots__ = ("kind", "values")

    def __init__(self, kind: str, values: dict[str, str]) -> None:
        self.kind = kind
        self.values = values

    @property
    def source_stage(self) -> str:
        """The stage or image that it is taken from, or ""."""
        return self.values.get("from", "")

    def truth(self, name: str) -> bool:
        """Return whether a flag is given, and not as false."""
        return self.values.get(name, "false").lower() in ("true", "1", "")

    def number(self, name: str, default: int, base: int = 10) -> int:
        """Return a number that was checked when it was read."""
        return int(self.values[name], base) if name in self.values else default


def parse_mount(instruction: Instruction, text: str) -> Mount:
    """Read the value of a --mount. Raises DockerfileError."""
    import csv

    values: dict[str, str] = {}
    for item in next(csv.reader([text]), []):
        key, equals, value = item.partition("=")
        key = SAME.get(key.lower(), key.lower())
        if not equals and key not in FLAGS:
            raise instruction.error(f"RUN --mount={text}: {item!r} is not FIELD=VALUE")
        values[key] = value if equals else "true"
    kind = values.pop("type", "bind")
    if kind not in FIELDS:
        raise instruction.error(f"RUN --mount={text}: there are type={', '.join(FIELDS)}")
    for key in values:
        if key not in FIELDS[kind]:
            raise instruction.error(f"RUN --mount={text}: type={kind} has no field {key!r}; there are {', '.join(FIELDS[kind])}")
    if kind == "secret":
        values.setdefault("id", values.get("target", "").rpartition("/")[2])
        if not values["id"]:
            raise instruction.error(f"RUN --mount={text}: id= is missing: which of the --secret is meant?")
    elif kind == "ssh":
        values.setdefault("id", "default")
    elif not values.get("target"):
        raise instruction.error(f"RUN --mount={text}: target= is missing")
    if values.get("sharing", "shared") not in ("shared", "private", "locked"):
        raise instruction.error(f"RUN --mount={text}: sharing= is shared, private or locked")
    for key, digits in (("mode", "01234567"), ("uid", "0123456789"), ("gid", "0123456789")):
        value = values.get(key, "0")
        if "$" not in value and (not value or value.strip(digits) or len(value) > 10):
            raise instruction.error(f"RUN --mount={text}: {key}={value} is no number")
    return Mount(kind, values)
