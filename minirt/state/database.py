"""A database of SQLite, for one change or for a look. As a context manager it is one transaction.

    with Database("state.sqlite", MIGRATIONS) as base:
        base.execute("INSERT INTO ...")             # all of the block is there in the end, or nothing

    with Database("state.sqlite", MIGRATIONS, look=True) as base:
        base.execute("SELECT ...")                  # one view of all, which waits for nobody

A transaction begins by taking the lock (BEGIN IMMEDIATE), so what it reads stays true until its end. SQLite keeps a journal
(WAL): what a killed process has not committed was never there, and readers see the last that was. Commits are not forced to
the disk one by one (synchronous = NORMAL): a power failure may take the last seconds, but damages nothing.

Each use opens the database anew: that is a quarter of a millisecond, and neither a fork nor a thread can come between.

Source: https://www.sqlite.org/wal.html, https://www.sqlite.org/pragma.html
"""

from __future__ import annotations

import os
import time

from minirt.errors import MinirtError
from minirt.paths import data_root

TYPE_CHECKING = False
if TYPE_CHECKING:
    import sqlite3 as _sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Any, Self
else:
    import _sqlite3  # the C half of `sqlite3`, whose other half costs four milliseconds more

__all__ = ["Database", "StateError"]

PATIENCE = 30.0  # s that we wait for who has the lock
LONG = 400_000  # bytes of the journal, after which it is moved into the database: a longer one takes longer to open
SHARED = 0x40000002  # the first of the bytes that SQLite locks while it has a database open (fileformat2.html, lock-byte page)

_staying: dict[str, int] = {}  # path -> descriptor that holds one of these bytes, while this process lives


class StateError(MinirtError):
    """A database cannot be opened, read or written."""


class Database:
    """One of our databases.

    Args:
        file: its name below the data directory, where it is made if it is missing.
        migrations: one entry a schema version: the statements that lead there from the one before.
        look: nothing is going to be changed.

    Raises: StateError, also in the block; sqlite3.IntegrityError for a row that breaks a rule of its table.
    """

    def __init__(self, file: str, migrations: Sequence[str], look: bool = False) -> None:
        self.path = os.path.join(data_root(), file)
        self.look = look
        if look and not os.path.exists(self.path):
            self.path = ":memory:"  # an empty one, so that to look makes no directory
        try:
            if self.path != ":memory:":
                os.makedirs(data_root(), exist_ok=True)
            self.base = _sqlite3.connect(self.path, timeout=PATIENCE, isolation_level=None)
        except (_sqlite3.Error, OSError) as error:
            raise StateError(f"{self.path}: {error}") from None
        try:
            self.base.row_factory = _sqlite3.Row
            self._settle(migrations)
        except BaseException:
            self.base.close()
            raise

    def _settle(self, migrations: Sequence[str]) -> None:
        (version,) = self.execute("PRAGMA user_version").fetchone()
        if version > len(migrations):
            raise StateError(f"{self.path} is of version {version}, made by a newer minirt: this one knows {len(migrations)}")
        if version < len(migrations):
            self._migrate(migrations, version)
        for setting in ("synchronous = NORMAL", "wal_autocheckpoint = 0", "foreign_keys = ON"):
            self.execute(f"PRAGMA {setting}")
        if self.path != ":memory:":
            _stay(self.path)

    def _migrate(self, migrations: Sequence[str], version: int) -> None:
        """Bring an older database to this version, each step whole."""
        if not version:
            self.execute("PRAGMA synchronous = OFF")  # a new one has nothing to lose, and need not wait for the disk
        self._keep_journal()
        for number in range(version, len(migrations)):
            self.execute("BEGIN IMMEDIATE")
            try:
                (version,) = self.execute("PRAGMA user_version").fetchone()
                if version == number:  # else another process was first
                    for statement in migrations[number].split(";\n"):
                        self.execute(statement)
                    self.execute(f"PRAGMA user_version = {number + 1}")
                self.execute("COMMIT")
            except BaseException:
                self._roll_back()
                raise

    def _keep_journal(self) -> None:
        """Turn WAL on. SQLite needs the database alone for that, and says at once that it is locked where another does the same."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.base.execute("PRAGMA journal_mode = WAL")
                return
            except _sqlite3.Error as error:
                if error.sqlite_errorcode != _sqlite3.SQLITE_BUSY or time.monotonic() > end:
                    raise StateError(f"{self.path}: {error}") from None
            time.sleep(0.001)

    def execute(self, statement: str, values: Iterable[Any] | dict[str, Any] = ()) -> _sqlite3.Cursor:
        """Execute one statement. Raises: StateError, sqlite3.IntegrityError."""
        try:
            return self.base.execute(statement, values)  # type: ignore[arg-type]
        except _sqlite3.IntegrityError:
            raise
        except _sqlite3.Error as error:
            raise StateError(f"{self.path}: {error}") from None

    def __enter__(self) -> Self:
        try:
            self.execute("BEGIN" if self.look else "BEGIN IMMEDIATE")
        except BaseException:
            self.base.close()
            raise
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        try:
            if kind is None:
                self.execute("COMMIT")
                self._shorten()
            else:
                self._roll_back()
        finally:
            self.base.close()

    def _shorten(self) -> None:
        """Move a long journal into the database, unless somebody is reading it: then the next one does."""
        try:
            if not self.look and os.stat(f"{self.path}-wal").st_size > LONG:
                self.execute("PRAGMA busy_timeout = 0")
                self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (OSError, StateError):
            pass  # all is in the journal still

    def _roll_back(self) -> None:
        """Undo the transaction; SQLite may have done so itself (a full disk)."""
        if self.base.in_transaction:
            self.base.execute("ROLLBACK")


def _stay(path: str) -> None:
    """Hold a byte of the database for as long as this process lives, as one who has it open does.

    Who closes a database last moves the journal into it and waits for the disk twice: 4 to 9 ms, at the end of each of our
    commands. With this lock nobody is last; the journal is moved when it is long instead. The lock is of the open
    file, not of the process, so it stands in the way of our own SQLite too (man 2 fcntl_locking, F_OFD_SETLK). The descriptor
    is never closed: that would drop the locks of SQLite's own in other threads (F_SETLK, the same page).
    """
    held = _staying.get(path, -1)
    try:
        if held >= 0 and os.path.samestat(os.fstat(held), os.stat(path)):
            return
    except OSError:
        return  # it was removed
    import fcntl
    from _struct import pack

    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, SHARED, 1, 0))  # struct flock
    except OSError:
        pass  # a file system without such locks: then the last one waits for the disk
    _staying[path] = fd
