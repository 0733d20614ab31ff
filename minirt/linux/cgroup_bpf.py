"""bpf(2), as far as a group's device filter needs it: load a program, attach it, find and replace the former.

Each command has a struct of its own in union bpf_attr, packed here in the order of linux/bpf.h. A program belongs to
its descriptor and to the group: when the group goes, so does it.

Sources: man 2 bpf; Documentation/bpf/prog_cgroup_sockopt.rst (attach flags); linux/bpf.h
"""

from __future__ import annotations

import errno as errors
import os
import struct

from minirt.linux import constants as k
from minirt.linux.cgroup_files import DeviceFilterError
from minirt.linux.direct import address, syscall
from minirt.linux.userns import in_initial

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from minirt.trace import Sink

__all__ = ["attach", "attached", "is_unprivileged", "load"]

LICENSE = b"Apache-2.0\0"  # only a program that calls the kernel's GPL helpers must be GPL
NAME = b"minirt_devices"  # what bpftool shows, at most 15 bytes
OFTEN = 20  # times that a program is offered to the kernel, while signals keep it from checking it
KEPT = 16  # programs that `loaded` keeps
MOST = 64  # programs of one group: BPF_CGROUP_MAX_PROGS, linux/bpf-cgroup-defs.h

_loaded: dict[tuple[bytes, int, int], int] = {}  # by its code, and who loaded it: a process and its user


def load(code: bytes, sink: Sink | None = None, words: Sequence[str] = ()) -> int:
    """Let the kernel verify and take a program.

    Args:
        code: an array of struct bpf_insn.
        sink: gets the call as an event.
        words: what the program does, a line each, for the event.

    Returns: its descriptor, the caller's to close. Raises: DeviceFilterError.
    """
    fd = _load(code)
    if fd == -errors.EPERM:
        # Before Linux 5.11 a program counts as locked memory: once more, with as much of that as we may have.
        with_more = _Memlock()
        try:
            fd = _load(code)
        finally:
            with_more.restore()
    count = len(code) // 8
    args = ("BPF_PROG_LOAD", f"{{BPF_PROG_TYPE_CGROUP_DEVICE, {count} instructions}}")
    _tell(sink, args, fd, "the kernel checks that the program ends and reads only what it is given", words)
    if fd < 0:
        raise DeviceFilterError(f"bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE): {os.strerror(-fd)}{_why(code, -fd)}")
    return fd


def attach(directory: str, code: bytes, sink: Sink | None = None, words: Sequence[str] = ()) -> None:
    """Put a program in force for a group, in place of those that are attached to it.

    Args:
        directory: the group's.
        code: an array of struct bpf_insn.
        sink: gets the calls as events.
        words: what the program does, a line each.

    Raises: DeviceFilterError.
    """
    new = loaded(code) if sink is None else load(code, sink, words)
    try:
        group = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        os.close(new)
        raise DeviceFilterError(f"{directory}: {error.strerror}") from None
    former: list[int] = []
    try:
        former = [fd for fd in map(_by_id, attached(group)) if fd >= 0]
        _put(group, new, former, sink)
    finally:
        for fd in (new, group, *former):
            os.close(fd)


def loaded(code: bytes) -> int:
    """Load a program, or take one that this process has loaded: most containers have the same rules.

    The kernel takes 0.3 ms to check and translate one, a tenth of a birth.

    Returns: a descriptor, the caller's to close. Raises: DeviceFilterError.
    """
    key = (code, os.getpid(), os.geteuid())
    kept = _loaded.get(key)
    if kept is None:
        new = load(code)
        if len(_loaded) == KEPT:
            return new
        kept = _loaded.setdefault(key, new)
        if kept != new:
            os.close(new)  # another thread was first
    return os.dup(kept)


def _put(group: int, new: int, former: list[int], sink: Sink | None) -> None:
    """Attach a program and take the former ones off; for no moment is there none."""
    flags, replaced = k.BPF_F_ALLOW_MULTI, 0
    if len(former) == 1:
        flags, replaced = flags | k.BPF_F_REPLACE, former[0]
    errno = -_bpf(k.BPF_PROG_ATTACH, struct.pack("<5I", group, new, k.BPF_CGROUP_DEVICE, flags, replaced))
    if errno == errors.EINVAL and replaced:  # before Linux 5.6 none can be replaced
        flags, replaced = k.BPF_F_ALLOW_MULTI, 0
        errno = -_bpf(k.BPF_PROG_ATTACH, struct.pack("<5I", group, new, k.BPF_CGROUP_DEVICE, flags, 0))
    words = "BPF_F_ALLOW_MULTI|BPF_F_REPLACE" if replaced else "BPF_F_ALLOW_MULTI"
    _tell(sink, ("BPF_PROG_ATTACH", f"{{{group}, {new}, BPF_CGROUP_DEVICE, {words}}}"), -errno,
          "from here on the kernel asks it at each open and mknod of a device")  # fmt: skip
    if errno:
        causes = {
            errors.EPERM: ": a group above has a program that allows none below it (attached without BPF_F_ALLOW_MULTI)",
            errors.EBADF: ": not a group of cgroup v2",
            errors.EINVAL: ": not a group of cgroup v2",
        }
        raise DeviceFilterError(f"bpf(BPF_PROG_ATTACH, BPF_CGROUP_DEVICE): {os.strerror(errno)}{causes.get(errno, '')}")
    for fd in () if replaced else former:
        _bpf(k.BPF_PROG_DETACH, struct.pack("<3I", group, fd, k.BPF_CGROUP_DEVICE))


def attached(group: int) -> list[int]:
    """Return the ids of the device programs attached to a group itself; none where the kernel does not tell.

    group: int fd of its directory.
    """
    ids = bytearray(4 * MOST)
    attr = bytearray(struct.pack("<4IQI", group, k.BPF_CGROUP_DEVICE, 0, 0, address(ids), MOST))
    if _bpf(k.BPF_PROG_QUERY, attr) < 0:
        return []
    (count,) = struct.unpack_from("<I", attr, 24)
    return list(struct.unpack_from(f"<{count}I", ids))


def is_unprivileged() -> bool:
    """Say whether this process cannot be expected to load programs: not root, or root of a user namespace."""
    return os.geteuid() != 0 or not in_initial()


def _load(code: bytes, log: bytes | bytearray = b"") -> int:
    """Ask the kernel; again where a signal came, as its verifier breaks off for one (EAGAIN, kernel/bpf/verifier.c)."""
    attr = struct.pack("<IIQQIIQII16s", k.BPF_PROG_TYPE_CGROUP_DEVICE, len(code) // 8, address(code), address(LICENSE),
                       1 if log else 0, len(log), address(log) if log else 0, 0, 0, NAME)  # fmt: skip
    for _ in range(OFTEN):
        fd = _bpf(k.BPF_PROG_LOAD, attr)
        if fd != -errors.EAGAIN:
            break
    return fd


def _why(code: bytes, errno: int) -> str:
    """Return, after a colon, why the kernel took no program; for EINVAL in the verifier's own words."""
    if errno == errors.EPERM:
        return ": this needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN, in the first user namespace"
    if errno == errors.ENOSYS:
        return ": this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)"
    if errno == errors.ENOMEM:
        return ": no memory that may be locked (ulimit -l)"
    log = bytearray(1 << 16)
    fd = _load(code, log)
    if fd >= 0:
        os.close(fd)
    lines = log.partition(b"\0")[0].decode(errors="replace").splitlines()
    said = next((line for line in reversed(lines) if line and not line.startswith(("processed", "verification"))), "")
    return f": {said}" if said else ": this kernel asks no program about devices (CONFIG_CGROUP_BPF)"


def _by_id(id: int) -> int:
    return _bpf(k.BPF_PROG_GET_FD_BY_ID, struct.pack("<3I", id, 0, 0))


def _bpf(command: int, attr: bytes | bytearray) -> int:
    """Call bpf(2); return its result, or a negative errno."""
    return syscall(k.SYS_bpf, command, attr, len(attr))


class _Memlock:
    """RLIMIT_MEMLOCK as high as it may be; `restore` brings back what the container is to inherit."""

    def __init__(self) -> None:
        import resource

        self.before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        for wanted in ((resource.RLIM_INFINITY,) * 2, (self.before[1],) * 2):
            try:
                resource.setrlimit(resource.RLIMIT_MEMLOCK, wanted)
                return
            except (OSError, ValueError):
                continue  # more than the hard limit needs CAP_SYS_RESOURCE

    def restore(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_MEMLOCK, self.before)


def _tell(sink: Sink | None, args: tuple[str, ...], result: int, why: str, words: Sequence[str] = ()) -> None:
    if sink is not None:
        from minirt.trace import Event

        errno = -result if result < 0 else 0
        sink(Event("bpf", args, step="cgroup", why=why, result=-1 if errno else result, errno=errno, change=tuple(words)))
