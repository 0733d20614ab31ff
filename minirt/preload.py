"""A command with all its modules from one file, `minirt-oci` and `minivm run`: half of what starting it costs, less.

A module that is imported is looked for in each directory of a path, opened, read and taken apart, and its neighbours
are listed on the way: some 0.1 ms, fifty times. So the first call of `minirt-oci COMMAND` writes the compiled modules that it
needed into one file beside them, in the order in which they were done, as Python does with each in __pycache__; and
with the same rule: what is in it counts as long as each source has its size and time. The next call takes that list and
runs it. A file that cannot be written or read changes nothing but the speed.

The list has two parts. The first goes as far as the executor's part of a plan; with that a container's process can begin
to be made, and while the kernel does so there is time for the second part: what the rest of the plan needs.

The interpreter is started without `site`, which is what knows of .pth files and of the system's own packages. It is called
for the first module that is found nowhere else.

This module has a file of its own in site-packages, from which the launcher (csrc/start/launch.py) takes it, to call `begin`:
so it imports next to nothing. The file says where the module is, as an editable installation has it elsewhere. What writes
these files is preload_write.py.
"""

from __future__ import annotations

import gc
import marshal
import sys
from posix import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

__all__ = ["Modules", "begin", "install"]

HERE = __file__.rpartition("/")[0]
COMMANDS = ("create", "start", "run", "exec", "kill", "delete", "state", "list", "ps", "pause", "resume", "update", "events")
SECOND = ("minirt.oci.compile", "minirt.oci.joined")  # the second part begins where one of these is asked for
WORD = 8  # bytes at the file's beginning, which say how long its first part is
EXTENSION = None  # in place of code: a shared library
TAG = f"{sys.implementation.cache_tag}.bin"
# Flags of `minivm run` that take modules which the run itself does without, or (--jail) the right to write a file.
LOOKING = {
    "--debug", "--dump", "--explain", "--fail", "--gdb", "--help", "--jail", "--plan", "--profile", "--stats", "--step", "--trace",
}  # fmt: skip
TEXT = (sys.getfilesystemencoding(), sys.getfilesystemencodeerrors())  # as os.fsdecode has it


def begin() -> None:
    """Run the program that argv[0] names, and end with its exit status."""
    if sys.argv[0] == "minivm":
        begin_minivm()
    else:
        begin_oci()


def begin_minivm() -> None:
    """Run a command of minivm. Of `minivm run` all modules come from one file, but where it is asked to tell what it does."""
    with open("/proc/self/comm", "wb", buffering=0) as name:
        name.write(b"minivm")  # for ps, as a script with #! is called by its own name
    words = sys.argv[1:]
    plain = words[:1] == ["run"] and not any(word.partition("=")[0] in LOOKING for word in words)
    gc.disable()
    if plain:
        stand_in_for_functools()
    else:
        make_site()
    modules = install("minivm-run") if plain else None
    from minivm.cli.main import main

    gc.enable()
    status = main()
    if modules and status == 0:
        modules.save(home())
    sys.exit(status)


def begin_oci() -> None:
    """Run a command of the OCI runtime as a process of its own, and end it.

    The interpreter is not taken apart at its end: 1 ms.
    """
    gc.disable()  # what is made in so short a life is not worth collecting, nor is loading all these modules being counted
    command = next((word for word in sys.argv if word in COMMANDS), "other")
    # A trace of an error has the lines of the sources, which that file has not.
    debug = "--debug" in sys.argv
    modules = Modules("") if debug else install(f"oci-{command}")
    if debug:
        make_site()
    from minirt.runtime.command import main

    if "minirt.plan.common" in sys.modules:
        sys.modules["minirt.plan.common"].MOST = 0  # type: ignore[attr-defined]  # one plan has nothing in common with others
    status = main()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        if status == 0:
            modules.save(home())
    finally:
        from os import _exit

        _exit(status)


def install(command: str) -> Modules:
    """Load what earlier calls of a command needed, if the file is there; `Modules.save` then knows whether it has to be written.

    Args:
        command: whose file.
    """
    modules = Modules(f"{HERE}/__pycache__/{command}.{TAG}")
    try:
        with open(modules.path, "rb", buffering=0) as file:
            data = memoryview(file.read())
        ready = marshal.loads(data[WORD:])
        if all(is_as_it_was(entry) for entry in ready):
            modules.entries = ready
            modules.rest = data[WORD + int.from_bytes(data[:WORD], "little") :]
    except (OSError, ValueError, EOFError, TypeError, IndexError):
        pass
    sys.meta_path.insert(-1, modules)  # before who looks into directories
    if modules.entries:
        stand_in_for_os()
    load(modules.entries[1:])
    return modules


def home() -> str:
    """Return the directory of packages of the interpreter that was started, as the launcher knows it."""
    return f"{sys.executable.rpartition('/bin/')[0]}/lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"


def make_site() -> None:
    """Have all directories looked into that an interpreter without -S has."""
    if "site" not in sys.modules:
        import site

        site.main()


class Modules:
    """A finder (PEP 451) that finds nothing itself, and notes in which order modules are done.

    Args:
        path: the file of this command.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.entries: tuple[tuple[Any, ...], ...] = ()  # name, source, its size, its time in ns, whether a package, code
        self.rest: bytes | memoryview = b""  # the second part, which nobody has asked for so far
        self.second: tuple[tuple[Any, ...], ...] | None = None  # what it was; None: it has not begun
        self.before = 0  # how many of `more` were done before it
        self.more: list[ModuleType] = []  # what Python had to look for, in the order in which it was done

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec that the other finders have, with a loader that tells when it is done."""
        if name in SECOND and self.second is None:
            self.begin_second()
            if name in sys.modules:
                return type(sys.__spec__)(name, Made)  # type: ignore[arg-type]
        spec = self._look(name, path, target)
        if spec is None and "site" not in sys.modules:
            known = len(self.more)
            make_site()
            del self.more[known:]  # what it needs itself is not the command's
            spec = self._look(name, path, target)
        if spec is not None and spec.has_location and spec.loader is not None:
            spec.loader = Noted(spec.loader, self.more)
        return spec

    def _look(self, name: str, path: Any, target: Any) -> Any:
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        return next((spec for spec in found if spec is not None), None)

    def begin_second(self) -> None:
        """Load the second part."""
        self.second, self.before = self.read_second(), len(self.more)
        load(self.second)

    def read_second(self) -> tuple[tuple[Any, ...], ...]:
        """Return the second part's entries; none where one of them is not as it was."""
        try:
            entries: tuple[tuple[Any, ...], ...] = marshal.loads(self.rest)
            return entries if all(is_as_it_was(entry) for entry in entries) else ()
        except (OSError, ValueError, EOFError, TypeError, IndexError):
            return ()

    def save(self, reader: str = "") -> None:
        """Write the file anew if there was something that it did not have, or that had changed.

        Args:
            reader: directory for the launcher's file, from which it takes this module; "" writes none.
        """
        more = tuple(self.more)  # and not what is imported in order to write them
        if more:
            from minirt.preload_write import write_modules

            write_modules(self, more, reader)


class Made:
    """The loader of a module that the second part brought: it is there, and has been run."""

    @staticmethod
    def create_module(spec: Any) -> Any:
        """Return it."""
        return sys.modules[spec.name]

    @staticmethod
    def exec_module(module: ModuleType) -> None:
        """Do nothing."""


class Noted:
    """A loader that is another one, and appends each module that it has run to a list."""

    def __init__(self, loader: Any, done: list[ModuleType]) -> None:
        self.loader = loader
        self.done = done

    def create_module(self, spec: Any) -> Any:
        """Make the module as the other loader does."""
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run it."""
        self.loader.exec_module(module)
        self.done.append(module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)


def stand_in_for_os() -> None:
    """Let `os` be what it takes from its C half, until somebody asks for more of it: then it becomes itself.

    A third of a small command's imports would be `os`, and most of that classes of collections.abc, for os.environ alone.
    Until then that is a dictionary of text: to be read (nothing here changes it).
    """
    import _imp
    import _stat  # all of `stat` but what only Windows has
    import posix

    if "os" in sys.modules or not _imp.is_frozen("os"):
        return
    os = sys.modules["os"] = type(sys)("os")
    names = vars(os)

    def become_itself(name: str) -> Any:
        """PEP 562."""
        if name.startswith("__"):
            raise AttributeError(name)
        del names["__getattr__"]
        exec(_imp.get_frozen_object("os"), names)
        return getattr(os, name)

    names.update(vars(posix), __name__="os", __doc__=None, __loader__=None, __spec__=None)
    names["environ"] = {name.decode(*TEXT): value.decode(*TEXT) for name, value in posix.environ.items()}
    names["__getattr__"] = become_itself
    sys.modules.setdefault("stat", _stat)
    for name in ("genericpath", "posixpath"):  # as import would, which asks three finders first
        if name not in sys.modules:
            module = sys.modules[name] = type(sys)(name)
            exec(_imp.get_frozen_object(name), vars(module))
    names["path"] = sys.modules["os.path"] = sys.modules["posixpath"]


def stand_in_for_functools() -> None:
    """Let `functools` wait until something of it is asked for: threading imports it, and calls it where a thread pool ends."""
    if "functools" in sys.modules:
        return
    waits = sys.modules["functools"] = type(sys)("functools")
    names = vars(waits)

    def become_itself(name: str) -> Any:
        """PEP 562."""
        if name.startswith("__"):
            raise AttributeError(name)
        from _frozen_importlib_external import PathFinder

        spec: Any = PathFinder.find_spec("functools")
        spec.loader.exec_module(waits)
        names.pop("__getattr__", None)  # afterwards, as another thread may ask meanwhile
        return getattr(waits, name)

    names["__getattr__"] = become_itself


def is_as_it_was(entry: tuple[Any, ...]) -> bool:
    """Say whether a source is the one that the file was made from."""
    status = stat(entry[1])
    return bool(status.st_size == entry[2] and status.st_mtime_ns == entry[3])


def load(entries: tuple[tuple[Any, ...], ...]) -> None:
    """Make every module, and then run their code in the order in which it was run the first time."""
    known = sys.modules
    made: list[dict[str, Any]] = []
    entries = tuple(entry for entry in entries if entry[0] not in known)
    for name, source, _, _, package, code in entries:
        if code is EXTENSION:
            made.append({})
            continue
        module = known[name] = type(sys)(name)
        module.__file__ = source
        parent, _, last = name.rpartition(".")
        module.__package__ = name if package else parent
        if package:
            module.__path__ = [source.rpartition("/")[0]]
        made.append(module.__dict__)
    for name, _, _, _, _, _ in entries:
        parent, _, last = name.rpartition(".")
        if parent in known and name in known:
            setattr(known[parent], last, known[name])
    for (name, source, _, _, _, code), names in zip(entries, made, strict=True):
        if code is EXTENSION:
            load_extension(name, source)
        else:
            exec(code, names)


def load_extension(name: str, path: str) -> None:
    """Load a shared library from where it was, without looking for it."""
    import _imp

    spec = type(sys.__spec__)(name, None, origin=path)
    module = sys.modules[name] = _imp.create_dynamic(spec)
    _imp.exec_dynamic(module)
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)
