"""A wire that counts: connections to a port of its own go on to a server."""

from __future__ import annotations

import socket
import threading
from typing import Self

__all__ = ["Relay"]


class Relay:
    """A context manager; `host` is HOST:PORT. Args: target, HOST:PORT of the server."""

    def __init__(self, target: str) -> None:
        self._target = target.rpartition(":")[0], int(target.rpartition(":")[2])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.up = 0  # bytes that clients sent

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._target)
            threading.Thread(target=self._copy, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client, False), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket, up: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                if up:
                    with self._lock:
                        self.up += len(data)
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # one of the two hung up
