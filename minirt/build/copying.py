"""COPY and ADD: what is copied (`Sources`, which has a fingerprint), and where to (`put_all`).

    a file to a name that ends in /, or that is a directory     DEST/NAME
    a file to any other name                                    DEST
    a directory                                                 its content into DEST
    ADD of an archive (tar; gzip, bzip2, xz, zstd)              its content into DEST
    ADD of a URL                                                one file, of mode 0600
    ADD of a git repository                                     its content into DEST
    <<NAME                                                      a file NAME with the here-document's lines

(docs.docker.com/reference/dockerfile, "COPY", "ADD".)
"""

from __future__ import annotations

import os
import stat

from minirt.build import fingerprint
from minirt.build.errors import BuildError
from minirt.build.globs import has_glob, regular

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from minirt.build.changes import Changes
    from minirt.build.context import Tree
    from minirt.build.modes import Mode
    from minirt.image.view import Found, View

__all__ = ["How", "Item", "find_items", "find_owner", "put_all"]


class Item:
    """One thing to copy: part of a tree, or data.

    Args: name, in a destination that is a directory; tree, path and found, where it is; data, instead of these; unpack, it
    is an archive whose content is meant; mode and mtime (ns), of data.
    """

    def __init__(
        self, name: bytes, tree: Tree | None = None, path: bytes = b"", found: Found | None = None, *, data: bytes | None = None,
        unpack: bool = False, mode: int = 0o644, mtime: int | None = None, identity: str = "",
    ) -> None:  # fmt: skip
        self.name = name
        self.tree = tree
        self.path = path
        self.found = found
        self.data = data
        self.unpack = unpack
        self.mode = mode
        self.mtime = mtime
        self.identity = identity

    @property
    def directory(self) -> bool:
        """Whether its content is copied, rather than it itself."""
        return self.unpack or (self.found is not None and self.found.kind == stat.S_IFDIR)

    def fingerprint(self) -> list[object]:
        """Return what makes it what it is. Raises OSError."""
        if self.identity:
            return [os.fsdecode(self.name), self.identity]
        if self.tree is None or self.found is None:
            from minirt.image import digest

            return [os.fsdecode(self.name), self.mode, digest.of(self.data or b"")]
        return [os.fsdecode(self.name), self.unpack, fingerprint.of_tree(self.tree, self.path, self.found)]


def find_items(tree: Tree, pattern: str, archives: bool = False, parents: bool = False) -> list[Item]:
    """Find what a source means.

    Args: tree, where; pattern, a path with wild cards, absolute or not; archives, whether an archive means its content;
    parents, the name keeps the directories of the pattern, those after `/./` if that is in it.
    Returns at least one. Raises BuildError.
    """
    text = os.path.normpath("/" + pattern).lstrip("/")
    try:
        names = _matches(tree, text) if has_glob(text) else [os.fsencode(text)]
    except ValueError as error:
        raise BuildError(f"{pattern}: {error}") from None
    pivot = len([part for part in pattern.partition("/./")[0].split("/") if part not in ("", ".")]) if "/./" in pattern else 0
    items = []
    for name in names:
        path = tree.view.resolve(name)  # a link that is named itself is followed; those below a directory are copied
        found = tree.view.find(path)
        if found is None or _left_out(tree, name, found):
            continue
        unpack = archives and found.kind == stat.S_IFREG and _is_archive(found.path)
        kept = b"/".join(name.split(b"/")[pivot:]) if parents else name.rpartition(b"/")[2]
        items.append(Item(kept, tree, path, found, unpack=unpack))
    if not items:
        why = " (.dockerignore leaves it out)" if any(tree.ignored(name) for name in names) else ""
        raise BuildError(f"{pattern}: not found in {tree.name}{why}")
    return items


def _left_out(tree: Tree, name: bytes, found: Found) -> bool:
    """Say whether a source is left out; a directory is not if something in it stays."""
    if not tree.ignored(name):
        return False
    return found.kind != stat.S_IFDIR or next(tree.walk(name), None) is None


def _matches(tree: Tree, pattern: str) -> list[bytes]:
    """Return the paths that a pattern meets, in order."""
    found = [b""]
    for part in pattern.split("/"):
        match = regular(part).match
        below: list[bytes] = []
        for above in found:
            for name in tree.view.names(tree.view.resolve(above)):
                path = above + b"/" + name if above else name
                if match(os.fsdecode(name)) and not tree.ignored(path):
                    below.append(path)
        found = below
    return found


def _is_archive(path: bytes) -> bool:
    """Say whether a file is a tar that ADD unpacks, by its content alone."""
    from minirt.build.unpacking import is_archive

    return is_archive(path)


# -- the destination


def find_owner(view: View, text: str, expand: Callable[[str], str] = str) -> tuple[int, int]:
    """Return (uid, gid) of --chown=USER[:GROUP], names looked up in the image. Raises BuildError."""
    from minirt.oci.lookup import is_id, parse_group, parse_passwd

    user, colon, group = expand(text).partition(":")
    uid = gid = -1
    if is_id(user):
        uid = gid = int(user)
    else:
        for name, number, its_group, _ in parse_passwd(view.read("etc/passwd")):
            if name == user:
                uid, gid = number, its_group
                break
    if colon and is_id(group):
        gid = int(group)
    elif colon:
        gid = next((number for name, number, _ in parse_group(view.read("etc/group")) if name == group), -1)
    if uid < 0 or gid < 0:
        missing, file = (user, "passwd") if uid < 0 else (group, "group")
        raise BuildError(f"--chown={text}: the image's /etc/{file} has no {missing!r} (a number needs no entry)")
    return uid, gid


class How:
    """In what way things are copied.

    Args: owner, asked for, or None; mode, what becomes of each mode, or None; skip, whether a path below a source is left out
    (--exclude); parents, whether a source keeps the directories that were written before it.
    """

    def __init__(
        self, owner: tuple[int, int] | None = None, mode: Mode | None = None, skip: Callable[[bytes], bool] = lambda path: False,
        parents: bool = False,
    ) -> None:  # fmt: skip
        self.owner = owner
        self._mode = mode
        self.skip = skip
        self.parents = parents

    @property
    def maker(self) -> tuple[int, int]:
        """Whose the directories are that have to be made on the way."""
        return self.owner or (0, 0)

    def owner_of(self, item: Item) -> tuple[int, int] | None:
        """Return whose a copy is: as asked, or root's, or (None) in a copy between images whoever's it was."""
        return self.owner if self.owner is not None or (item.tree is not None and item.tree.keeps_owners) else (0, 0)

    def mode_of(self, mode: int) -> int | None:
        """Return the mode of what has this st_mode, or None: as it is."""
        return None if self._mode is None else self._mode(mode)


def put_all(changes: Changes, items: list[Item], destination: bytes, how: How) -> None:
    """Put what was found where it belongs.

    Args: changes, the layer; destination, absolute, with a slash at its end if one was written.
    Raises BuildError, ImageError, OSError.
    """
    into = how.parents or destination.endswith(b"/") or changes.is_directory(changes.resolve(destination))
    if len(items) > 1 and not into and not all(item.directory for item in items):
        raise BuildError(f"of {len(items)} sources the destination has to be a directory: {os.fsdecode(destination)}/")
    for item in items:
        below = destination.rstrip(b"/") + b"/" + item.name
        if item.unpack:
            from minirt.build.unpacking import put_archive

            assert item.found is not None
            put_archive(changes, item.found.path, changes.make_directories(destination, how.maker), how)
        elif item.directory:
            _put_directory(changes, item, below if how.parents else destination, how)
        else:
            _put_file(changes, item, below if into else destination, how)


def _put_file(changes: Changes, item: Item, path: bytes, how: How) -> None:
    above = changes.make_directories(path.rpartition(b"/")[0], how.maker)
    name = path.rpartition(b"/")[2]
    path = changes.resolve(above + b"/" + name if above else name)
    if item.found is None:
        mode = how.mode_of(stat.S_IFREG | item.mode)
        changes.put_data(path, item.data or b"", item.mode if mode is None else mode, how.maker, item.mtime)
    else:
        changes.put(path, item.found, how.owner_of(item), how.mode_of(item.found.status.st_mode))


def _put_directory(changes: Changes, item: Item, destination: bytes, how: How) -> None:
    """Copy a directory's content. The destination is made where it is missing, as any directory on the way is."""
    assert item.tree is not None
    top = changes.make_directories(destination, how.maker)
    owner = how.owner_of(item)
    skipped: list[bytes] = []
    for inner, found in item.tree.walk(item.path):
        if any(inner.startswith(one) for one in skipped):
            continue
        if how.skip(inner):
            skipped.append(inner + b"/")
            continue
        changes.put(top + b"/" + inner if top else inner, found, owner, how.mode_of(found.status.st_mode))
