"""A container's directory, without the container: state.json is there as a whole, whatever is read of it and when."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from minirt.runtime import container as module
from minirt.runtime.container import Container, RuntimeFailure


@pytest.fixture
def box(tmp_path: Path) -> Container:
    made = Container(str(tmp_path), "box")
    made.make()
    return made


def read(box: Container) -> dict[str, object]:
    state: dict[str, object] = json.loads((Path(box.path) / "state.json").read_text())
    return state


@pytest.mark.parametrize("exchanged", [True, False], ids=["exchanged", "renamed"])
def test_state_json_is_replaced_as_a_whole(box: Container, exchanged: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has opened the one before goes on to read that; nothing else is left in the directory."""
    if not exchanged:
        monkeypatch.setattr(module, "exchange", lambda *_: False)
    box.save(status="creating", pid=0)
    with open(f"{box.path}/state.json", encoding="utf-8") as before:
        box.save(status="running", pid=7)
        assert json.load(before)["pid"] == 0
    box.save(pid=8)
    assert read(box) == {"status": "running", "pid": 8} and os.listdir(box.path) == ["state.json"]


def test_what_a_killed_save_left_is_written_over(box: Container) -> None:
    box.save(pid=0)
    (Path(box.path) / "state.json.new").write_text("much more than there will be " * 100)
    box.save(pid=7)
    assert read(box) == {"pid": 7} and os.listdir(box.path) == ["state.json"]


def test_nothing_is_saved_into_a_directory_that_was_removed(box: Container) -> None:
    box.save(pid=0)
    Container(os.path.dirname(box.path), "box").remove()
    with pytest.raises(RuntimeFailure, match="removed meanwhile"):
        box.save(pid=7)


def test_files_change_their_names_in_one_step(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("other")
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if module.exchange(fd, b"a\0", b"b\0"):  # where the file system can (man 2 rename)
            assert (tmp_path / "a").read_text() == "other" and (tmp_path / "b").read_text() == "one"
        assert not module.exchange(fd, b"a\0", b"none\0")
    finally:
        os.close(fd)
