"""The program that runs plans (csrc/plan/executor.c), and who starts it."""

from __future__ import annotations

import os

from minirt.errors import KernelError, MinirtError
from minirt.linux import constants as k
from minirt.linux.direct import spawn, syscall

__all__ = ["Parent", "executor"]

_executor = -1


def executor() -> int:
    """Return a descriptor of the executor program: a memfd, sealed so that nobody can change it (man 2 memfd_create).

    One for the life of this process; the file in the package is read once.
    """
    global _executor
    if _executor < 0:
        path = os.path.join(os.path.dirname(__file__), "executor.elf")
        try:
            with open(path, "rb", buffering=0) as file:
                program = file.read()
        except FileNotFoundError:
            raise MinirtError(f"{path} is missing: build it with `make` in the source tree") from None
        mfd_exec = 0x10  # MFD_EXEC, Linux 6.3: says that it will be executed, where a sysctl asks for that
        try:
            fd = os.memfd_create("minirt-executor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | mfd_exec)
        except OSError:
            fd = os.memfd_create("minirt-executor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, program)
        seals = k.F_SEAL_SEAL | k.F_SEAL_SHRINK | k.F_SEAL_GROW | k.F_SEAL_WRITE
        result = syscall(k.SYS_fcntl, fd, k.F_ADD_SEALS, seals)  # not by `fcntl`, which exec would load for this alone
        if result < 0:
            os.close(fd)
            raise KernelError(-result, f"fcntl(F_ADD_SEALS): {os.strerror(-result)}")
        _executor = fd
    return _executor


class Parent:
    """Who starts the executor, and so is the parent of it and of the child: this process; or another (minirt.engine.monitor)."""

    def spawn(self, fds: list[int], plan: int) -> int:
        """Start the executor with these descriptors as its 0, 1, ...; `plan` of them is the plan's. Returns its pid, or -errno."""
        return spawn(executor(), fds, plan)

    def reap(self, pid: int) -> None:
        """Wait for the end of one of the two."""
        os.waitpid(pid, 0)
