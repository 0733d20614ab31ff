"""What is distributed works where it is installed: a wheel from the tree and one from the sdist, under each Python.

Built in a copy of the tree, so that what lies built in it plays no part.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from abi3info import DATAS, FUNCTIONS
from abi3info.models import PyVersion, Symbol
from command import Minirt

BUILD = 500  # seconds that a wheel may take on a machine with other work; alone it takes ten
pytestmark = pytest.mark.timeout(4 * BUILD)  # with those that its fixtures build
TOP = Path(__file__).resolve().parents[2]
VERSIONS = ("3.11", "3.12", "3.13")
PATTERNS = shutil.ignore_patterns(
    ".git", ".venv", "dist", "*.egg-info", ".*_cache", ".hypothesis", "__pycache__",
    "*.so", "*.elf", "*.o", "_sys.c", "_kvm.c"
)  # fmt: skip


def built(folder: str, names: list[str]) -> set[str]:
    """What lies built in the tree; `build` is setuptools' at the top, and a room of minirt's below it."""
    return set(PATTERNS(folder, names)) | ({"build"} if Path(folder) == TOP else set())


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")


def run(*words: object, **more: object) -> str:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=BUILD, **more)
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def wheel_of(source: Path, out: Path) -> Path:
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, source)
    (wheel,) = out.glob("minirt-*.whl")
    return wheel


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shutil.copytree(TOP, tmp_path_factory.mktemp("package") / "tree", ignore=built)


@pytest.fixture(scope="session")
def sdist(tree: Path) -> Path:
    run(sys.executable, "-m", "build", "--sdist", "-o", tree.parent / "sdist", tree)
    (sdist,) = (tree.parent / "sdist").iterdir()
    return sdist


@pytest.fixture(scope="session")
def wheel(sdist: Path) -> Path:
    """The wheel that anybody makes from the sdist, which is what most people install."""
    with tarfile.open(sdist) as tar:
        tar.extractall(sdist.parent / "unpacked")
    (unpacked,) = (sdist.parent / "unpacked").iterdir()
    return wheel_of(unpacked, sdist.parent / "wheel")


@pytest.fixture(scope="session", params=VERSIONS)
def installed(request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bin directory of a new virtual environment with the wheel and its dependencies."""
    python = interpreter(request.param)
    if python is None:
        pytest.skip(f"no Python {request.param} with venv on this machine (PATH, ~/.pyenv/versions)")
    venv = tmp_path_factory.mktemp(f"venv{request.param}")
    run(python, "-m", "venv", venv)
    run(venv / "bin" / "pip", "install", "-q", wheel)
    yield venv / "bin"
    shutil.rmtree(venv)


def interpreter(version: str) -> str | None:
    """Find a Python of that version that can make a virtual environment."""
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))
    for python in (f"/usr/bin/python{version}", f"/usr/local/bin/python{version}", *map(str, pyenv)):
        code = f"import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != {version!r})"
        if Path(python).exists() and subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
            return python
    return None


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_sdist_has_all_that_its_build_reads(sdist: Path, tree: Path) -> None:
    with tarfile.open(sdist) as tar:
        inside = {name.partition("/")[2] for name in tar.getnames()}
    sources = {str(path.relative_to(tree)) for path in (tree / "csrc").rglob("*") if path.is_file()}
    assert sources <= inside
    assert {"setup.py", "pyproject.toml", "Makefile", "LICENSE", "tests/conftest.py", "lab/run"} <= inside


def test_the_sdist_has_nothing_that_was_built(sdist: Path) -> None:
    with tarfile.open(sdist) as tar:
        assert not [name for name in tar.getnames() if name.endswith((".o", ".so", ".elf", ".pyc", "_sys.c", "_kvm.c"))]


def test_the_tree_and_the_sdist_make_the_same_wheel(tree: Path, wheel: Path) -> None:
    assert names(wheel_of(tree, tree.parent / "wheel-of-tree")) == names(wheel)


@pytest.mark.long
def test_a_module_that_is_gone_is_not_in_the_next_wheel(tree: Path) -> None:
    (tree / "minirt" / "gone.py").write_text("")
    assert "minirt/gone.py" in names(wheel_of(tree, tree.parent / "wheel-before"))
    (tree / "minirt" / "gone.py").unlink()
    assert "minirt/gone.py" not in names(wheel_of(tree, tree.parent / "wheel-after"))


def test_the_wheel_is_one_for_every_python_and_holds_the_programs(wheel: Path) -> None:
    assert "-cp311-abi3-" in wheel.name
    programs = {"minirt/plan/executor.elf", "minirt/engine/init.elf", "minivm/boot/guest.elf", "minivm/boot/hello16.bin"}
    assert programs | {"minirt/linux/_sys.abi3.so", "minivm/kvm/_kvm.abi3.so", "minirt/py.typed"} <= names(wheel)
    assert {name.split("/")[0].split("-")[0] for name in names(wheel)} == {"minirt", "minivm", "tutorials"}
    assert not [name for name in names(wheel) if name.endswith((".c", ".o")) and not name.startswith("tutorials/")]
    assert {f"tutorials/{path.relative_to(TOP / 'tutorials')}" for path in (TOP / "tutorials").rglob("lesson.*")} <= names(wheel)


def test_the_extension_modules_use_the_limited_api_alone(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        modules = [archive.extract(name, tmp_path) for name in archive.namelist() if name.endswith(".so")]
    assert len(modules) == 2
    for module in modules:
        undefined = [line.split()[-1] for line in run("nm", "-D", "--undefined-only", module).splitlines()]
        asked = [Symbol(name) for name in undefined if name.startswith(("Py", "_Py"))]
        stable = {symbol: (FUNCTIONS.get(symbol) or DATAS.get(symbol)) for symbol in asked}
        assert asked
        assert not [symbol.name for symbol, entry in stable.items() if entry is None or entry.added > PyVersion(3, 11)]


@NEEDS_ROOT
def test_minirt_runs_a_container_where_it_is_installed(installed: Path, minirt: Minirt) -> None:
    minirt.program = [str(installed / "minirt")]
    done = minirt("run", "--rm", "--init", "busybox", "sh", "-c", "echo hi; exit 7", cwd="/")
    assert (done.returncode, done.stdout) == (7, "hi\n"), done.stderr
    assert minirt.containers == []


def test_the_commands_start_where_they_are_installed(installed: Path) -> None:
    for command in ("minirt", "minivm"):
        assert run(installed / command, "--version", cwd="/") == f"{command} 0.1.0\n"
    modules = run(installed / "python", "-c", "import minirt, minivm; print(minirt.__file__, minivm.__file__)", cwd="/")
    assert all(str(installed.parent) in path for path in modules.split())
    oci = subprocess.run([installed / "minirt-oci", "state", "none"], capture_output=True, text=True, cwd="/", timeout=60)
    assert oci.returncode == 1 and "Traceback" not in oci.stderr and oci.stderr.count("\n") == 1


def test_a_command_without_an_interpreter_beside_it_takes_the_search_path_s(installed: Path, tmp_path: Path) -> None:
    """As `pip install --user` has it; what lies in the working directory is not what it runs."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "minirt").mkdir()
    (tmp_path / "minirt" / "__init__.py").write_text("raise SystemExit('not this one')")
    for command in ("minirt-oci", "minivm"):
        there = shutil.copy(installed / command, tmp_path / "bin")
        found = run(there, "--version", cwd=tmp_path, env={"PATH": f"{installed}:/usr/bin:/bin"})
        assert found == run(installed / command, "--version", cwd="/") and "0.1.0" in found
        lost = subprocess.run([there, "--version"], capture_output=True, text=True, env={"PATH": str(tmp_path)}, timeout=60)
        assert lost.returncode == 127 and "python3" in lost.stderr


def test_the_oci_command_s_modules_come_from_one_file_where_it_is_installed(installed: Path) -> None:
    """Written by the first call that ends well, and what reads it in one more; the next opens no other module of ours, but with
    --debug all of them."""

    def opened(*words: str) -> list[str]:
        trace = ["strace", "-qq", "-e", "trace=openat", "-o", "/dev/fd/2", installed / "minirt-oci", *words]
        done = subprocess.run(trace, capture_output=True, text=True, timeout=60, check=True)
        return [line.split('"')[1] for line in done.stderr.splitlines() if "/site-packages/" in line and " = -1" not in line]

    opened("list")
    both = opened("list")
    reader, modules = [Path(path) for path in both]
    assert reader.name.startswith("minirt.") and modules.name.startswith("oci-list.")
    source = next(installed.parent.glob("lib/*/site-packages/minirt/paths.py"))
    assert len(opened("--debug", "list")) > 10
    os.utime(source)
    assert len(opened("list")) > 10, "a source has changed"
    assert opened("list") == both
    os.utime(source.with_name("preload.py"))
    assert len(opened("list")) > 10, "the reader itself has changed"
    assert opened("list") == both
    reader.write_bytes(b"nonsense")
    assert run(installed / "minirt-oci", "list").startswith("ID ")


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm here: no virtual machine")
def test_minivm_boots_its_guest_where_it_is_installed(installed: Path) -> None:
    done = subprocess.run([installed / "minivm", "run"], input="exit 7\n", capture_output=True, text=True, cwd="/", timeout=60)
    assert done.returncode == 7 and "64-bit long mode" in done.stdout, done.stderr


@pytest.mark.skipif(not os.access("/dev/kvm", os.R_OK | os.W_OK), reason="no /dev/kvm here: no virtual machine")
def test_minivm_run_s_modules_come_from_one_file_where_it_is_installed(installed: Path) -> None:
    """And what it is not asked for it does not look for: no compiled module is opened, of ours nor of Python's."""
    (guest,) = installed.parent.glob("lib/*/site-packages/minivm/boot/hello16.bin")

    def opened() -> list[str]:
        trace = ["strace", "-f", "-qq", "-e", "trace=openat,execve", "-o", "/dev/fd/2", installed / "minivm"]
        done = subprocess.run([*trace, "run", guest, "--boot", "flat16"], capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout == "Hello from 16-bit real mode.\n"
        paths = [line.split('"')[1] for line in done.stderr.splitlines() if " = -1" not in line and '"' in line]
        begin = ("/encodings/", "/linecache.")  # of the interpreter's own start, and of its -c since 3.13
        return [path for path in paths if path.endswith((".pyc", ".py", ".pth")) and not any(part in path for part in begin)]

    assert len(opened()) > 10
    assert opened() == []


@pytest.mark.long
@pytest.mark.skipif(interpreter("3.12") is None, reason="no Python 3.12 with venv on this machine")
def test_an_editable_install_uses_the_tree(tree: Path, tmp_path: Path) -> None:
    run(interpreter("3.12"), "-m", "venv", tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "-e", tree)
    code = "import minirt.linux.constants as c, minivm.kvm; print(c.__file__, c.CLONE_NEWNS)"
    assert run(python, "-c", code, cwd="/").split() == [f"{tree}/minirt/linux/constants.py", str(0x20000)]
    hooks = run(python, "-c", "import sys; print(*[m for m in sys.modules if 'editable' in m])", cwd="/")
    assert hooks == "\n", "an import hook costs every start 10 ms"
