"""The initramfs that takes a machine to its program: the agent (csrc/agent), its settings, and modules."""

from __future__ import annotations

import os

from minivm.boot.cpio import Archive
from minivm.errors import BootError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from minivm.machine.config import Program

__all__ = ["INIT", "build", "settings"]

INIT = "/.minivm/agent"


def settings(program: Program, kind: str, read_only: bool, modules: Mapping[str, bytes], shares: Sequence[str] = ()) -> bytes:
    """Return what csrc/agent/settings.c reads: words that end in a zero byte.

    Args:
        program: what is to run.
        kind: the root disk's file system, "" for a root in the initramfs.
        modules: in the order in which they are loaded.
        shares: tags of virtio-fs that are absolute paths: where they are mounted.

    Raises BootError where a word has a zero byte in it.
    """
    words = [f"module={name}" for name in modules]
    words += [f"type={kind}"] * bool(kind) + ["ro="] * read_only + ["tty="] * program.terminal
    words += [f"share={tag}" for tag in shares]
    words += [f"hostname={program.hostname}", f"cwd={program.cwd}", f"stop={program.stop_signal}"]
    words += [f"user={program.user}"] * bool(program.user)
    words += [f"env={word}" for word in program.env] + [f"arg={word}" for word in program.args]
    if any("\0" in word for word in words):
        raise BootError("the program's words must not have a zero byte in them")
    return b"".join(os.fsencode(word) + b"\0" for word in words)


def build(modules: Mapping[str, bytes], tree: str | None, text: bytes) -> bytes:
    """Return the archive; see initramfs.build. Raises BootError."""
    archive = Archive()
    try:
        if tree is not None:
            archive.tree(tree)
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "agent.elf"), "rb") as file:
            archive.file(INIT[1:], file.read(), 0o755)
    except OSError as error:
        advice = ": run `make build`" if str(error.filename).endswith("agent.elf") else ""
        raise BootError(f"cannot read {error.filename!r}: {error.strerror}{advice}") from None
    for name, data in modules.items():
        archive.file(f".minivm/{name}.ko", data)
    archive.file(".minivm/settings", text, 0o600)
    return archive.finish()
