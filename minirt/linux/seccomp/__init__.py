"""Which system calls a container may make: a JSON profile becomes a BPF filter in the kernel.

May import minirt.errors and what listener.py needs of minirt.linux, and little of the standard library: this is on the
path of every start, and a filter that was compiled before is loaded from a cache without importing the compiler. Functions
here are the front desk; read profile.py first, then compiler.py.

    profile.py    the OCI's JSON -> rules; what overlapping rules mean
    engines.py    the engines' JSON (docker's, podman's) -> the OCI's, for one container
    compiler.py   rules -> decisions for each call -> a program
    bpf.py        the instructions of classic BPF, and an assembler that needs no patching
    tables.py     architectures and call numbers, from syscalls.tbl (see generate_tables.py)
    default.json  the default profile, in groups with their reasons
    cache.py      compiled filters on disk
    listener.py   the descriptor of a filter that asks, handed to who answers
    words.py      verdicts, summaries and disassembly for people

    >>> filter = compile_default(["CAP_CHOWN"])
    >>> filter.instructions < 400
    True
    >>> verdict(default_profile(), "reboot", []), verdict(default_profile(), "kexec_load", [])
    ('SCMP_ACT_ALLOW', 'SCMP_ACT_ERRNO(EPERM)')
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    from .tables import SeccompError

__all__ = [
    "Filter",
    "SeccompError",
    "compile",
    "compile_default",
    "default_profile",
    "disassemble",
    "explain",
    "resolve",
    "verdict",
]

DEFAULT = os.path.join(os.path.dirname(__file__), "default.json")
NEW_LISTENER = 1 << 3  # SECCOMP_FILTER_FLAG_NEW_LISTENER, linux/seccomp.h


class Filter:
    """A filter ready for seccomp(SECCOMP_SET_MODE_FILTER, flags, &fprog) (man 2 seccomp)."""

    __slots__ = ("flags", "program", "skipped")

    def __init__(self, program: bytes, flags: int, skipped: tuple[str, ...]) -> None:
        self.program = program  # array of struct sock_filter, 8 bytes each; its count is sock_fprog.len
        self.flags = flags  # SECCOMP_FILTER_FLAG_*, unsigned int
        self.skipped = skipped  # names that none of the filter's architectures has; they have no effect

    @property
    def instructions(self) -> int:
        """How many instructions the program has: struct sock_fprog's len, an unsigned short."""
        return len(self.program) // 8

    @property
    def notifies(self) -> bool:
        """Whether loading returns a listener's fd, which someone must answer (SCMP_ACT_NOTIFY)."""
        return bool(self.flags & NEW_LISTENER)


_kept: dict[tuple[frozenset[str], str | None], Filter] = {}  # compile_default's, in this process


def __getattr__(name: str) -> object:
    """SeccompError on demand: the class lives with the tables, which a cached filter does not need."""
    if name == "SeccompError":
        from .tables import SeccompError

        return SeccompError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def compile(
    profile: dict[str, Any],
    capabilities: Collection[str] = (),
    arch: str | None = None,
    *,
    cache: str | None = None,
    newer_enosys: bool = True,
    where: str = "linux.seccomp",
) -> Filter:
    """Compile a profile, in the OCI's format or in the engines', to a filter.

    capabilities: names as in config.json, for a profile in the engines' format; arch: the machine as
    uname(2) names it, by default this one; cache: a directory to keep filters in (made if need be,
    0700; it may be unwritable); newer_enosys: see compiler.compile_profile; where: the profile's
    JSON path, for messages.
    Raises SeccompError, naming the JSON path, for a profile that the specification does not allow
    (runtime-spec config-linux.md#seccomp) or whose filter is longer than the kernel takes.
    """
    key = b""
    if cache is not None:
        from . import cache as store

        uname = os.uname()
        machine = (arch or uname.machine, uname.release)
        try:
            key = store.key_of(profile, sorted(capabilities), *machine, newer_enosys)
        except (TypeError, ValueError):
            pass  # nothing that JSON could hold: below it gets its error
        else:
            found = store.load(cache, key)
            if found is not None:
                return Filter(*found)
    from .compiler import compile_profile
    from .engines import is_engine_format
    from .engines import resolve as resolve_profile

    if isinstance(profile, dict) and is_engine_format(profile):
        profile = resolve_profile(profile, capabilities, arch, where=where)
    made = Filter(*compile_profile(profile, arch, newer_enosys=newer_enosys, where=where))
    if key and cache is not None:
        store.store(cache, key, made.program, made.flags, made.skipped)
    return made


def compile_default(capabilities: Collection[str], arch: str | None = None, *, cache: str | None = None) -> Filter:
    """Return the filter of the default profile for a container with these capabilities.

    Arguments as for `compile`. In one process each is made once; with a cache, once on a machine.
    """
    short = (frozenset(capabilities), arch)
    kept = _kept.get(short)
    if kept is not None:
        return kept
    if cache is not None:
        from . import cache as store

        uname = os.uname()
        # default.json itself is in the key by way of the compiler's version
        key = store.key_of("default", sorted(short[0]), arch or uname.machine, uname.release)
        found = store.load(cache, key)
        if found is not None:
            made = _kept[short] = Filter(*found)
            return made
    made = _kept[short] = compile(default_profile(), short[0], arch, where="default.json")
    if cache is not None:
        store.store(cache, key, made.program, made.flags, made.skipped)
    return made


def default_profile() -> dict[str, Any]:
    """Return the default profile, in the engines' format: it answers to capabilities through `resolve`."""
    import json

    with open(DEFAULT, encoding="utf-8") as file:
        profile: dict[str, Any] = json.load(file)
    return profile


def resolve(
    profile: dict[str, Any], capabilities: Collection[str], arch: str | None = None, kernel: str | None = None
) -> dict[str, Any]:
    """Return a profile as `linux.seccomp` of config.json: what is left of it for one container.

    profile: in the engines' format or already in the OCI's; capabilities: names of the container's
    bounding set; arch and kernel: as uname(2) names machine and release, by default this host's.
    Raises SeccompError.
    """
    from .engines import resolve as resolve_profile

    return resolve_profile(profile, capabilities, arch, kernel)


def verdict(
    profile: dict[str, Any],
    name: str,
    args: Sequence[int] = (),
    capabilities: Collection[str] = (),
    arch: str | None = None,
) -> str:
    """Return what a profile says of one call, made by the machine's native convention.

    name: the call; args: its first arguments (u64); the others as for `compile`.
    Returns the action as people write it: "SCMP_ACT_ERRNO(EPERM)". Raises SeccompError.
    """
    from .engines import resolve as resolve_profile
    from .words import verdict_of

    return verdict_of(resolve_profile(profile, capabilities, arch), name, args, arch)


def explain(
    profile: dict[str, Any], filter: Filter, capabilities: Collection[str] = (), arch: str | None = None
) -> list[str]:
    """Return a few lines on a profile and the filter made from it: its size, and which calls get what."""
    from .engines import resolve as resolve_profile
    from .words import explain as explain_profile

    return explain_profile(resolve_profile(profile, capabilities, arch), filter.program, arch)


def disassemble(filter: Filter, order: str = "little") -> list[str]:
    """Return a filter's instructions, a line each; order: the byte order that it was compiled for."""
    from .words import disassemble as disassemble_program

    return disassemble_program(filter.program, order)
