"""A command's modules in one file: what is in it is used as long as the sources are as they were."""

from __future__ import annotations

import ast
import os
import posix
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minirt import preload_write

# Prints what Python had to look for, which class loaded a module, where its source is; a module is known by its spec.
CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from minirt import preload
modules = preload.install("test")
import minirt.documents, minirt.runtime.flags, minirt.linux.constants
for name in sys.argv[2:]:
    __import__(name)
print(",".join(module.__name__ for module in modules.more) or "none", minirt.documents.__spec__ is None, minirt.documents.__file__,
      getattr(minirt.documents, "CHANGED", 0), minirt.linux.constants.CLONE_NEWUTS)
modules.save()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = Path(__file__).resolve().parents[2] / "minirt"
    shutil.copytree(source, tmp_path / "minirt", ignore=shutil.ignore_patterns("__pycache__", "*.bin"))
    (tmp_path / "minirt" / "__pycache__").mkdir()
    return tmp_path


def run(tree: Path, *more: str) -> list[str]:
    done = subprocess.run([sys.executable, "-I", "-c", CODE, str(tree), *more], capture_output=True, text=True, check=True)
    return done.stdout.split()


def ours(names: str) -> list[str]:
    return [name for name in names.split(",") if name.startswith("minirt.")]


def test_the_second_run_looks_for_no_module(tree: Path) -> None:
    path = str(tree / "minirt" / "documents.py")
    first, second = run(tree), run(tree)
    assert {"minirt.documents", "minirt.runtime.flags", "minirt.linux.direct"} <= set(ours(first[0]))
    assert first[1:] == ["False", path, "0", str(os.CLONE_NEWUTS if hasattr(os, "CLONE_NEWUTS") else 0x04000000)]
    assert second == ["none", "True", *first[2:]]


def test_modules_are_run_in_the_order_in_which_they_were_done(tree: Path) -> None:
    first = ours(run(tree)[0])
    assert first.index("minirt.linux.direct") < first.index("minirt.linux.constants")


def test_a_call_that_needs_more_adds_it(tree: Path) -> None:
    run(tree)
    assert ours(run(tree, "minirt.paths")[0]) == ["minirt.paths"]
    assert run(tree, "minirt.paths")[0] == "none"


def test_a_changed_source_is_read_and_the_file_written_anew(tree: Path) -> None:
    run(tree)
    path = tree / "minirt" / "documents.py"
    path.write_text(path.read_text() + "\nCHANGED = 7\n")
    assert run(tree)[3] == "7"
    assert run(tree)[:4] == ["none", "True", str(path), "7"]


def test_a_source_that_is_gone_is_missed(tree: Path) -> None:
    run(tree, "minirt.paths")
    (tree / "minirt" / "paths.py").unlink()
    assert "minirt.documents" in ours(run(tree)[0])


PARTS = """
import sys
sys.path.insert(0, sys.argv[1])
from minirt import preload
preload.SECOND = ("minirt.paths",)
modules = preload.install("parts")
import minirt.documents
before = "minirt.paths" in sys.modules or "minirt.runtime.flags" in sys.modules
if "stop" not in sys.argv:
    import minirt.paths, minirt.runtime.flags
for name in sys.argv[2:]:
    if name != "stop":
        __import__(name)
print(",".join(module.__name__ for module in modules.more) or "none", before)
modules.save()
"""


def test_the_second_part_is_loaded_when_it_is_asked_for(tree: Path) -> None:
    """And it stays in the file, whether a call that adds to the file has asked for it or not."""

    def parts(*words: str) -> list[str]:
        done = subprocess.run([sys.executable, "-I", "-c", PARTS, str(tree), *words], capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert {"minirt.paths", "minirt.runtime.flags"} <= set(ours(parts()[0]))
    assert parts() == ["none", "False"], "not before it is asked for, and then from the file"
    assert parts("stop", "minirt.linux.constants")[0].endswith("minirt.linux.constants")
    assert parts("minirt.linux.constants") == ["none", "False"]
    assert parts("minirt.plan.record")[0].endswith("minirt.plan.record")
    assert parts("minirt.plan.record") == ["none", "False"]
    os.utime(tree / "minirt" / "paths.py")
    assert "minirt.paths" in ours(parts()[0])
    assert parts() == ["none", "False"]


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"\xe9\x00\x00", b"N", b"i\x01\x00\x00\x00", b"(\x01\x00\x00\x00N"])
def test_a_damaged_file_costs_only_time(tree: Path, damage: bytes) -> None:
    run(tree)
    (file,) = (tree / "minirt" / "__pycache__").glob("test.*.bin")
    file.write_bytes(damage)
    assert "minirt.documents" in ours(run(tree)[0])
    assert run(tree)[0] == "none"


def test_without_a_directory_to_write_to_all_goes_on(tree: Path) -> None:
    os.rmdir(tree / "minirt" / "__pycache__")
    (tree / "minirt" / "__pycache__").touch()  # root may write anywhere, but not below a file
    assert run(tree)[1] == run(tree)[1] == "False"


OS = """
import sys
sys.path.insert(0, sys.argv[1])
import posix
from minirt import preload
for name in ("os", "os.path", "posixpath", "genericpath", "_collections_abc", "stat"):
    sys.modules.pop(name, None)
preload.stand_in_for_os()
import os, os.path
from os import O_CLOEXEC, stat
from stat import S_ISDIR, ST_MODE, filemode
assert filemode(os.stat("/")[ST_MODE])[0] == "d" and S_ISDIR(os.stat("/").st_mode)
assert os.path.join("a", "b") == "a/b" and os.path.isdir("/proc") and os.environ["WORD"] == "\\udcff" and stat is posix.stat
assert not hasattr(os, "__nothing__") and "_collections_abc" not in sys.modules, "so far it is not itself"
assert os.fsencode(os.environ["WORD"]) == b"\\xff", "here it becomes itself"
assert "_collections_abc" in sys.modules and not hasattr(os, "nothing") and "__getattr__" not in vars(os)
os.environ["WORD"] = "other"
assert os.popen("echo $WORD").read() == "other\\n" and os.path is sys.modules["os.path"]
print("done")
"""


def test_what_stands_in_for_os_becomes_it_when_more_is_asked_for(tree: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", OS, str(tree)], capture_output=True, text=True, check=False,
                          env={b"WORD": b"\xff"})  # fmt: skip
    assert done.stdout == "done\n", done.stderr


def test_annotations_that_are_read_are_kept() -> None:
    """By them a call that failed is printed."""
    top = Path(__file__).resolve().parents[2] / "minirt"
    names: dict[str, Any] = {"__name__": "calls"}
    exec(preload_write.compiled(str(top / "plan" / "calls.py")), names)
    assert names["SystemCalls"].mount.__wrapped__.__annotations__["flags"] == "MS"
    exec(preload_write.compiled(str(top / "paths.py")), names)
    assert names["state_root"].__annotations__ == {}


RARE = {  # where an OCI command asks for more of os, and so for all of it: 0.5 ms
    "runtime/command.py": {"devnull"},  # nobody reads what it says
    "runtime/container.py": {"makedirs"},  # the first container ever
    "runtime/restore.py": {"fsencode"},
    "runtime/saved.py": {"defpath", "devnull", "makedirs"},
    "oci/rootfs.py": {"fsencode"},  # layers, which a bundle has not
    "linux/mounts.py": {"fsencode"},  # the same, id-mapped
    "linux/dbus.py": {"fsdecode", "fsencode"},
}


def test_the_oci_path_asks_os_for_nothing_but_its_c_half() -> None:
    top = Path(__file__).resolve().parents[2] / "minirt"
    made_and_run = ("birth", "builder", "calls", "executor", "lower", "pack", "ring")
    rooms = [*top.glob("oci/*.py"), *top.glob("runtime/*.py"), *top.glob("linux/*.py"), top / "terminal/wait.py", top / "paths.py",
             *(top / "plan" / f"{name}.py" for name in made_and_run)]  # fmt: skip
    more = {}
    for path in rooms:
        names = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)]
        of_os = {node.attr for node in names if isinstance(node.value, ast.Name) and node.value.id == "os"}
        if of_os := of_os - set(vars(posix)) - {"path", "environ"}:
            more[str(path.relative_to(top))] = of_os
    assert more == RARE
