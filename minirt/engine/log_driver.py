"""Where a container's output is kept, as --log-driver and --log-opt say it: in files that may be limited, or nowhere."""

from __future__ import annotations

from minirt.engine.values import parse_size
from minirt.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.engine.options import RunOptions

__all__ = ["log_limits"]

DRIVERS = ("json-file", "none")


def log_limits(options: RunOptions) -> tuple[int, int]:
    """Return --log-opt's max-size in bytes (0: any) and max-file. Raises: UsageError, also for a driver that is none."""
    if options.log_driver not in DRIVERS:
        raise UsageError(f"--log-driver {options.log_driver}: there are {' and '.join(DRIVERS)}")
    size, files = 0, 1
    for text in options.log_opt:
        key, _, value = text.partition("=")
        if key == "max-size":
            size = parse_size(value, "--log-opt max-size")
        elif key == "max-file" and value.isascii() and value.isdecimal() and 0 < int(value[:5]) < 10_000:
            files = int(value)
        elif key not in ("labels", "env"):  # which minirt.engine.logs looks at
            raise UsageError(f"--log-opt {text}: there are max-size=SIZE, max-file=NUMBER, labels=NAMES and env=NAMES")
    return size, files
