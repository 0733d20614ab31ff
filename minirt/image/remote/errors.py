"""What can go wrong with a registry.

    RegistryError(ImageError)   1
    ├── Denied                  it wants other credentials, or none will do
    ├── NotThere                it does not have what was asked for
    ├── Lied                    what it sent is not what was announced; nothing of it is kept
    └── Unreachable             no connection, or it is too busy; what has arrived is kept for the next try
"""

from __future__ import annotations

from minirt.image.errors import ImageError

__all__ = ["Denied", "Lied", "NotThere", "RegistryError", "Unreachable"]


class RegistryError(ImageError):
    """A registry cannot be talked to, or said no."""


class Denied(RegistryError):
    """The registry wants other credentials."""


class NotThere(RegistryError):
    """The registry does not have what was asked for."""


class Lied(RegistryError):
    """The registry sent something else than it announced."""


class Unreachable(RegistryError):
    """The registry does not answer, or is too busy."""
