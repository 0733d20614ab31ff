"""What the host gives to a machine's devices: files and taps, opened and locked."""

from __future__ import annotations

import os
from struct import pack

from minivm.errors import KvmError
from minivm.kvm import ffi, ioctl, lib, pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

__all__ = [
    "become_tap",
    "listen",
    "lock_file",
    "offload",
    "open_file",
    "set_header_size",
    "shared_memory",
    "socket_pair",
    "terminal_size",
    "unlisten",
    "without_blocking",
]

MODE = 0o600


def open_file(path: str, flags: str) -> int:
    """Open a file or a device.

    Args:
        flags: kernel names, joined by |.

    Returns its descriptor, the caller's to close. Raises KvmError. man 2 open.
    """
    bits = os.O_CLOEXEC
    for name in flags.split("|"):
        bits |= getattr(os, name)
    try:
        return os.open(path, bits, MODE)
    except OSError as error:
        raise KvmError("openat", error.errno or 0, repr(path), _cause(path, flags)) from None


def _cause(path: str, flags: str) -> str:
    """Say in words why it cannot be opened."""
    if path == "/dev/net/tun":
        return "load the module tun; in a container, pass the device through"
    if not os.path.exists(path):
        return "no such disk"
    if os.path.isdir(path):
        return "a directory is no disk: --share DIR or --rootfs DIR shows it to the guest"
    return "to use a disk that may not be written to, say --disk FILE,ro" if flags == "O_RDWR" else ""


def lock_file(fd: int, shared: bool) -> None:
    """Take the file's lock, which goes with the descriptor. Raises KvmError. man 2 flock.

    Args:
        shared: for reading only, which several may.
    """
    import fcntl

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        raise KvmError("flock", error.errno or 0, f"fd={fd}", "another machine uses this disk") from None


def become_tap(fd: int, name: str, flags: str) -> None:
    """Make a descriptor of /dev/net/tun this end of a tap, which is made where there is none of that name.

    Raises KvmError. Linux Documentation/networking/tuntap.rst.
    """
    bits = 0
    for word in flags.split("|"):
        bits |= getattr(lib, word)
    request = ffi.new("char[]", pack("16sH22x", os.fsencode(name), bits))  # struct ifreq
    try:
        ioctl(fd, "TUNSETIFF", pointer(request), f'name="{name}"')
    except KvmError as error:
        causes = {
            "EPERM": f"it needs CAP_NET_ADMIN, or a tap that is yours: sudo ip tuntap add {name} mode tap user $USER vnet_hdr",
            "EBUSY": "another program uses this tap",
            "EINVAL": "a device of this name is there and is no tap, or was made without vnet_hdr",
        }
        raise KvmError("TUNSETIFF", error.errno, f'name="{name}"', causes.get(error.name, "")) from None


def set_header_size(fd: int, size: int) -> None:
    """Say how many bytes of virtio-net's header stand before each frame. Raises KvmError."""
    number = ffi.new("int *", size)
    ioctl(fd, "TUNSETVNETHDRSZ", pointer(number), str(size))


def offload(fd: int, checksums: bool, tso4: bool, tso6: bool, header: int) -> None:
    """Say what frames may come out of the tap: with checksums still to be made, and of many segments. Raises KvmError.

    Args:
        header: bytes of virtio-net's header before each: 12, or 10 for some old drivers.
    """
    set_header_size(fd, header)
    bits = lib.TUN_F_CSUM if checksums else 0
    if checksums:  # the kernel takes segments only with it
        bits |= (lib.TUN_F_TSO4 if tso4 else 0) | (lib.TUN_F_TSO6 if tso6 else 0)
    ioctl(fd, "TUNSETOFFLOAD", bits, f"{bits:#x}")


def shared_memory(length: int) -> int:
    """Return a memfd of so many bytes, whose size nobody can change any more. Raises KvmError. man 2 memfd_create."""
    import fcntl

    try:
        fd = os.memfd_create("minivm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        raise KvmError("memfd_create", error.errno or 0, '"minivm"') from None
    try:
        os.ftruncate(fd, length)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError as error:
        os.close(fd)
        raise KvmError("ftruncate", error.errno or 0, f"length={length:#x}") from None
    return fd


def socket_pair() -> tuple[int, int]:
    """Return two connected stream sockets, not blocking. Raises KvmError. man 2 socketpair."""
    import socket

    try:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise KvmError("socketpair", error.errno or 0, "AF_UNIX, SOCK_STREAM") from None
    ours.setblocking(False)
    return ours.detach(), theirs.detach()


def without_blocking(fd: int) -> tuple[int, bool]:
    """Return another descriptor of what a descriptor writes to, which does not block, and whether it is a socket.

    O_NONBLOCK belongs to what is open, which others share (a shell's standard output): so a pipe or terminal is opened once
    more (man 5 proc, /proc/PID/fd). A socket is told with each send, and a file never blocks for long.
    """
    import stat

    kind = os.fstat(fd).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        try:
            return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC), False
        except OSError:
            pass  # of another user, or not in a /proc of ours: it will block then
    return os.dup(fd), stat.S_ISSOCK(kind)


def terminal_size(fd: int) -> tuple[int, int] | None:
    """Return (columns, rows) where a descriptor is of a terminal that knows them."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (columns, rows) if columns and rows else None


def listen(path: str) -> socket:
    """Return a socket that listens at a path, not blocking. Raises KvmError. man 7 unix.

    A name that nobody listens at any more (its machine was killed, or was in a jail) is taken over.
    """
    import errno
    import socket

    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        try:
            listener.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _abandoned(path):
                raise
            os.unlink(path)
            listener.bind(path)
    except OSError as error:
        listener.close()
        cause = "another machine listens there, or a file is there" if os.path.exists(path) else ""
        if error.errno == errno.ENOENT:
            cause = f"there is no directory {os.path.dirname(path)!r}: mkdir makes it"
        raise KvmError("bind", error.errno or 0, repr(path), cause) from None
    listener.listen(64)
    return listener


def _abandoned(path: str) -> bool:
    """Say whether a socket is there that nobody listens at."""
    import socket
    import stat

    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False


def unlisten(listener: socket, path: str) -> None:
    """Close such a socket, and remove its name; within a jail the name cannot be reached, and stays."""
    listener.close()
    try:
        os.unlink(path)
    except OSError:
        pass
