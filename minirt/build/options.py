"""Everything that `minirt build` can be asked for, as plain values with their defaults."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["BuildOptions"]


class BuildOptions:
    """The options of `minirt build`.

    Args: context, a directory; **chosen, any attribute below.
    """

    def __init__(self, context: str, **chosen: Any) -> None:
        self.context = context
        self.file = ""  # of the Dockerfile; "-": standard input; by default Dockerfile or Containerfile in the context
        self.inside = False  # the Dockerfile is a path in the context, which somebody else made
        self.text: str | None = None  # the Dockerfile itself
        self.names: list[str] = []  # for the image
        self.target = ""  # the stage that is wanted; by default the last
        self.build_args: dict[str, str] = {}
        self.secrets: dict[str, bytes] = {}  # id -> content
        self.labels: dict[str, str] = {}
        self.platform = ""  # by default this machine's
        self.network = "default"  # of RUN: as `minirt run` has it
        self.allow: list[str] = []  # what a RUN may ask for: network.host, security.insecure
        self.ssh: dict[str, list[str]] = {}  # id -> an agent's socket, or keys
        self.pull = "missing"  # missing, always or never
        self.tls_verify = True  # as `minirt pull` has it
        self.no_cache = False
        self.squash = False
        self.epoch: int | None = None  # SOURCE_DATE_EPOCH, seconds
        self.progress = "plain"
        for key, value in chosen.items():
            if not hasattr(self, key):
                raise TypeError(f"build has no option {key!r}")
            setattr(self, key, value)
