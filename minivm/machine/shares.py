"""virtiofsd for a share: find it, start it with one end of a socket, and have the other.

There are two programs of this name, both with the same protocol: QEMU's in C (up to 7.2, Debian 12's qemu-system-common),
and its successor in Rust (https://gitlab.com/virtio-fs/virtiofsd, Debian 13's package virtiofsd). Run by root both enter
namespaces of their own with the share as their root; a user's is confined by a user namespace, which the older one cannot.
"""

from __future__ import annotations

import os

from minivm.errors import MinivmError
from minivm.machine.helpers import Helper, spawn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

__all__ = ["find", "serve"]

PLACES = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")  # beside PATH, the new one first


def find() -> str:
    """Return virtiofsd's path. Raises MinivmError where there is none."""
    import shutil

    for path in (shutil.which("virtiofsd"), *PLACES):
        if path and os.access(path, os.X_OK):
            return path
    raise MinivmError("virtiofsd is not installed: apt-get install virtiofsd (Debian 12 and before: qemu-system-common)")


def serve(directory: str, read_only: bool) -> tuple[Helper, int]:
    """Start virtiofsd for a directory.

    Returns it, and the descriptor of the socket that leads to it, the caller's to close. Raises MinivmError.
    """
    path = find()
    words = _words(path, os.path.abspath(directory), read_only)
    ours, listener = _sockets()
    with listener:
        helper = Helper(spawn([*words, f"--fd={listener.fileno()}"], [listener.fileno()]))
    try:
        _greet(ours)
    except OSError:
        ours.close()
        raise MinivmError(f"virtiofsd cannot serve {directory!r}: {helper.complaint()}") from None
    return helper, ours.detach()


def _words(path: str, directory: str, read_only: bool) -> list[str]:
    import resource
    import subprocess

    # It would ask for a million descriptors, which only CAP_SYS_RESOURCE can have.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    known = subprocess.run([path, "--help"], capture_output=True, text=True, check=False).stdout
    if "--shared-dir" in known:
        if read_only and "--readonly" not in known:
            raise MinivmError("ro: this virtiofsd cannot serve a directory read-only; 1.11 and later can")
        words = [path, "--shared-dir", directory, "--sandbox", "namespace", "--rlimit-nofile", str(most)]
        return [*words, "--log-level", "error", *["--readonly"] * read_only]
    if read_only:
        raise MinivmError("ro: QEMU's own virtiofsd cannot serve a directory read-only; Debian 13's package virtiofsd can")
    quoted = directory.replace("\\", "\\\\").replace(",", "\\,")  # a comma would begin another option
    return [path, "-f", "-o", f"source={quoted},log_level=err", f"--rlimit-nofile={most}"]


def _sockets() -> tuple[socket, socket]:
    """Return a connected socket, and the one that listens, whose first client it is. Its name is gone: there are no others."""
    import socket
    import tempfile

    listener = socket.socket(socket.AF_UNIX)
    ours = socket.socket(socket.AF_UNIX)
    with tempfile.TemporaryDirectory(prefix="minivm-share-") as directory:
        name = os.path.join(directory, "socket")
        listener.bind(name)
        listener.listen(1)
        ours.connect(name)
    return ours, listener


def _greet(ours: socket) -> None:
    """Wait until virtiofsd answers: it may still end with an error. Raises OSError."""
    from struct import pack

    from minivm.devices.virtio.vhost_user import GET_FEATURES, HEADER, LIMIT, VERSION

    ours.settimeout(LIMIT)
    ours.sendall(pack(HEADER, GET_FEATURES, VERSION, 0))
    answer = b""
    while len(answer) < 20:
        more = ours.recv(20 - len(answer))
        if not more:
            raise OSError("it has hung up")
        answer += more
