"""All modules of the OCI path from one file: what Python's import system costs, a third of a command's time, less.

A module that is imported is looked for in each directory of a path, opened, read and taken apart: some 0.15 ms, fifty
times. So the first run of `minirt-oci` writes the compiled modules that it had into one file beside them, as Python
does with each in __pycache__, and with the same rule: what is in it counts as long as the source has its size
and time. A file that cannot be written or read changes nothing but the speed.
"""

from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["Modules", "install", "save"]

HERE = os.path.dirname(os.path.abspath(__file__))
FILE = os.path.join(HERE, "__pycache__", f"oci.{sys.implementation.cache_tag}.bin")
PREFIX = "minirt."


class Modules:
    """A finder and loader (PEP 451) of the modules in a file.

    Args:
        entries: name -> (source path, its size, its time in ns, whether it is a package, marshalled code); None for
            an extension module, which is left to Python.
    """

    def __init__(self, entries: dict[str, tuple[str, int, int, bool, bytes] | None]) -> None:
        self.entries = entries
        self.stale = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a module that is here and whose source is as it was."""
        entry = self.entries.get(name)
        if entry is None:
            self.stale = self.stale or (name.startswith(PREFIX) and name not in self.entries)
            return None
        source, size, time, package, _ = entry
        try:
            status = os.stat(source)
        except OSError:
            status = None
        if status is None or (status.st_size, status.st_mtime_ns) != (size, time):
            self.stale = True
            return None
        spec = type(sys.__spec__)(name, self, origin=source, is_package=package)  # type: ignore[arg-type]
        spec.has_location = True
        if package:
            spec.submodule_search_locations = [os.path.dirname(source)]
        return spec

    def create_module(self, spec: Any) -> None:
        """Let the import system make it."""

    def exec_module(self, module: ModuleType) -> None:
        """Run its code."""
        exec(self.get_code(module.__name__), module.__dict__)

    def get_code(self, name: str) -> Any:
        """Return its code."""
        entry = self.entries[name]
        assert entry is not None
        return marshal.loads(entry[4])


def install() -> Modules:
    """Use the file, if it is there; `save` then knows whether it has to be written."""
    try:
        with open(FILE, "rb", buffering=0) as file:
            entries = marshal.loads(file.read())
    except (OSError, ValueError, EOFError, TypeError):
        entries = {}
    modules = Modules(entries if isinstance(entries, dict) else {})
    sys.meta_path.insert(0, modules)
    return modules


def save(modules: Modules) -> None:
    """Write the file anew if a module was not in it, or another than its source is now."""
    if not modules.stale or not os.access(os.path.dirname(FILE), os.W_OK):
        return
    entries = dict(modules.entries)
    for name, module in list(sys.modules.items()):
        source = getattr(module, "__file__", None) or ""
        spec = getattr(module, "__spec__", None)
        if name.startswith(PREFIX) and source.endswith(".py") and spec is not None and not name.endswith("__main__"):
            status = os.stat(source)
            code = marshal.dumps(spec.loader.get_code(name))
            package = spec.submodule_search_locations is not None
            entries[name] = (source, status.st_size, status.st_mtime_ns, package, code)
        elif name.startswith(PREFIX) and source:
            entries[name] = None
    temporary = f"{FILE}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            marshal.dump(entries, file)
        os.rename(temporary, FILE)
    except OSError:
        pass
