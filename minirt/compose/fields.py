"""Which fields a compose file has, and what their values look like: the compose-spec's own JSON schema says so (compose-spec.json).

What the schema takes and is not here is told as that. What it leaves to be found later is found now: that a text in place of a
number, or of a truth, is none. Each error is one line, with the place in the file (words.py).

compose-spec.json is schema/compose-spec.json of github.com/compose-spec/compose-spec (Apache-2.0, as of October 2026), unchanged.
"""

from __future__ import annotations

from functools import cache

from minirt.compose.text import ComposeError, Document, Path
from minirt.compose.words import NUMBER, TRUTH, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["ABSENT", "SWARM", "check", "schema"]

# Valid and not here; * is any name, or place in a list.
ABSENT = (
    "models", "jobs", "networks.*.enable_ipv4", "networks.*.ipam.config.*.aux_addresses",
    *(f"services.*.{name}" for name in (
        "blkio_config", "cgroup_parent", "cpu_count", "cpu_percent", "cpu_rt_period", "cpu_rt_runtime", "credential_spec",
        "external_links", "gpus", "isolation", "mem_swappiness", "models", "oom_kill_disable", "post_start", "pre_start",
        "pre_stop", "provider", "pull_refresh_after", "runtime", "storage_opt", "umask", "use_api_socket",
        "deploy.resources.reservations.devices", "env_file.*.format", "volumes.*.image",
    )),
    *(f"services.*.build.{name}" for name in (
        "additional_contexts", "cache_from", "cache_to", "entitlements", "extra_hosts", "isolation", "no_cache_filter", "platforms",
        "privileged", "provenance", "sbom", "secrets", "shm_size", "ssh", "ulimits",
    )),
    *(f"services.*.networks.*.{name}" for name in (
        "driver_opts", "gw_priority", "interface_name", "link_local_ips", "use_service_name_alias",
    )),
)  # fmt: skip
SWARM = (
    *(f"services.*.deploy.{name}" for name in (
        "endpoint_mode", "placement", "rollback_config", "update_config", "resources.reservations.generic_resources",
    )),
    *(f"{kind}.*.{name}" for kind in ("secrets", "configs") for name in ("external", "template_driver")),
    "secrets.*.driver", "secrets.*.driver_opts",
)  # fmt: skip
OTHERS = {"services.*.links": "services of one network know each other by name"}
ONLY = {  # of a value's words those that are here
    "services.*.volumes.*.type": ("bind", "volume", "tmpfs"),
    "services.*.deploy.mode": ("replicated", "global", "replicated-job", "global-job"),
    "services.*.deploy.restart_policy.condition": ("none", "on-failure", "any"),
}

NUMBERS = {  # fields that are numbers, where the schema takes any text too
    "cpu_period", "cpu_quota", "cpu_shares", "hard", "max_attempts", "oom_score_adj", "pids", "pids_limit", "replicas", "retries",
    "scale", "soft", "target", "^[a-z]+$",
}  # fmt: skip  # the last is any of ulimits


def check(document: Document) -> None:
    """Refuse what is no compose file, with its line. Raises: ComposeError."""
    if not isinstance(document.value, dict):
        raise document.fail((), "a compose file is a mapping, with services: in it")
    for patterns, reason in ((ABSENT, "not implemented"), (SWARM, "it is for a swarm")):
        for pattern in patterns:
            for path, _ in places(document.value, pattern.split(".")):
                raise document.fail(path, reason)
    for pattern, reason in OTHERS.items():
        for path, _ in places(document.value, pattern.split(".")):
            raise document.fail(path, reason)
    filled = {key: value for key, value in document.value.items() if value is not None}
    errors = sorted(validator().iter_errors(filled), key=lambda error: document.line(tuple(error.absolute_path)))
    if errors:
        path, text = told(errors[0])
        raise document.fail(path, text)
    for pattern, words in ONLY.items():
        for path, value in places(document.value, pattern.split(".")):
            if value not in words:
                raise document.fail(path, f"one of {', '.join(words)} is expected, not {value!r}")


def places(value: Any, pattern: list[str], path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield what a value has at a pattern's places."""
    if not pattern:
        yield path, value
        return
    first, *rest = pattern
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if first in ("*", key):
            yield from places(one, rest, (*path, key))


@cache
def validator() -> Any:
    """Return what compares a value with the schema. Raises: ComposeError where the library is missing."""
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise ComposeError("compose needs the package jsonschema: .venv/bin/pip install -e '.[compose]'") from None
    return Draft202012Validator(sharpened(schema()))


def schema() -> dict[str, Any]:
    """Return the compose-spec's schema, as it is."""
    import json
    import os

    with open(os.path.join(os.path.dirname(__file__), "compose-spec.json"), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def sharpened(whole: dict[str, Any]) -> dict[str, Any]:
    """Return the schema with texts that must be numbers or truths, and services as one mapping each.

    A service is said to be all of two parts with nothing beside; where one thing is wrong in a part, all of it would be beside.
    """
    made: dict[str, Any] = patterned(whole)
    defined = made["$defs"]
    for one in defined.values():
        if one.pop("unevaluatedProperties", None) is False:
            parts = [defined[part["$ref"].rpartition("/")[2]] for part in one.pop("allOf")]
            one["properties"] = {key: value for part in (*parts, one) for key, value in part["properties"].items()}
            one.update(type="object", additionalProperties=False, patternProperties={"^x-": {}})
    return made


def patterned(node: Any, name: str = "") -> Any:
    """Return a part of the schema with patterns for texts. Args: name, of the field whose part it is."""
    if isinstance(node, list):
        return [patterned(one, name) for one in node]
    if not isinstance(node, dict):
        return node
    named = ("properties", "patternProperties", "$defs")
    made = {
        key: {field: patterned(one, field) for field, one in part.items()} if key in named else patterned(part, name)
        for key, part in node.items()
    }
    kinds = node.get("type")
    if kinds == ["boolean", "string"]:
        made["pattern"] = TRUTH
    elif name in NUMBERS and ("string" in kinds and len(kinds) == 2 if isinstance(kinds, list) else name == "oom_score_adj"):
        made["pattern"] = NUMBER
    return made
