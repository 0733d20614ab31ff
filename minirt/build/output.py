"""`--output`: what was built as something else than an image in the store.

    type=local,dest=DIR      the files, in a directory (`-o DIR` says the same)
    type=tar,dest=FILE|-     the files, in an archive (`-o -` says: to standard output)
    type=oci,dest=DIR        an OCI image layout, for skopeo, podman and buildah (oci:DIR)
    type=image               the store, as without --output
"""

from __future__ import annotations

import os

from minirt.build.errors import BuildError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from minirt.build.state import State
    from minirt.image.store import Image

__all__ = ["Output", "parse_output"]


class Output:
    """Where a build's result goes."""

    def __init__(self, kind: str, destination: str) -> None:
        self.kind = kind
        self.destination = destination

    @property
    def files(self) -> bool:
        """Whether the files are meant, and no image."""
        return self.kind in ("local", "tar")

    def write_files(self, state: State) -> None:
        """Write the files. Raises BuildError, ImageError."""
        try:
            if self.kind == "tar":
                self._tar(_tree(state))
            else:
                self._directory(_tree(state))
        except OSError as error:
            raise BuildError(f"--output {self.destination}: {error.strerror}") from None

    def _tar(self, pieces: Iterator[bytes]) -> None:
        import sys

        if self.destination == "-":
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            return
        with open(f"{self.destination}.new", "wb") as file:
            file.writelines(pieces)
        os.rename(f"{self.destination}.new", self.destination)

    def _directory(self, pieces: Iterator[bytes]) -> None:
        from minirt.image.layer import unpack
        from minirt.image.pack import Pieces

        os.makedirs(self.destination, exist_ok=True)
        unpack(Pieces(pieces), self.destination)

    def write_image(self, image: Image, name: str) -> None:
        """Write an OCI image layout (image-spec image-layout.md) of the image alone, with a name or "". Raises BuildError."""
        import json

        from minirt.image.index import MEDIA_INDEX, REF_NAME
        from minirt.image.reference import Reference

        if self.kind != "oci":
            return
        store, top = image._store, self.destination
        top_index = {"schemaVersion": 2, "mediaType": MEDIA_INDEX}
        entry = {**image.descriptor, "annotations": {REF_NAME: Reference.parse(name).tag or "latest"} if name else {}}
        try:
            for descriptor in (image.descriptor, image.manifest["config"], *image.manifest["layers"]):
                self._blob(store.blobs.path(str(descriptor["digest"])), str(descriptor["digest"]))
            documents = {"oci-layout": {"imageLayoutVersion": "1.0.0"}, "index.json": {**top_index, "manifests": [entry]}}
            for file, document in documents.items():
                with open(f"{top}/{file}", "w", encoding="utf-8") as stream:
                    json.dump(document, stream)
        except OSError as error:
            raise BuildError(f"--output {top}: {error.strerror}") from None

    def _blob(self, source: str, digest: str) -> None:
        import shutil

        target = f"{self.destination}/blobs/{digest.replace(':', '/')}"
        os.makedirs(os.path.dirname(target), exist_ok=True)
        if not os.path.exists(target):
            shutil.copyfile(source, f"{target}.new")
            os.rename(f"{target}.new", target)


def parse_output(text: str) -> Output:
    """Read the value of --output. Raises BuildError."""
    if text == "-":
        return Output("tar", "-")
    if "=" not in text:
        return Output("local", text)
    values = dict(item.partition("=")[::2] for item in text.split(","))
    kind, destination = values.pop("type", "local"), values.pop("dest", values.pop("destination", ""))
    if kind not in ("local", "tar", "oci", "image") or values:
        wrong = next(iter(values), f"type={kind}")
        raise BuildError(f"--output {text}: {wrong}: there are type=local, tar, oci, image, and dest=")
    if not destination and kind != "image":
        raise BuildError(f"--output {text}: dest= is missing")
    return Output(kind, destination)


def _tree(state: State) -> Iterator[bytes]:
    """Yield a tar of all files that a state has."""
    from minirt.build.changes import Changes
    from minirt.image.view import View

    view, changes = View(state.directories()), Changes([], 0)
    for path, found in view.walk(b"") if state.layers else ():
        changes.put(path, found, None, None)
    return changes.pieces()
