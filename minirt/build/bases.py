"""The images that a build stands on: found, fetched, allowed, for the right machine, and held until the build ends.

Held, because somebody may remove one meanwhile, and until a step upon it is kept nothing else keeps its layers.
"""

from __future__ import annotations

import os
import threading

from minirt.build.errors import BuildError
from minirt.image.holds import BUILD
from minirt.paths import policy_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from minirt.build.options import BuildOptions
    from minirt.image.remote.platform import Platform
    from minirt.image.store import Image, Store

__all__ = ["Bases", "read_platform"]


class Bases:
    """The images of one build, each looked up once: a name means the same in all stages."""

    def __init__(self, store: Store, options: BuildOptions) -> None:
        self._store = store
        self._options = options
        self._lock = threading.Lock()
        self._images: dict[tuple[str, str], Image] = {}
        self._owner = f"{BUILD}{os.urandom(16).hex()}"
        self._holds: list[str] = []

    def image(self, name: str, platform: str) -> Image:
        """Return an image, unpacked; fetched from its registry where it is not here and --pull lets us. Raises ImageError."""
        with self._lock:
            known = self._images.get((name, platform))
            if known is None:
                known = self._images[name, platform] = self._find(name, platform)
            return known

    def _find(self, name: str, platform: str) -> Image:
        image = self._here(name) or self._fetched(name, platform)
        self._hold(image)
        if policy_path():
            from minirt.image.signing.policy import check as check_policy

            check_policy(self._store, image)  # its programs are run here, as by `minirt run`
        if not read_platform(platform).rank(image.config):
            have = f"{image.config.get('os')}/{image.config.get('architecture')}"
            raise BuildError(f"the image {name} is for {have}, and {platform} is wanted")
        image.layers()
        return image

    def _hold(self, image: Image) -> None:
        """Keep an image's content until `release`. Raises UnknownImage where it was removed just now."""
        owner = f"{self._owner}-{len(self._holds)}"
        self._holds.append(owner)
        self._store.hold(owner, image)

    def release(self) -> None:
        """Let go of all of them: the build is over."""
        for owner in self._holds:
            self._store.release(owner)

    def _here(self, name: str) -> Image | None:
        from minirt.image.busybox import find
        from minirt.image.errors import UnknownImage

        if self._options.pull == "always":
            return None
        try:
            return find(self._store, name)
        except UnknownImage:
            if self._options.pull == "never":
                raise
            return None

    def _fetched(self, name: str, platform: str) -> Image:
        from minirt.image.remote.pull import pull

        return pull(self._store, name, platform=platform, verify=self._options.tls_verify)


def read_platform(text: str) -> Platform:
    """Read a platform, as linux/arm64; "" is this machine's. Raises ImageError."""
    from minirt.image.remote.platform import Platform

    return Platform.parse(text)
