"""Files of a seed that somebody has already, as cloud-localds, virt-install and multipass take them: read, and held to their form.

What cloud-init does not understand it passes over, with a line in the log of a machine that then lets nobody in: so we say so.
"""

from __future__ import annotations

from minivm.errors import MinivmError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_message", "join", "mapping", "network_config", "user_data"]

# How user-data begins, and what it is as a part of a message (docs.cloudinit.io, explanation/format)
KINDS = {
    b"#!": "x-shellscript",
    b"#cloud-config-archive": "cloud-config-archive",
    b"#cloud-config-jsonp": "cloud-config-jsonp",
    b"#cloud-config": "cloud-config",
    b"#cloud-boothook": "cloud-boothook",
    b"#include-once": "x-include-once-url",
    b"#include": "x-include-url",
    b"#part-handler": "part-handler",
    b"## template: jinja": "jinja2",
}
GZIP = b"\x1f\x8b"
MERGE = "dict(no_replace,recurse_list)+list(append)+str()"  # lists of both, rather than the later one's (explanation/format)


def user_data(path: str, what: str = "user-data") -> bytes:
    """Return what is in a file of user-data or vendor-data; "-" is standard input.

    Raises UsageError for what cloud-init would pass over.
    """
    data = _read(path, what)
    kind = _form(data)
    if kind == "cloud-config":
        _mapping(data, path, what)
    elif not kind:
        first = data.lstrip().partition(b"\n")[0][:40].decode(errors="replace").rstrip()
        begins = f"begins with {first!r}" if first else "is empty"
        raise UsageError(f"{what} {path!r} {begins}: cloud-init ignores what has no first line as #cloud-config or #!/bin/sh")
    return data


def join(own: bytes, data: bytes) -> bytes:
    """Return user-data that is a cloud-config of ours and what the user gave: a message of two parts, of which both count.

    Without ours (b"") it is the user's, as it is; but for one that cloud-init would take for a message. Raises UsageError.
    """
    from email.mime.base import MIMEBase
    from email.mime.multipart import MIMEMultipart

    kind = _form(data)
    whole = kind in ("gzip", "message")
    if not own and (whole or not is_message(data)):
        return data
    if whole:
        raise UsageError("--user, --key and --run do not go into user-data that is compressed, or MIME: leave them out")
    message = MIMEMultipart()
    for subtype, body in [("cloud-config", own)] * bool(own) + [(kind, data)]:
        part = MIMEBase("text", subtype)
        part.set_payload(body, "utf-8")
        if subtype == "cloud-config":
            part["Merge-Type"] = MERGE
        message.attach(part)
    return message.as_bytes()


def mapping(path: str, what: str) -> dict[str, Any]:
    """Return the names and values in a file of YAML. Raises UsageError, MinivmError without PyYAML."""
    return _mapping(_read(path, what), path, what)


def network_config(path: str) -> bytes | dict[str, Any]:
    """Return a network's settings: the file, or what is below `network:` where that wraps them, as in netplan's files.

    Raises as `mapping`.
    """
    data = _read(path, "network-config")
    said = whole = _mapping(data, path, "network-config")
    if list(said) == ["network"] and isinstance(said["network"], dict):
        said = said["network"]
    if said.get("version") not in (1, 2):
        raise UsageError(f"network-config {path!r}: `version: 2` is missing (or 1), by which cloud-init knows how to read it")
    return data if said is whole else said


def _form(data: bytes) -> str:
    """Return the subtype of text that it is; "gzip", "message" for MIME; "" for what cloud-init does not know."""
    known = next((kind for start, kind in KINDS.items() if data.startswith(start)), "")
    return known or ("gzip" if data.startswith(GZIP) else "message" if is_message(data) else "")


def is_message(data: bytes) -> bool:
    """Say whether cloud-init takes it for MIME: also a script that only writes some, or speaks of it."""
    return b"mime-version:" in data[:4096].lower()


def _read(path: str, what: str) -> bytes:
    try:
        with open(0 if path == "-" else path, "rb", closefd=path != "-") as file:
            return file.read()
    except OSError as error:
        raise UsageError(f"cannot read {what} {path!r}: {error.strerror}") from None


def _mapping(data: bytes, path: str, what: str) -> dict[str, Any]:
    try:
        import yaml
    except ImportError:
        raise MinivmError(f"{what} is read by the package PyYAML: .venv/bin/pip install PyYAML") from None
    try:
        said = yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{what} {path!r}{line}: {getattr(error, 'problem', None) or error}".replace("\n", " ")) from None
    if said is None:
        return {}
    if not isinstance(said, dict):
        raise UsageError(f"{what} {path!r}: not `name: value` lines")
    return said
