"""One file of compiled modules: what is in it is used as long as the sources are as they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from minirt import preload
modules = preload.install()
import minirt.documents, minirt.runtime.flags
print(modules.stale, type(sys.modules["minirt.documents"].__spec__.loader).__name__, minirt.documents.__file__,
      getattr(minirt.documents, "CHANGED", 0))
preload.save(modules)
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = Path(__file__).resolve().parents[2] / "minirt"
    shutil.copytree(source, tmp_path / "minirt", ignore=shutil.ignore_patterns("__pycache__", "*.bin"))
    (tmp_path / "minirt" / "__pycache__").mkdir()
    return tmp_path


def run(tree: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-I", "-c", CODE, str(tree)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_second_run_takes_the_modules_from_the_file(tree: Path) -> None:
    path = str(tree / "minirt" / "documents.py")
    assert run(tree) == ["True", "SourceFileLoader", path, "0"]
    assert run(tree) == ["False", "Modules", path, "0"]


def test_a_changed_source_is_read_and_the_file_written_anew(tree: Path) -> None:
    run(tree)
    path = tree / "minirt" / "documents.py"
    path.write_text(path.read_text() + "\nCHANGED = 7\n")
    assert run(tree)[3] == "7"
    assert run(tree) == ["False", "Modules", str(path), "7"]


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xe9\x00\x00", b"N"])
def test_a_damaged_file_costs_only_time(tree: Path, damage: bytes) -> None:
    run(tree)
    (file,) = (tree / "minirt" / "__pycache__").glob("*.bin")
    file.write_bytes(damage)
    assert run(tree)[1] == "SourceFileLoader"
    assert run(tree)[1] == "Modules"


def test_without_a_directory_to_write_to_all_goes_on(tree: Path) -> None:
    os.rmdir(tree / "minirt" / "__pycache__")
    (tree / "minirt" / "__pycache__").touch()  # root may write anywhere, but not below a file
    assert run(tree)[1] == run(tree)[1] == "SourceFileLoader"
