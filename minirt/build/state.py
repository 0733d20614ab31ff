"""Where a stage is: the configuration, the layers and the history so far."""

from __future__ import annotations

import copy

from minirt.build import fingerprint

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from minirt.build.scope import Scope
    from minirt.image.blobs import Descriptor
    from minirt.image.store import Image, Store

__all__ = ["DEFAULT_SHELL", "State"]

DEFAULT_SHELL = ["/bin/sh", "-c"]


class State:
    """What a stage has become.

    Args: store, where the layers are; document, an image's configuration (image-spec config.md), copied; layers, descriptors
    lowest first; diff_ids, likewise; scope, its ARGs; base, how many of the layers are the base image's.
    """

    def __init__(
        self, store: Store, document: dict[str, Any], layers: list[Descriptor], diff_ids: list[str], scope: Scope, base: int
    ) -> None:  # fmt: skip
        self.store = store
        self.document = copy.deepcopy(document)
        self.layers = list(layers)
        self.diff_ids = list(diff_ids)
        self.scope = scope
        self.base = base
        self.cmd_set = False  # CMD was set in this stage: ENTRYPOINT clears only one that it inherited
        self.config: dict[str, Any] = self.document.setdefault("config", None) or {}
        self.document["config"] = self.config
        self.history: list[dict[str, Any]] = self.document.setdefault("history", None) or []
        self.document["history"] = self.history

    @classmethod
    def of_image(cls, image: Image, scope: Scope) -> State:
        """Return the state that FROM IMAGE begins with."""
        layers = image.manifest["layers"]
        return cls(image._store, image.config, layers, image.diff_ids, scope, len(layers))

    @property
    def env(self) -> dict[str, str]:
        """The image's environment."""
        return dict(item.partition("=")[::2] for item in self.config.get("Env") or ())

    @property
    def shell(self) -> list[str]:
        """What reads the shell form of commands."""
        return list(self.config.get("Shell") or DEFAULT_SHELL)

    @property
    def variables(self) -> dict[str, str]:
        """What $NAME means here."""
        return self.scope.variables(self.env)

    @property
    def created(self) -> str:
        """When the newest of its layers was made."""
        return str(self.document.get("created") or "")

    def directories(self) -> list[str]:
        """Return the directories of its layers, topmost first, as `lowerdir=` has them; unpacked now if they were not."""
        found = self.store.layers.find(self.diff_ids)
        if found is None:
            with self.store.adding():
                found = self.store.layers.unpack(self.store.blobs, self.layers, self.diff_ids)
        return found

    def key(self) -> list[object]:
        """Return what makes a step upon it the same step: content and configuration, not when or how they came about."""
        config = {name: value for name, value in self.config.items() if value}
        return [self.diff_ids, config, self.document.get("architecture"), self.document.get("os")]

    def fingerprint(self, *step: object) -> str:
        """Return the name of a step upon this state."""
        return fingerprint.of_value([*self.key(), *step])

    def note(self, created_by: str, created: str, *, empty: bool) -> None:
        """Add a line of history."""
        line: dict[str, Any] = {"created": created, "created_by": created_by, "comment": "minirt build"}
        self.history.append(line | ({"empty_layer": True} if empty else {}))

    def add_layer(self, layer: Descriptor, diff_id: str, created_by: str, created: str) -> None:
        """Put a layer on top."""
        self.layers.append(layer)
        self.diff_ids.append(diff_id)
        self.document["created"] = created
        self.note(created_by, created, empty=False)

    def finished(self) -> dict[str, Any]:
        """Return the image's configuration."""
        made = {key: value for key, value in self.document.items() if value not in (None, "")}
        made["rootfs"] = {"type": "layers", "diff_ids": self.diff_ids}
        made["config"] = {name: value for name, value in self.config.items() if value not in (None, "", [], {})}
        return made
