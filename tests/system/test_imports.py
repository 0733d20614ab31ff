"""Starting is a feature: what a command loads is what it needs. Measured in modules, as times depend on the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from command import Minirt

# Each costs from one to tens of milliseconds; shutil brings three compression libraries, pathlib urllib, enum is in re.
HEAVY = {
    "shutil", "zlib", "bz2", "lzma", "typing", "dataclasses", "pathlib", "urllib", "ipaddress", "logging", "socket",
    "selectors", "tempfile", "random", "subprocess", "threading", "inspect", "ast", "dis", "email", "zipfile", "tarfile",
    "importlib.metadata", "importlib.util", "asyncio", "ctypes", "cffi", "sqlite3", "ssl", "http", "prctl", "pyroute2", "rich",
    "shtab", "hashlib",
}  # fmt: skip
if sys.version_info >= (3, 12):
    HEAVY -= {"hashlib"}  # the small module that minirt.image.digest takes in its place has another name there
PARSER = {"re", "argparse"}  # of people's words: the engine's commands need them, the OCI runtime's must not
DATA = {"json"}
EXPLAIN = {"minirt.plan.explain", "minirt.plan.decode", "minirt.plan.watch", "minirt.plan.cut", "minirt.plan.causes"}

# What `-X importtime` writes, a module a line; sitecustomize and .pth files are the machine's, not ours: -S leaves them out.
LOADED = "import sys; sys.path[:0] = {path!r}; import minirt.cli.main as m; before = 0\n" \
         "try: code = m.main(sys.argv[1:])\nexcept SystemExit: pass\n" \
         "print(*sys.modules, file=open({out}, 'w', closefd=False))"  # fmt: skip

root = pytest.mark.skipif(os.geteuid() != 0, reason="a container without a user namespace takes root")


def loaded(env: dict[str, str], *words: str) -> set[str]:
    """Return the modules in an interpreter that ran a command line, without those that it begins with."""
    ours, theirs = os.pipe()
    code = LOADED.format(path=[path for path in sys.path if path], out=theirs)
    subprocess.run([sys.executable, "-S", "-c", code, *words], env=env, pass_fds=[theirs], check=True, timeout=60,
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    os.close(theirs)
    with open(ours) as file:
        return set(file.read().split()) - at_start()


def at_start() -> set[str]:
    code = "import sys; print(*sys.modules)"
    return set(subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_help_loads_one_module_of_ours_and_the_parser(minirt: Minirt) -> None:
    modules = loaded(minirt.env, "--help")
    assert {name for name in modules if name.startswith("minirt")} == {"minirt", "minirt.cli", "minirt.cli.main", "minirt.cli.help",
                                                                      "minirt.errors"}  # fmt: skip
    assert not modules & (HEAVY | DATA) and len(modules) < 40


def test_the_version_is_known_without_reading_metadata(minirt: Minirt) -> None:
    assert not loaded(minirt.env, "--version") & (HEAVY | DATA)


def test_run_help_loads_no_engine(minirt: Minirt) -> None:
    modules = loaded(minirt.env, "run", "--help")
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(("minirt.engine", "minirt.plan", "minirt.oci", "minirt.linux"))]


@root
def test_a_run_loads_what_it_needs_and_no_more(minirt: Minirt) -> None:
    modules = loaded(minirt.env, "run", "--rm", "busybox", "true")
    assert {"minirt.plan.birth", "minirt.oci.compile"} <= modules, "it did run"
    assert not modules & HEAVY and not modules & EXPLAIN
    assert not [name for name in modules if name.startswith(("minivm", "minirt.api", "minirt.network", "minirt.runtime"))]
    assert len(modules) < 145


@root
@pytest.mark.parametrize("words", [["ps"], ["gc"], ["rm", "none"]])
def test_a_small_command_loads_no_engine(words: list[str], minirt: Minirt) -> None:
    modules = loaded(minirt.env, *words)
    assert not modules & HEAVY
    assert not [name for name in modules if name.startswith(("minirt.oci", "minirt.plan", "minirt.terminal"))]


@pytest.mark.parametrize("words", [["registry", "--help"], ["registry", "gc", "--root", "/none"]], ids=" ".join)
def test_a_registry_that_does_not_serve_loads_no_server(words: list[str], minirt: Minirt) -> None:
    modules = loaded(minirt.env, *words)
    assert "minirt.cli.registry" in modules and not modules & {"aiohttp", "asyncio", "bcrypt", "jwt", "jinja2", "ssl"}


def test_the_rooms_of_the_oci_path_load_neither_parser_nor_json(minirt: Minirt) -> None:
    """What `minirt oci` is made of, imported in one interpreter."""
    rooms = "minirt.plan minirt.oci.compile minirt.oci.lookup minirt.linux.cgroup2 minirt.linux.seccomp minirt.paths minirt.errors"
    code = f"import sys; sys.path[:0] = {[path for path in sys.path if path]!r}\n" \
           f"import {', '.join(rooms.split())}; print(*sys.modules)"  # fmt: skip
    run = subprocess.run([sys.executable, "-S", "-c", code], env=minirt.env, capture_output=True, text=True, check=True, timeout=60)
    modules = set(run.stdout.split()) - at_start()
    assert not modules & (HEAVY | PARSER | DATA | {"enum", "collections", "functools"})
