"""What each start of the OCI runtime needs of C, without cffi (csrc/plan/direct.c says why).

    syscall(number, *arguments)  the result, or -errno; bytes and bytearrays are given by their address, None is 0
    address(buffer)              where bytes or a bytearray lie, as long as they live: for a pointer in a structure
    spawn(exe, fds, plan)        start the executor (csrc/plan/spawn.c): its pid, or -errno
    send(socket, fds)            one byte with descriptors: 0, or -errno
    receive(socket)              a message of at most 16 bytes, or -errno; and a descriptor, or -1
    constant(name)               one of csrc/plan/constants.txt. Raises: KeyError

The module is a second one in the library of `minirt.linux._sys`, so no finder knows of it (importlib's documentation: "a
single shared library may hold several").
"""

from __future__ import annotations

import sys
from _imp import create_dynamic, exec_dynamic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["address", "constant", "receive", "send", "spawn", "syscall"]

LIBRARY = f"{__file__.rpartition('/')[0]}/_sys.abi3.so"


def load() -> Any:
    """Load the module. Raises: ImportError where the library was not built."""
    module = create_dynamic(type(sys.__spec__)("minirt.linux._direct", None, origin=LIBRARY))
    exec_dynamic(module)
    return module


_module = load()
syscall: Callable[..., int] = _module.syscall
address: Callable[[bytes | bytearray], int] = _module.address
spawn: Callable[[int, list[int], int], int] = _module.spawn
send: Callable[[int, list[int]], int] = _module.send
receive: Callable[[int], tuple[bytes | int, int]] = _module.receive
constant: Callable[[str], int] = _module.constant
