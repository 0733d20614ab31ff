"""What can go wrong with a signature.

    SigningError(ImageError)    1
    ├── BadKey                  no key that can be used, or a wrong passphrase
    └── Unsigned                no signature that is good enough: the image is not to be used
"""

from __future__ import annotations

from minirt.image.errors import ImageError

__all__ = ["BadKey", "SigningError", "Unsigned"]


class SigningError(ImageError):
    """Nothing can be signed or verified."""


class BadKey(SigningError):
    """A key cannot be read."""


class Unsigned(SigningError):
    """An image lacks the signature that is asked for."""
