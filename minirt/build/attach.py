"""What `RUN --mount` asks for, made: each adds to a step its mounts, and says what of it makes the step what it is."""

from __future__ import annotations

import os
import stat

from minirt.build import fingerprint
from minirt.build.errors import BuildError
from minirt.build.words import expand
from minirt.paths import cache_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from minirt.build.context import Tree
    from minirt.build.mounts import Mount
    from minirt.build.options import BuildOptions
    from minirt.build.run import RunStep
    from minirt.engine.container import Container
    from minirt.image.view import Found

__all__ = ["Attached", "cache_directory", "forget_caches", "materialise"]


class Attached:
    """One mount of a step.

    Args: mount, with its variables replaced (`prepared`); tree, what it is taken from; options, for secrets and agents; workdir,
    for relative targets; number, the how manieth it is of its step.
    """

    def __init__(self, mount: Mount, tree: Tree | None, options: BuildOptions, workdir: str, number: int = 0) -> None:
        self.mount = mount
        self.tree = tree
        self.options = options
        values = mount.values
        if mount.kind == "secret":
            default = "" if "env" in values else f"/run/secrets/{values['id']}"
            values["target"] = values.get("target") or default
        elif mount.kind == "ssh":
            values["target"] = values.get("target") or f"/run/buildkit/ssh_agent.{number}"
        self.target = os.path.normpath(os.path.join("/", workdir, values["target"])) if values["target"] else ""
        if self.target == "/":
            raise BuildError(f"--mount=type={mount.kind}: the target cannot be /")

    @staticmethod
    def expanded(mount: Mount, variables: dict[str, str], escape: str) -> Mount:
        """Return a mount with its variables replaced. Raises BadWord."""
        return type(mount)(mount.kind, {key: expand(value, variables, escape) for key, value in mount.values.items()})

    def fingerprint(self) -> object:
        """Return what of it makes the step the same: what is bound, but not what a cache or a secret holds."""
        values = dict(self.mount.values)
        if self.mount.kind == "bind":
            path, found = self._source()
            assert self.tree is not None
            return [values, fingerprint.of_tree(self.tree, path, found)]
        return [self.mount.kind, values]

    def add(self, step: RunStep, undo: ExitStack) -> None:
        """Add it to a step. Args: undo, closed when the step is over. Raises BuildError."""
        kinds = {"bind": self._bind, "cache": self._cache, "tmpfs": self._tmpfs, "secret": self._secret, "ssh": self._ssh}
        kinds[self.mount.kind](step, undo)

    # -- the kinds

    def _source(self) -> tuple[bytes, Found]:
        assert self.tree is not None
        text = self.mount.values.get("source", "/")
        path = self.tree.view.resolve(os.fsencode(text))
        found = self.tree.view.find(path)
        if found is None or (path and self.tree.ignored(path)):
            raise BuildError(f"--mount: {text}: not found in {self.tree.name}")
        return path, found

    def _bind(self, step: RunStep, undo: ExitStack) -> None:
        """What is whole in one directory of the host is bound; else, and to be written to, a copy is made for the step."""
        path, found = self._source()
        assert self.tree is not None
        whole = found.kind != stat.S_IFDIR or len(self.tree.view.directories(path)) == 1
        if whole and not (self.tree.filtered and found.kind == stat.S_IFDIR) and not self.mount.truth("rw"):
            _bind(step, os.fsdecode(found.path), self.target, read_only=True)
            return
        tree = self.tree

        def copy(container: Container) -> None:
            place = os.path.join(container.path, f"mount{len(step.mounts)}")
            source = materialise(tree, path, found, place)
            _bind(step, source, self.target, read_only=not self.mount.truth("rw"))

        step.prepare.append(copy)

    def _cache(self, step: RunStep, undo: ExitStack) -> None:
        values = self.mount.values
        name = values.get("id") or self.target
        owner, mode = self._owner(), self.mount.number("mode", 0o755, 8)
        fill = self._fill if self.tree is not None else None
        path = cache_directory(name, values.get("sharing", "shared"), undo, fill, owner, mode)
        _bind(step, path, self.target, read_only=self.mount.truth("ro"))

    def _fill(self, place: str) -> None:
        path, found = self._source()
        assert self.tree is not None
        materialise(self.tree, path, found, place)

    def _tmpfs(self, step: RunStep, undo: ExitStack) -> None:
        from minirt.engine.values import parse_size

        options = ["nosuid", "nodev", "mode=1777"]
        if "size" in self.mount.values:
            options.append(f"size={parse_size(self.mount.values['size'], '--mount size')}")
        step.mounts.append({"destination": self.target, "type": "tmpfs", "source": "tmpfs", "options": options})

    def _owner(self) -> tuple[int, int]:
        return self.mount.number("uid", 0), self.mount.number("gid", 0)

    def _ssh(self, step: RunStep, undo: ExitStack) -> None:
        from minirt.build.ssh import agent_of, listen

        name = self.mount.values["id"]
        paths = self.options.ssh.get(name)
        if paths is None:
            if self.mount.truth("required"):
                raise BuildError(f"the ssh agent {name!r} is required: --ssh {name}, or --ssh {name}=SOCKET|KEY")
            return
        agent = agent_of(paths, undo)

        def make(container: Container) -> None:
            path = listen(container.path, f"ssh{len(step.mounts)}", agent, self._owner(), self.mount.number("mode", 0o600, 8), undo)
            _bind(step, path, self.target, read_only=False)

        step.env.setdefault("SSH_AUTH_SOCK", self.target)
        step.prepare.append(make)

    def _secret(self, step: RunStep, undo: ExitStack) -> None:
        """The file is in the container's directory until the program has started; then only the mount has it.

        Simplified: for these few milliseconds it is a file of the disk's file system, readable by root alone.
        """
        name = self.mount.values["id"]
        content = self.options.secrets.get(name)
        if content is None:
            if self.mount.truth("required"):
                raise BuildError(f"the secret {name!r} is required: --secret id={name},src=FILE")
            return
        if "env" in self.mount.values:
            step.env[self.mount.values["env"]] = content.decode(errors="surrogateescape")
        if not self.target:
            return
        data = content

        def write(container: Container) -> None:
            path = os.path.join(container.path, f"secret{len(step.mounts)}")
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o400)
            with open(fd, "wb") as file:
                file.write(data)
                _give(fd, self._owner())
                os.fchmod(fd, self.mount.number("mode", 0o400, 8))
            _bind(step, path, self.target, read_only=True)
            step.born.append(lambda: os.unlink(path))

        step.prepare.append(write)


def _give(target: str | int, owner: tuple[int, int]) -> None:
    """Change an owner; without root all files are ours, and in the container root's."""
    if os.geteuid() == 0:
        os.chown(target, *owner)


def _bind(step: RunStep, source: str, target: str, *, read_only: bool) -> None:
    options = ["rbind", "rprivate", *(["rro"] if read_only else [])]
    step.mounts.append({"destination": target, "type": "bind", "source": source, "options": options})


def materialise(tree: Tree, path: bytes, found: Found, place: str) -> str:
    """Copy part of a tree into a new directory of the host, as the image has it.

    Returns the directory, or the file in it. Raises ImageError, OSError.
    """
    from minirt.build.changes import Changes
    from minirt.image.layer import unpack
    from minirt.image.pack import Pieces

    changes = Changes([], 0)
    owner = None if tree.keeps_owners else (0, 0)
    if found.kind != stat.S_IFDIR:
        changes.put(b"file", found, owner, None)
    else:
        for inner, one in tree.walk(path):
            changes.put(inner, one, owner, None)
    if not os.path.isdir(place):
        os.mkdir(place, 0o755)
    unpack(Pieces(changes.pieces()), place)
    if found.kind == stat.S_IFDIR:
        os.chmod(place, stat.S_IMODE(found.status.st_mode))
    return place if found.kind == stat.S_IFDIR else f"{place}/file"


def cache_directory(
    name: str, sharing: str, undo: ExitStack, fill: Callable[[str], None] | None, owner: tuple[int, int], mode: int
) -> str:  # fmt: skip
    """Return the directory of a cache, made at its first use.

    Args: sharing, shared; private: a directory that nobody else uses meanwhile; locked: wait for it; undo, what lets go of
    it; fill, puts its first content there; owner and mode, of a new one.
    """
    import fcntl
    import hashlib

    top = os.path.join(cache_root(), "build")
    os.makedirs(top, 0o700, exist_ok=True)
    key = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:32]
    number = 0
    while True:
        path = os.path.join(top, f"{key}.{number}")
        fd = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        undo.callback(os.close, fd)
        how = fcntl.LOCK_SH if sharing == "shared" else fcntl.LOCK_EX
        try:
            if not os.path.isdir(path):
                _make_cache(path, fd, fill, owner, mode)
            fcntl.flock(fd, how | (fcntl.LOCK_NB if sharing == "private" else 0))
            return path
        except BlockingIOError:
            number += 1  # somebody else has it: the next is for us


def _make_cache(path: str, lock: int, fill: Callable[[str], None] | None, owner: tuple[int, int], mode: int) -> None:
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Who makes it has the lock alone, and then shares it for as long as its step runs: that is waited for, not its end.
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not os.path.isdir(path):  # who made it was killed
            fcntl.flock(lock, fcntl.LOCK_EX)
    if os.path.isdir(path):
        return
    new = f"{path}.new"
    if os.path.isdir(new):
        from minirt.linux.rmtree import remove_tree

        remove_tree(new)  # a build was killed while it filled it
    os.mkdir(new, 0o700)
    if fill is not None:
        fill(new)
    _give(new, owner)
    os.chmod(new, mode)
    os.rename(new, path)


def forget_caches() -> int:
    """Remove the caches that no build uses. Returns how many."""
    import fcntl

    from minirt.linux.rmtree import remove_tree

    top, count = os.path.join(cache_root(), "build"), 0
    for name in sorted(os.listdir(top)) if os.path.isdir(top) else ():
        if not name.endswith(".lock"):
            continue
        path = os.path.join(top, name.removesuffix(".lock"))
        with open(os.path.join(top, name), "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for one in (path, f"{path}.new"):
                if os.path.isdir(one):
                    remove_tree(one)
                    count += one == path
    return count
