"""The house: arrows between rooms go down, and a core room's first page names what is in it."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[2]
# From the ground up: each may import those before it. Modules that belong to no room stand at the bottom.
CORE = {
    "minirt": ["minirt.errors", "minirt.paths", "minirt.trace", "minirt.linux", "minirt.plan", "minirt.oci", "minirt.documents",
               "minirt.terminal", "minirt.runtime"],
    "minivm": ["minivm.errors", "minivm.kvm", "minivm.devices", "minivm.boot", "minivm.inspect", "minivm.machine"],
}  # fmt: skip
LISTED = ["minirt/plan", "minirt/linux", "minirt/linux/seccomp", "minirt/oci", "minirt/runtime", "minirt/terminal", "bench", "lab"]


def imports(path: Path) -> set[str]:
    """Return what a file imports when it is loaded or later, but not for its types alone."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    apart = {id(node) for block in types for node in ast.walk(block)}
    nodes = [node for node in ast.walk(tree) if id(node) not in apart]
    whole = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    parts = {f"{node.module}.{name.name}" for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    return whole | parts


def room(name: str) -> str:
    """Return the room of a module: minirt.plan of minirt.plan.builder."""
    return ".".join(name.split(".")[:2])


def arrows(package: str) -> dict[str, set[str]]:
    """Return room, or module that belongs to none -> those of both packages that it imports."""
    found: dict[str, set[str]] = {}
    for path in (TOP / package).rglob("*.py"):
        mine = room(".".join(path.relative_to(TOP).with_suffix("").parts))
        theirs = {room(name) for name in imports(path) if name.startswith(("minirt.", "minivm.")) and "__version__" not in name}
        found.setdefault(mine, set()).update(theirs - {mine})
    return found


def test_no_two_rooms_need_each_other() -> None:
    found = arrows("minirt") | arrows("minivm")
    rooms = {name: others for name, others in found.items() if (TOP / name.replace(".", "/")).is_dir()}
    order = list(TopologicalSorter(rooms).static_order())
    assert order.index("minirt.linux") < order.index("minirt.plan") < order.index("minirt.engine") < order.index("minirt.cli")


@pytest.mark.parametrize("package", ["minirt", "minivm"])
def test_a_core_room_imports_only_rooms_below_it(package: str) -> None:
    found, allowed = arrows(package), set[str]()
    for name in CORE[package]:
        assert {other for other in found[name] if other.startswith(f"{package}.")} <= allowed, name
        allowed.add(name)


# Where files still need each other in a circle: a room that is mended leaves this list.
KNOTTED = {"minirt/engine", "minirt/image", "minirt/network", "minirt/oci", "minirt/plan", "minirt/volume", "minivm/machine"}
ROOMS = [f"{package}/{page.parent.name}" for package in CORE for page in sorted((TOP / package).glob("*/__init__.py"))]


@pytest.mark.parametrize("folder", sorted(set(ROOMS) - KNOTTED))
def test_no_two_files_of_a_room_need_each_other(folder: str) -> None:
    files = {".".join(path.relative_to(TOP).with_suffix("").parts): path for path in (TOP / folder).rglob("*.py")}
    needed = {}
    for name, path in files.items():
        found = imports(path)
        needed[name] = {name for name in found | {name.rpartition(".")[0] for name in found} if name in files}
    list(TopologicalSorter(needed).static_order())  # raises CycleError, which names them


GROUND = {"minirt.errors", "minirt.paths", "minirt.trace", "minirt.documents", "minivm.errors"}  # what everybody may
ABOVE_ALL = {"minirt.cli", "minivm.cli"}  # who may import everything


def test_what_a_room_imports_is_said_on_its_first_page() -> None:
    found = {name: rooms for package in CORE for name, rooms in arrows(package).items() if len(rooms - GROUND) > 0}
    for name, rooms in found.items():
        page = TOP / name.replace(".", "/") / "__init__.py"
        if page.exists() and name not in ABOVE_ALL and "." in name:
            said = (ast.get_docstring(ast.parse(page.read_text(encoding="utf-8"))) or "").replace("\n", " ")
            allowed = re.search(r"May import:? (.*?)(?:Read|In reading order)", said)
            assert allowed and not [other for other in rooms - GROUND if other not in allowed[1]], name


@pytest.mark.parametrize("folder", LISTED)
def test_a_core_rooms_contents_name_each_of_its_files(folder: str) -> None:
    contents = ast.get_docstring(ast.parse((TOP / folder / "__init__.py").read_text(encoding="utf-8"))) or ""
    files = {path.name for path in (TOP / folder).glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {name for name in files if name not in contents} == set()
