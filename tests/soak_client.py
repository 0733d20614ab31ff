"""A client of `minirt serve` for the soak: makes containers, looks at what they wrote, removes them; it may be killed meanwhile.

    python soak_client.py SOCKET JOURNAL SEED

A line of the journal is written, whole, when something is known: `made ID`, `whole ID`, `done`, `lost ID: what`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import sys
import time
from typing import Any

SCRIPT = "i=0; while [ $i -lt $1 ]; do echo line $i; i=$((i + 1)); done"
PATIENCE = 120  # s that a server may be away


class Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


class Client:
    def __init__(self, path: str, journal: str, seed: int) -> None:
        self.path = path
        self.journal = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.random = random.Random(seed)

    def write(self, *words: object) -> None:
        os.write(self.journal, (" ".join(map(str, words)) + "\n").encode())

    def once(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        connection = Connection(self.path)
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Ask until a server answers: one may have been killed, and another begins."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.once(method, path, body)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > end:
                    raise
                time.sleep(0.1)

    def container(self) -> None:
        """One container's life."""
        count = self.random.choice((1, 10, 300, 3000))
        kind = self.random.choice(("finish", "finish", "finish", "rm", "kill", "net", "port"))
        host: dict[str, Any] = {"NetworkMode": "bridge" if kind in ("net", "port") else "none", "AutoRemove": kind == "rm"}
        if kind == "port":
            host["PortBindings"] = {"80/tcp": [{"HostPort": ""}]}
        words = ["sleep", "600"] if kind == "kill" else ["sh", "-c", SCRIPT, "sh", str(count)]
        name = f"soak-{os.urandom(6).hex()}"
        self.ask("POST", f"/containers/create?name={name}", {"Image": "busybox", "Cmd": words, "HostConfig": host})
        status, said = self.ask("GET", f"/containers/{name}/json")
        if status != 200:
            return  # the server was killed before it was there
        id = json.loads(said)["Id"]
        self.write("made", id)
        if self.ask("POST", f"/containers/{id}/start")[0] not in (204, 304):
            self.ask("DELETE", f"/containers/{id}?force=1")
            return
        if kind not in ("kill", "rm"):
            self.finish(id, count)
        elif kind == "rm":
            self.ask("POST", f"/containers/{id}/wait")
        self.ask("DELETE", f"/containers/{id}?force=1&v=1")
        self.write("done")

    def finish(self, id: str, count: int) -> None:
        """Wait for its end, and look whether all that it wrote is there."""
        status, said = self.ask("POST", f"/containers/{id}/wait")
        ended = json.loads(said) if status == 200 and said.strip() else {}
        if ended.get("StatusCode") != 0 or ended.get("Error"):
            return  # its monitor was killed, or somebody ended it
        said = self.ask("GET", f"/containers/{id}/logs?stdout=1")[1]
        lines = b""
        while len(said) >= 8:
            size = int.from_bytes(said[4:8], "big")
            lines, said = lines + said[8 : 8 + size], said[8 + size :]
        once = b"".join(b"line %d\n" % i for i in range(count))
        # A start whose server was killed before it answered was asked for again: then the container may have run twice.
        whole = bool(lines) and lines == once * (len(lines) // len(once))
        self.write(*(("whole", id) if whole else ("lost", id, count, len(lines.split(b"\n")))))


if __name__ == "__main__":
    client = Client(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    while True:
        client.container()
