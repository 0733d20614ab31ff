"""What unpacking should do, as a file system of dictionaries: the oracle of the property tests.

It shares no code with minirt.image; names are str, a directory is a dictionary, a link is followed by walking
a list of directories.
"""

from __future__ import annotations

import tarfile
from typing import Any


class Refused(Exception):
    """The archive has to be refused."""


class Node:
    def __init__(self, kind: str, mode: int = 0, mtime: int = 0, content: Any = None) -> None:
        self.kind = kind
        self.mode = mode
        self.mtime = mtime  # seconds
        self.content = content  # bytes, or a link's text
        self.children: dict[str, Node] = {}
        self.opaque = False
        self.implied = False  # a directory without an entry of its own


class Model:
    def __init__(self) -> None:
        self.root = Node("directory", 0o755, 0)
        self.root.implied = True
        self.now = 0

    def apply(self, info: tarfile.TarInfo, data: bytes) -> None:
        self.now = int(info.mtime)
        last = info.name.rstrip("/").split("/")[-1]
        if last == ".wh..wh..opq":
            self.directory(self.parts(info.name)[:-1])[-1].opaque = True
        elif any(part.startswith(".wh..wh.") for part in info.name.split("/")):
            pass
        elif last.startswith(".wh."):
            self.whiteout(info.name, last[4:])
        elif info.type == tarfile.DIRTYPE:
            self.make_directory(info)
        elif info.type == tarfile.LNKTYPE:
            self.hard_link(info)
        else:
            kind = {tarfile.REGTYPE: "file", tarfile.SYMTYPE: "symlink", tarfile.FIFOTYPE: "fifo"}[info.type]
            if kind == "symlink" and not info.linkname:
                raise Refused
            directory, name = self.place(info.name)
            mode = 0o777 if kind == "symlink" else info.mode
            directory.children[name] = Node(kind, mode, self.now, info.linkname if kind == "symlink" else data)

    def whiteout(self, name: str, hidden: str) -> None:
        if hidden in ("", ".", ".."):
            raise Refused
        directory = self.directory(self.parts(name)[:-1])[-1]
        there = directory.children.get(hidden)
        if there is None:
            directory.children[hidden] = Node("whiteout")
        elif there.kind == "directory":
            there.opaque, there.implied = True, False

    def make_directory(self, info: tarfile.TarInfo) -> None:
        if not self.parts(info.name):
            node = self.root
        else:
            directory, name = self.parent(info.name)
            there = directory.children.get(name)
            if there is None or there.kind != "directory":
                directory, name = self.place(info.name)
                directory.children[name] = Node("directory")
                directory.children[name].opaque = there is not None and there.kind == "whiteout"
            node = directory.children[name]
        node.mode, node.mtime, node.implied = info.mode, self.now, False

    def hard_link(self, info: tarfile.TarInfo) -> None:
        source, last = self.source(info.linkname)
        directory, name = self.parent(info.name)
        if source is directory and last == name:
            raise Refused
        self.place(info.name)
        source, last = self.source(info.linkname)
        directory, name = self.parent(info.name)
        directory.children[name] = source.children[last]

    def source(self, name: str) -> tuple[Node, str]:
        directory, last = self.parent(name)
        there = directory.children.get(last)
        if there is None or there.kind in ("directory", "whiteout"):
            raise Refused
        return directory, last

    def place(self, name: str) -> tuple[Node, str]:
        directory, last = self.parent(name)
        gone = directory.children.pop(last, None)
        return self.parent(name) if gone is not None and gone.kind in ("directory", "symlink") else (directory, last)

    def parent(self, name: str) -> tuple[Node, str]:
        parts = self.parts(name)
        if not parts:
            raise Refused
        return self.directory(parts[:-1])[-1], parts[-1]

    def parts(self, name: str) -> list[str]:
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if not name or ".." in parts:
            raise Refused
        return parts

    def directory(self, parts: list[str], above: list[Node] | None = None, make: bool = True, links: int = 0) -> list[Node]:
        """Walk to a directory. Returns all directories from the root to it."""
        here = above or [self.root]
        for at, part in enumerate(parts):
            if part in ("", "."):
                continue
            if part == "..":
                here = here[:-1] or here
                continue
            there = here[-1].children.get(part)
            if there is not None and there.kind == "symlink":
                if links == 40:
                    raise Refused
                start = [self.root] if there.content.startswith("/") else here
                text, rest = there.content.split("/"), parts[at + 1 :]
                here, used = self.follow(text, start, links + 1)
                return self.directory(rest, here, make, used)
            if there is None or there.kind == "whiteout":
                if there is None and not make:
                    raise Refused
                opaque = there is not None
                there = here[-1].children[part] = Node("directory", 0o755, self.now)
                there.opaque, there.implied = opaque, not opaque
            if there.kind != "directory":
                raise Refused
            here = [*here, there]
        self.used = links
        return here

    def follow(self, text: list[str], start: list[Node], links: int) -> tuple[list[Node], int]:
        return self.directory(text, start, False, links), self.used

    def finish(self, lower: Model, node: Node | None = None, below: Node | None = None) -> None:
        """Let implied directories be as the layer below has them, and drop whiteouts of nothing."""
        if node is None:
            node, below = self.root, lower.root
        if node.implied and below is not None:
            node.mode, node.mtime = below.mode, below.mtime
        shown = {} if node.opaque or below is None else below.children
        for name, child in list(node.children.items()):
            there = shown.get(name)
            if child.kind == "whiteout" and there is None:
                del node.children[name]
            elif child.kind == "directory":
                self.finish(lower, child, there if there is not None and there.kind == "directory" else None)

    def flat(self, node: Node | None = None, path: str = ".") -> dict[str, tuple[Any, ...]]:
        """All paths with kind, mode, mtime (seconds), content and opaque mark."""
        node = node or self.root
        found = {path: (node.kind, node.mode, node.mtime, node.content, node.opaque)}
        for name, child in node.children.items():
            found |= self.flat(child, name if path == "." else f"{path}/{name}")
        return found
