"""Listening: on a Unix socket, over TCP with TLS, on what systemd hands over; a thread for each connection.

A container is none of this process's children (its monitor has it), so it may end at any moment, and another may begin.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from errno import EBADF, EINVAL

from minirt.errors import MinirtError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from minirt.api.http import Request

__all__ = ["Listener", "handed_over", "on_tcp", "on_unix", "serve"]

log = logging.getLogger("minirt.api")
PATIENCE = 10.0  # s that requests have to be answered in, when the server is to end
LOOK = 1.0  # s between two looks at containers that may have lost their monitor, and whether there is room for a client
FIRST = 3  # descriptor of what systemd hands over (man 3 sd_listen_fds)


class Listener:
    """Where clients come in. Args: socket, listening; name, for people; tls, what is spoken there, None: nothing of that."""

    def __init__(self, socket: socket.socket, name: str, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket
        self.name = name
        self.tls = tls
        self.inode = 0  # of a Unix socket's file
        self.busy: set[Request] = set()  # asked, and not answered yet

    def accept(self) -> None:
        """Give each client a thread, until the socket is closed. Where there is no descriptor or thread for one, it waits."""
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError as error:
                if error.errno in (EBADF, EINVAL):
                    return
                self.pause(error.strerror or str(error))
                continue
            try:
                threading.Thread(target=self.attend, args=(client,), daemon=True).start()
            except RuntimeError as error:
                client.close()
                self.pause(str(error))

    def pause(self, why: str) -> None:
        """Say why nobody can be served for a moment, and wait for others to end."""
        log.warning("%s: %s", self.name, why)
        time.sleep(LOOK)

    def attend(self, client: socket.socket) -> None:
        """Answer one client until it has gone."""
        import h11

        from minirt.api.answer import answer
        from minirt.api.http import Connection, Gone

        try:
            if self.tls is not None:
                client = self.tls.wrap_socket(client, server_side=True)
            with client:
                for request in Connection(client).requests():
                    log.info("%s %s", request.method, request.written)
                    self.busy.add(request)
                    try:
                        answer(request)
                    finally:
                        self.busy.discard(request)
        except (Gone, h11.RemoteProtocolError, OSError):
            pass  # it has hung up, or speaks something else
        except Exception:
            log.exception("a request could not be answered")


def on_unix(path: str, group: str = "") -> Listener:
    """Listen on a Unix socket; one that a killed server left is taken over.

    Args: path; group, whose members may use it too. Raises: UsageError, MinirtError.
    """
    if is_served(path):
        raise MinirtError(f"{path}: a server is there already")
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        new = f"{path}.{os.getpid()}"
        before = os.umask(0o177)  # whoever may write to it is root here
        try:
            listener.bind(new)
        finally:
            os.umask(before)
        if group:
            os.chown(new, -1, group_id(group))
            os.chmod(new, 0o660)
        listener.listen(128)
        os.rename(new, path)  # at no moment is there a socket at which nobody listens
    except OSError as error:
        listener.close()
        raise MinirtError(f"-H unix://{path}: {error.strerror or error}") from None
    made = Listener(listener, f"unix://{path}")
    made.inode = os.stat(path).st_ino
    return made


def is_served(path: str) -> bool:
    """Say whether somebody answers at a Unix socket. Raises: UsageError.

    That it lets us in says nothing: a killed server's child, between fork and exec, holds the socket a moment longer.
    """
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(path)
            probe.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return bool(probe.recv(1))
        except (TimeoutError, BlockingIOError):
            return True  # it is there, and busy
        except OSError as error:
            if "too long" in str(error):
                raise UsageError(f"-H unix://{path}: a socket's path has at most 107 bytes (man 7 unix)") from None
            return False


def group_id(name: str) -> int:
    """Return a group's number. Raises: UsageError."""
    import grp

    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise UsageError(f"--group {name}: this host has no such group") from None


def on_tcp(host: str, port: int, tls: ssl.SSLContext | None) -> Listener:
    """Listen over TCP. Raises: MinirtError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise MinirtError(f"-H tcp://{host}:{port}: {error.strerror or error}") from None
    return Listener(listener, f"tcp://{host}:{listener.getsockname()[1]}", tls)


def handed_over() -> list[Listener]:
    """Return what systemd listens at in our place (man 3 sd_listen_fds). Raises: UsageError where it is nothing."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise UsageError("-H fd://: no socket was handed over: this is for a unit of systemd with a socket (man 5 systemd.socket)")
    found = []
    for fd in range(FIRST, FIRST + int(count)):
        os.set_inheritable(fd, False)
        found.append(Listener(socket.socket(fileno=fd), f"fd://{fd}"))
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    return found


def serve(listeners: list[Listener], say: Callable[[Listener], object]) -> None:
    """Answer until SIGTERM or SIGINT; what is asked by then is still done. The containers go on. SIGUSR1 shows what it does.

    Args: say, called with each listener when it may be told of.
    """
    import faulthandler
    import select
    import signal

    faulthandler.register(signal.SIGUSR1)  # tells where each thread is, as dockerd does
    # Not an Event: set while this thread is inside its wait(), and has its lock, it would wait for itself for ever.
    asked, writer = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    for listener in listeners:
        threading.Thread(target=listener.accept, daemon=True).start()
        say(listener)
    threading.Thread(target=tidy, daemon=True).start()
    while not select.select([asked], [], [], LOOK)[0]:
        restore_all(beginning=False)
    for listener in listeners:
        forget(listener)
    last = time.monotonic() + PATIENCE
    while time.monotonic() < last and any(not request.answered for listener in listeners for request in tuple(listener.busy)):
        time.sleep(0.02)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads that pass on what containers write have nothing to bring to an end


def tidy() -> None:
    """Remove what a killed server, or another killed minirt, has left; then start what is to run (--restart)."""
    from minirt.engine import gc

    gc.notice = lambda container, text: log.warning("%s: %s", container.label, text)
    try:
        for found in gc.collect():
            log.info("removed: %s %s: %s", found.kind, found.path, found.why)
    except MinirtError as error:
        log.warning("%s", error)
    restore_all(beginning=True)


def restore_all(beginning: bool) -> None:
    """Start what is to run and nobody is with; what goes wrong is told, and tried again where that is due."""
    from minirt.engine.restore import restore

    try:
        restore(beginning, lambda container, error: log.info("started again: %s %s", container.label, error or "runs"))
    except MinirtError as error:
        log.warning("%s", error)
    except Exception:
        log.exception("containers could not be looked at")


def forget(listener: Listener) -> None:
    """Remove a Unix socket's file, unless another server has put its own in the place."""
    path = listener.name.removeprefix("unix://")
    try:
        if listener.inode and os.stat(path).st_ino == listener.inode:
            os.unlink(path)
    except OSError:
        pass
