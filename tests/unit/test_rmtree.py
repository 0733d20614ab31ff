"""A tree is removed whatever is in it, and nothing that it only points to."""

from __future__ import annotations

import itertools
import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minirt.linux import rmtree
from minirt.linux.rmtree import remove_tree

NAMES = st.text("ab.\udc80\n", min_size=1, max_size=3).filter(lambda name: name not in (".", ".."))
TREES = st.recursive(
    st.sampled_from(["file", "link", "hard link", "fifo", "empty"]),
    lambda inner: st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=25,
)  # fmt: skip


def make(path: Path, tree: object, outside: Path) -> None:
    if tree == "file":
        path.write_text("x")
    elif tree == "link":
        path.symlink_to(outside)
    elif tree == "hard link":
        os.link(outside / "mine", path)
    elif tree == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
        if isinstance(tree, dict):
            for name, inner in tree.items():
                make(path / name, inner, outside)


@given(tree=st.dictionaries(st.sampled_from("abc"), TREES))
def test_any_tree_goes_and_what_it_links_to_stays(tree: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("rmtree")
    (top / "outside").mkdir()
    (top / "outside" / "mine").write_text("mine")
    make(top / "tree", tree, top / "outside")
    remove_tree(str(top / "tree"))
    assert os.listdir(top) == ["outside"] and (top / "outside" / "mine").read_text() == "mine"


def test_a_tree_deeper_than_recursion_descriptors_and_paths_allow_goes(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for depth in range(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16 + 5000):
        name = "tree" if depth == 0 else "a" * 20
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(fd)
    remove_tree(str(tmp_path / "tree"))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="another user's rights can be tried by root alone")
def test_without_root_directories_that_may_not_be_read_go_too(tmp_path: Path) -> None:
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)
    os.chown(tmp_path, 65534, 65534)
    pid = os.fork()
    if pid == 0:
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        (tmp_path / "tree" / "a" / "b" / "c").mkdir(parents=True)
        for path in ("tree/a/b", "tree/a", "tree"):
            (tmp_path / path).chmod(0)
        remove_tree(str(tmp_path / "tree"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("times", [1, 5])
def test_what_others_put_in_and_take_out_meanwhile_is_no_hindrance(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, entries = tmp_path / "tree", rmtree._entries
    numbers = list(range(times))

    def others_come_after(fd: int) -> list[tuple[str, bool]]:
        found = entries(fd)
        if numbers and os.path.samestat(os.fstat(fd), tree.stat()):
            number = numbers.pop()
            for name, is_directory in found[:2]:
                (tree / name).rename(tmp_path / f"taken {is_directory} {number}")
            for name in ("full", "more"):
                (tree / f"{name}{number}" / "in").mkdir(parents=True)
            for name in ("file", "mark"):
                (tree / f"{name}{number}").touch()
        return found

    (tree / "full" / "in").mkdir(parents=True)
    (tree / "file").touch()
    monkeypatch.setattr(rmtree, "_entries", others_come_after)
    remove_tree(str(tree))
    assert not tree.exists() and not numbers


def test_who_never_stops_putting_in_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, entries, numbers = tmp_path / "tree", rmtree._entries, itertools.count()
    tree.mkdir()
    monkeypatch.setattr(rmtree, "_entries", lambda fd: (entries(fd), (tree / str(next(numbers))).touch())[0])
    with pytest.raises(OSError, match="not empty"):
        remove_tree(str(tree))
