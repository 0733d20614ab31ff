"""What an image's configuration and docker's words make the program of a machine: the same rules as `minirt run`."""

from __future__ import annotations

import signal

from minivm.errors import MinivmError
from minivm.machine.config import Program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.engine.options import RunOptions
    from minirt.image.store import Image

__all__ = ["find", "program"]


def find(name: str) -> Image:
    """Return an image of minirt's store. Raises MinivmError."""
    from minirt.engine.images import find_image
    from minirt.errors import MinirtError

    try:
        return find_image(name)
    except MinirtError as error:
        raise MinivmError(str(error)) from None


def program(image: Image, options: RunOptions, hostname: str) -> Program:
    """Return the program that the machine runs.

    Args:
        options: docker's words: command, entrypoint, env, env_file, workdir, user, tty.
        hostname: the machine's.

    Raises MinivmError.
    """
    from minirt.engine.spec import process
    from minirt.errors import MinirtError

    config: dict[str, Any] = image.config.get("config") or {}
    try:
        made = process(options, config, hostname)
    except MinirtError as error:
        raise MinivmError(str(error)) from None
    return Program(
        made["args"],
        env=made["env"],
        cwd=made["cwd"],
        user=options.user or config.get("User") or "",
        hostname=hostname,
        terminal=options.tty,
        stop_signal=_number(str(config.get("StopSignal") or "SIGTERM")),
    )


def _number(text: str) -> int:
    """Return a signal's number: SIGTERM, TERM, 15, SIGRTMIN+3 (image-spec config.md, StopSignal)."""
    name, _, more = text.upper().removeprefix("SIG").partition("+")
    if text.isdecimal():
        return int(text)
    number = getattr(signal, f"SIG{name}", None)
    if number is None or not (more or "0").isdecimal():
        raise MinivmError(f"the image's stop signal {text!r} is none")
    return int(number) + int(more or 0)
