"""The databases: one transaction is whole or nothing, also when its process is killed; versions lead one to the next."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest

from minirt.state import containers, database
from minirt.state.database import Database, StateError
from minirt.state.events import EVERY, events_after, last_event, note, tell
from minirt.state.schema import State

ONE = ("CREATE TABLE a (x INTEGER PRIMARY KEY, y TEXT UNIQUE) STRICT",)
TWO = (*ONE, "ALTER TABLE a ADD COLUMN z INTEGER NOT NULL DEFAULT 7;\nCREATE INDEX by_z ON a (z)")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINIRT_ROOT", str(tmp_path))
    return tmp_path


def rows(statement: str, migrations: tuple[str, ...] = ONE) -> list[tuple[object, ...]]:
    with Database("t.sqlite", migrations, look=True) as base:
        return [tuple(row) for row in base.execute(statement)]


def test_what_fails_in_a_transaction_takes_all_of_it_back() -> None:
    with Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (1, 'one')")
    with pytest.raises(sqlite3.IntegrityError), Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (2, 'two')")
        base.execute("INSERT INTO a VALUES (3, 'one')")
    assert rows("SELECT * FROM a") == [(1, "one")]


def test_a_database_becomes_newer_with_what_is_in_it_and_never_older() -> None:
    with Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (1, 'one')")
    assert rows("SELECT * FROM a", TWO) == [(1, "one", 7)]
    with pytest.raises(StateError, match=r"version 2, made by a newer minirt"):
        Database("t.sqlite", ONE)


def test_a_migration_that_fails_leaves_the_version_before() -> None:
    with Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (1, 'one')")
    with pytest.raises(StateError):
        Database("t.sqlite", (*ONE, "CREATE TABLE b (x INTEGER);\nCREATE TABLE a (x INTEGER)"))
    assert rows("SELECT name FROM sqlite_schema WHERE type = 'table'") == [("a",)]


def test_to_look_makes_nothing(root: Path) -> None:
    assert rows("SELECT * FROM a") == [] and os.listdir(root) == []


def test_who_looks_waits_for_nobody_and_sees_no_half() -> None:
    with Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (1, 'one')")
        assert rows("SELECT * FROM a") == []
    assert rows("SELECT * FROM a") == [(1, "one")]


def test_a_killed_transaction_was_never_there() -> None:
    Database("t.sqlite", ONE).base.close()
    pid = os.fork()
    if pid == 0:
        base = Database("t.sqlite", ONE)
        with base:
            base.execute("INSERT INTO a VALUES (1, 'one')")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert rows("SELECT * FROM a") == []
    with Database("t.sqlite", ONE) as base:  # its lock has gone with it
        base.execute("INSERT INTO a VALUES (1, 'one')")


def test_many_who_make_it_at_once_make_one() -> None:
    failed: list[BaseException] = []

    def use(number: int) -> None:
        try:
            for i in range(20):
                with Database("t.sqlite", TWO) as base:
                    base.execute("INSERT INTO a (y) VALUES (?)", (f"{number} {i}",))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and rows("SELECT count(*) FROM a", TWO) == [(160,)]


def test_a_new_one_is_waited_for_while_another_makes_it(root: Path) -> None:
    """SQLite turns its journal on for who has the database alone, and does not wait for that as it does for other locks."""
    path = root / "lib" / "t.sqlite"
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    patient = sqlite3.connect(path, timeout=600)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        patient.execute("PRAGMA journal_mode = WAL")
    patient.close()
    threading.Timer(0.2, other.execute, ("COMMIT",)).start()
    with Database("t.sqlite", ONE) as base:
        base.execute("INSERT INTO a VALUES (1, 'one')")
    assert rows("SELECT * FROM a") == [(1, "one")]
    other.close()


def test_the_journal_stays_for_the_next_to_open_and_does_not_grow(root: Path) -> None:
    for i in range(300):  # each is as a command of its own
        with Database("t.sqlite", ONE) as base:
            base.execute("INSERT INTO a (y) VALUES (?)", (f"{i} {'x' * 500}",))
    journal = root / "lib" / "t.sqlite-wal"
    assert 0 < journal.stat().st_size < 2 * database.LONG
    assert rows("SELECT count(*) FROM a") == [(300,)]


def test_no_database_is_told_in_one_line(root: Path) -> None:
    (root / "lib").mkdir()
    (root / "lib" / "t.sqlite").write_bytes(b"this is none" * 100)
    with pytest.raises(StateError, match="not a database"):
        Database("t.sqlite", ONE)


def test_events_are_in_order_and_the_oldest_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minirt.state.events.MOST", 200)
    tell("volume", "create", "data", {"driver": "local"})
    with State() as base:
        for number in range(1000):
            note(base, "container", "start", f"{number}", {"name": "é\n"})
    with State(look=True) as base:
        found = list(events_after(base, 0))
        assert last_event(base) == found[-1].seq == 1001
        assert next(events_after(base, 1000)).id == "999"
    assert 200 <= len(found) <= 200 + EVERY and [event.seq for event in found] == sorted(event.seq for event in found)
    assert found[-1].as_dict()["Actor"] == {"ID": "999", "Attributes": {"name": "é\n"}}


def test_containers_from_before_there_was_a_database_are_there(root: Path) -> None:
    old = {"id": "a" * 64, "name": "box", "image": "busybox", "command": ["true"], "created": 1.5, "status": "exited", "rm": False,
           "exit_code": 3, "what": "ever"}  # fmt: skip
    for id, text in (("a" * 64, json.dumps(old)), ("b" * 64, "{"), ("." + "c" * 64, json.dumps(old))):
        (root / "lib" / "containers" / id).mkdir(parents=True)
        (root / "lib" / "containers" / id / "state.json").write_text(text)
    for _ in range(2):
        with State() as base:
            (found,) = containers.everything(base)
        assert {key: found[key] for key in ("id", "name", "command", "exit_code", "rm")} == {
            "id": "a" * 64, "name": "box", "command": ["true"], "exit_code": 3, "rm": False,
        }  # fmt: skip
