"""Unfinished work: files and directories in `tmp/` that a crash leaves and the next command sweeps.

Whoever makes one holds a lock on it (man 2 flock), and the kernel drops the lock with its holder. So
what is not locked belongs to no one, and may go: no process id is compared, no age is guessed.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextlib import ExitStack
    from types import TracebackType

__all__ = ["ENDLESS", "Lock", "Scratch", "remove_tree"]

ENDLESS = float("inf")  # seconds


class Lock:
    """An advisory lock on a file, held for the body; between processes and between threads (man 2 flock).

    Args: path of the lock file, made if absent; shared, whether others may share it; wait, for those who hold
    it, so many seconds, by default without an end (after them entering raises BlockingIOError).
    """

    def __init__(self, path: str, *, shared: bool = False, wait: float = ENDLESS) -> None:
        self._path = path
        self._how = (shared, wait)
        self._fd = -1

    def __enter__(self) -> Lock:
        import fcntl

        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            shared, wait = self._how
            how = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            if wait == ENDLESS:
                fcntl.flock(self._fd, how)
            else:
                _try(self._fd, how, wait)
        except BaseException:
            os.close(self._fd)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._fd)

    def is_current(self) -> bool:
        """Say, of a lock that is held, whether its file is still the one by that name: who waited may hold what is removed."""
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._path))
        except OSError:
            return False


def _try(fd: int, how: int, seconds: float) -> None:
    """Take a lock within some time: flock(2) itself knows only at once and without an end. Raises BlockingIOError."""
    import fcntl
    import time

    until = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(fd, how | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(0.02)


class Scratch:
    """The directory `tmp/` of a store."""

    def __init__(self, root: str) -> None:
        self._root = root

    def file(self) -> tuple[str, int]:
        """Make an empty file. Returns its path and an fd that holds the lock; the caller closes it last."""
        return self._make(directory=False)

    def directory(self) -> tuple[str, int]:
        """Make an empty directory of mode 0700. Returns its path and an fd that holds the lock."""
        return self._make(directory=True)

    def kept(self, undo: ExitStack) -> tuple[str, int]:
        """Make an empty directory that is there until `undo` is closed. Returns its path and an fd that holds the lock."""
        path, fd = self.directory()
        undo.callback(os.close, fd)
        undo.callback(remove_tree, path)
        return path, fd

    def _make(self, *, directory: bool) -> tuple[str, int]:
        import fcntl

        with Lock(self._root + ".lock"):  # between making and locking no sweeper may come
            self._sweep()
            path = f"{self._root}/{os.getpid()}-{os.urandom(6).hex()}"
            if directory:
                os.mkdir(path, 0o700)
                fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            else:
                fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
        return path, fd

    def sweep(self) -> None:
        """Remove what a process that is gone left."""
        with Lock(self._root + ".lock"):
            self._sweep()

    def _sweep(self) -> None:
        """Remove what has no living owner."""
        import fcntl

        for name in os.listdir(self._root):
            path = f"{self._root}/{name}"
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(path)
            except BlockingIOError:
                pass
            finally:
                os.close(fd)


def remove_tree(path: str) -> None:
    """Remove a file or a directory with all that is in it; what is gone already is no error."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except (IsADirectoryError, PermissionError):
        import shutil

        try:
            shutil.rmtree(path)
        except PermissionError:  # not root, and a layer has directories that even their owner may not change
            for above, names, _ in os.walk(path):
                for name in ["", *names]:
                    os.chmod(os.path.join(above, name), 0o700)
            shutil.rmtree(path)
