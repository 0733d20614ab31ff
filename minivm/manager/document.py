"""The machine file: JSON or TOML in the shape of Firecracker's --config-file, checked field by field.

    {"boot-source": {"kernel_image_path": "debian-cloud", "boot_args": "quiet"},
     "drives": [{"drive_id": "root", "path_on_host": "root.ext4", "is_root_device": true, "is_read_only": false}],
     "machine-config": {"vcpu_count": 2, "mem_size_mib": 256},
     "entropy": {},
     "minivm": {"console": "virtio", "init": "/bin/sh"}}

Names and meanings are those of Firecracker's API (firecracker.yaml, 1.16); what it has no word for stands below
"minivm". What Firecracker has and minivm has not is refused, unless it says that it is not wanted.
"""

from __future__ import annotations

from minivm.boot.formats import FORMATS
from minivm.errors import MinivmError
from minivm.manager.rules import faults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["DocumentError", "check", "read"]


class DocumentError(MinivmError):
    """A machine file that is wrong; the text begins with the path of what is wrong in it."""

    status = 1


class Field:
    """What one value may be.

    Args:
        kind: str, int, bool, list; or a tuple of the words that it may be.
        required: whether it must be there.
        least, most: of a number.
        items: the kind of what is in a list, or a Field.
        fields: of an object.
        only: the one value that minivm can do; any other is not implemented.
    """

    __slots__ = ("fields", "items", "kind", "least", "most", "only", "required")

    def __init__(
        self, kind: Any, *, required: bool = False, least: int = 0, most: int = 1 << 40, items: Any = None, only: Any = ...,
        fields: dict[str, Field] | None = None,
    ) -> None:  # fmt: skip
        self.kind, self.required, self.least, self.most = kind, required, least, most
        self.items, self.fields, self.only = items, fields, only


TEXT, FLAG = Field(str), Field(bool)
LACKING = Field(dict, only=None)  # an object that Firecracker has
NUMBER = Field(int, required=True, least=1)
# So many tokens in so many ms; how many may be used at once is not chosen (minivm/machine/devices.py, bucket).
BUCKET = Field(dict, fields={"size": NUMBER, "refill_time": NUMBER, "one_time_burst": LACKING})
LIMITER = Field(dict, fields={"bandwidth": BUCKET, "ops": BUCKET})
LIMITER_OF_BYTES = Field(dict, fields={"bandwidth": BUCKET, "ops": LACKING})
SECTIONS: dict[str, dict[str, Field]] = {
    "boot-source": {"kernel_image_path": TEXT, "initrd_path": TEXT, "boot_args": TEXT},
    "drives": {
        "drive_id": Field(str, required=True),
        "path_on_host": Field(str, required=True),
        "is_root_device": FLAG,
        "is_read_only": FLAG,
        "cache_type": Field(("Unsafe", "Writeback")),  # a flush is one here: Unsafe asks for less
        "io_engine": Field(("Sync", "Async")),
        "partuuid": Field(str, only=""),
        "rate_limiter": LIMITER,
        "minivm": Field(
            dict,
            fields={"overlay": TEXT, "format": Field(("raw", "qcow2")), "base": TEXT, "queues": Field(int, least=1, most=16)},
        ),
    },
    "network-interfaces": {
        "iface_id": Field(str, required=True),
        "host_dev_name": TEXT,  # a tap; Firecracker must have one, here none is a network in user mode, by passt
        "guest_mac": TEXT,
        "rx_rate_limiter": LIMITER_OF_BYTES,
        "tx_rate_limiter": LIMITER_OF_BYTES,
        "mtu": LACKING,
    },
    "machine-config": {
        "vcpu_count": Field(int, required=True, least=1, most=254),
        "mem_size_mib": Field(int, required=True, least=1),
        "smt": Field(bool, only=False),
        "track_dirty_pages": Field(bool, only=False),
        "cpu_template": Field(str, only="None"),
        "huge_pages": Field(str, only="None"),
    },
    "entropy": {"rate_limiter": LACKING},
    "balloon": {
        "amount_mib": Field(int, required=True),
        "deflate_on_oom": Field(bool, only=True),
        "stats_polling_interval_s": Field(int),  # statistics are asked for when somebody asks for them
        "free_page_reporting": Field(bool, only=True),
    },
    "memory-hotplug": {
        "total_size_mib": Field(int, required=True, least=2),
        "block_size_mib": Field(int, only=2),
        "slot_size_mib": Field(int, least=2),  # into which Firecracker divides the region; here it is one
    },
    "vsock": {
        "guest_cid": Field(int, required=True, least=3, most=(1 << 32) - 2),  # 0 to 2 are hypervisor, loopback, host
        "uds_path": Field(str, required=True),
        "vsock_id": TEXT,
    },
    "minivm": {
        "format": Field(("auto", *FORMATS)),
        "console": Field(("serial", "virtio")),
        "irqchip": Field(("kernel", "none")),
        "initrds": Field(list, items=str),
        "modules": Field(list, items=str),
        "root_directory": TEXT,
        "init": TEXT,
        "modules_directory": TEXT,
        "cpu_affinity": Field(list, items=str),
        "cgroup": TEXT,
        "watchdog": FLAG,
        "jail": FLAG,
        "split_queues": FLAG,
        "virtio": Field(("modern", "legacy")),  # which interface the devices have
        "plugged_mib": Field(int),  # of memory-hotplug: what is there at first
        "shares": Field(
            list,
            items=Field(dict, fields={"path": Field(str, required=True), "tag": Field(str, required=True), "read_only": FLAG}),
        ),
        "ports": Field(list, items=Field(dict, fields={"name": Field(str, required=True), "path": Field(str, required=True)})),
        "program": Field(
            dict,
            fields={
                "args": Field(list, required=True, items=str),
                "env": Field(list, items=str),
                "cwd": TEXT,
                "user": TEXT,
                "hostname": TEXT,
                "terminal": FLAG,
                "stop_signal": Field(int, least=1, most=64),
            },
        ),
    },
}
LISTS = {"drives": "drive_id", "network-interfaces": "iface_id"}  # section -> what each in it has for itself
OURS = {"ports": "name", "shares": "tag"}  # the same below minivm
MAY_BE_NULL = ("balloon", "entropy", "memory-hotplug", "vsock")  # as Firecracker writes what is not there
UNKNOWN_HERE = ("cpu-config", "logger", "metrics", "mmds-config")


def read(path: str) -> dict[str, Any]:
    """Read a machine file: TOML where its name ends in .toml, else JSON. Raises DocumentError."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DocumentError(f"cannot read {path!r}: {error.strerror}") from None
    try:
        if path.endswith(".toml"):
            import tomllib

            document = tomllib.loads(data.decode())
        else:
            import json

            document = json.loads(data, object_pairs_hook=_without_twins)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path!r} is neither JSON nor, by the name .toml, TOML: {error}") from None
    return check(document)


def check(document: Any) -> dict[str, Any]:
    """Return the document as it is, if every field is right. Raises DocumentError that names the first that is not."""
    if not isinstance(document, dict):
        raise DocumentError("the machine file must hold an object")
    for name, value in document.items():
        if name in UNKNOWN_HERE and value not in (None, [], {}):
            raise DocumentError(f"{name}: not implemented")
        if name in UNKNOWN_HERE or (name in MAY_BE_NULL and value is None):
            continue
        if name not in SECTIONS:
            raise DocumentError(f"{_key(name)}: no such section{_meant(name, [*SECTIONS, *UNKNOWN_HERE])}")
        _check_section(name, value)
    for name, id in LISTS.items():
        _check_ids(name, id, document.get(name, []))
    for name, id in OURS.items():
        _check_ids(f"minivm.{name}", id, (document.get("minivm") or {}).get(name) or [])
    if "machine-config" not in document:
        raise DocumentError("machine-config: is missing")
    for path, text in faults(document):
        raise DocumentError(f"{path}: {text}")
    return document


def _check_section(name: str, value: Any) -> None:
    if name not in LISTS:
        _check_object(name, value, SECTIONS[name])
        return
    if not isinstance(value, list):
        raise DocumentError(f"{name}: must be a list, not {_kind(value)}")
    for number, item in enumerate(value):
        _check_object(f"{name}[{number}]", item, SECTIONS[name])


def _check_object(path: str, value: Any, fields: dict[str, Field]) -> None:
    if not isinstance(value, dict):
        raise DocumentError(f"{path}: must be an object, not {_kind(value)}")
    for key, item in value.items():
        if key not in fields:
            raise DocumentError(f"{path}.{_key(key)}: no such field{_meant(key, list(fields))}")
        if item is not None:
            _check_field(f"{path}.{key}", item, fields[key])
    for key, field in fields.items():
        if field.required and value.get(key) is None:
            raise DocumentError(f"{path}.{key}: is missing")


def _check_field(path: str, value: Any, field: Field) -> None:
    if isinstance(field.kind, tuple):
        if value not in field.kind:
            raise DocumentError(f"{path}: must be one of {', '.join(field.kind)}, not {_shown(value)}")
        return
    if not isinstance(value, field.kind) or (field.kind is int and isinstance(value, bool)):
        raise DocumentError(f"{path}: must be {_kind(field.kind())}, not {_kind(value)}")
    if field.only is not ... and value != field.only:
        raise DocumentError(f"{path}: {_shown(value)} is not implemented" if field.only is not None else f"{path}: not implemented")
    if field.kind is int and not field.least <= value <= field.most:
        raise DocumentError(f"{path}: {value} is not between {field.least} and {field.most}")
    if field.kind is str:
        _check_text(path, value)
    if field.fields is not None:
        _check_object(path, value, field.fields)
    if field.kind is list:
        for number, item in enumerate(value):
            _check_field(f"{path}[{number}]", item, field.items if isinstance(field.items, Field) else Field(field.items))


def _check_text(path: str, value: str) -> None:
    import os

    if "\0" in value:
        raise DocumentError(f"{path}: must not have a zero byte in it")
    try:
        os.fsencode(value)
    except UnicodeEncodeError:  # half a character, as JSON's \ud800 says it
        raise DocumentError(f"{path}: {_shown(value)} is no text") from None


def _check_ids(name: str, id: str, items: list[dict[str, Any]]) -> None:
    """Each of a list has an id of its own."""
    seen: dict[str, int] = {}
    for number, item in enumerate(items):
        if item[id] in seen:
            raise DocumentError(f"{name}[{number}].{id}: {name}[{seen[item[id]]}] is {item[id]!r} too")
        seen[item[id]] = number


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON, in which a key must not come twice: which one would count?"""
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise ValueError(f"the key {name!r} comes twice")
        made[name] = value
    return made


def _meant(word: str, words: list[str]) -> str:
    from minirt.errors import nearest

    close = nearest(word, words, 0.5)
    return f"; {close!r} is meant?" if close else f"; there are {', '.join(sorted(words))}"


def _key(text: str) -> str:
    """Return a key as it may stand in a line."""
    return text if text.replace("-", "").replace("_", "").isalnum() else _shown(text)


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "a string", int: "a whole number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a date or time")  # which TOML has


def _shown(value: Any) -> str:
    import json

    return json.dumps(value, default=str)[:60]
