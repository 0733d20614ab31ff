"""`minirt registry serve` beside Debian's docker-registry (distribution): the same blobs, the same clients, one run.

    .venv/bin/python -m bench.registry [--rounds 5] [--parallel 64] [--size 4194304] [--dir DIR] [--format json]

    push     so many clients at once, each a blob of its own: POST, then PUT
    pull     so many clients at once, each a blob of its own, which were pushed just before (so from the page cache)
    small    requests for a manifest by tag, one after the other on so many connections
    hot      so many clients at once, all the same blob

MB/s (of 10^6 bytes), or requests a second: the median of the rounds, in each of which both servers have their turn,
the other one first in each second. The clients are threads with bare sockets: they give the bytes to the kernel
(man 2 sendfile) and let it throw them away (MSG_TRUNC, man 7 tcp), so that the server is what is measured. Both write to the
same file system and log nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import beside

KINDS = ("push", "pull", "hot", "small")
CONFIG = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
Address = tuple[str, int]
Blob = tuple[str, str, int]  # digest, path, bytes


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = beside.parser("bench.registry", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--parallel", type=int, default=64, help="clients at once (64)")
    parser.add_argument("--size", type=int, default=4 << 20, help="bytes of a blob (4194304)")
    parser.add_argument("--dir", default="/var/tmp", help="where both servers keep their data (/var/tmp)")
    args = parser.parse_args(argv)
    if not beside.able("docker-registry", root=False):
        return 1
    with tempfile.TemporaryDirectory(prefix="minirt-bench-", dir=args.dir) as name:
        results = measure(Path(name), args.rounds, args.parallel, args.size)
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def measure(place: Path, rounds: int, parallel: int, size: int) -> dict[str, dict[str, list[float]]]:
    """Return by measurement and server the figures of the rounds."""
    servers = {"minirt": start_ours(place / "minirt"), "docker-registry": start_theirs(place / "docker")}
    results: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in servers} for kind in KINDS}
    try:
        for number in range(rounds):
            blobs = make_blobs(place / "source", parallel, size)
            for name, (address, _) in sorted(servers.items(), reverse=bool(number % 2)):
                for kind, figure in one_round(address, f"bench/round{number}", blobs).items():
                    results[kind][name].append(figure)
    finally:
        for _, process in servers.values():
            process.send_signal(signal.SIGTERM)
        for _, process in servers.values():
            process.wait(20)
    return results


def one_round(address: Address, name: str, blobs: list[Blob]) -> dict[str, float]:
    """Return the figures of one server's turn."""
    total = sum(size for _, _, size in blobs) / 1e6
    found = {
        "push": total / together(lambda blob: push(address, name, blob), blobs),
        "pull": total / together(lambda blob: pull(address, name, blob), blobs),
        "hot": total / together(lambda _: pull(address, name, blobs[0]), blobs),
    }
    tag(address, name, blobs[0])
    count = 10
    found["small"] = count * len(blobs) / together(lambda _: manifests(address, name, count), blobs)
    return found


def start_ours(root: Path) -> tuple[Address, subprocess.Popen[bytes]]:
    """Start `minirt registry serve`."""
    port = free_port()
    words = [sys.executable, "-m", "minirt", "registry", "serve", "--root", str(root), "--listen", f"127.0.0.1:{port}", "--quiet"]
    return wait_for(("127.0.0.1", port), subprocess.Popen(words, stdout=subprocess.DEVNULL))


def start_theirs(root: Path) -> tuple[Address, subprocess.Popen[bytes]]:
    """Start docker-registry."""
    port = free_port()
    root.mkdir()
    (root / "config.yml").write_text(CONFIG.format(root=root / "data", port=port))
    words = ["docker-registry", "serve", str(root / "config.yml")]
    return wait_for(("127.0.0.1", port), subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))


def free_port() -> int:
    """Return a port of loopback that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: Address, process: subprocess.Popen[bytes]) -> tuple[Address, subprocess.Popen[bytes]]:
    """Wait until a server answers."""
    for _ in range(400):
        try:
            socket.create_connection(address, 1).close()
            return address, process
        except OSError:
            time.sleep(0.05)
    raise SystemExit(f"nobody answers at {address}")


def make_blobs(place: Path, count: int, size: int) -> list[Blob]:
    """Write blobs that no server has seen."""
    place.mkdir(exist_ok=True)
    found = []
    for number in range(count):
        data = os.urandom(size)
        (place / str(number)).write_bytes(data)
        found.append((f"sha256:{hashlib.sha256(data).hexdigest()}", str(place / str(number)), size))
    return found


def together(work: Callable[[Blob], None], blobs: Sequence[Blob]) -> float:
    """Call a function for each blob, all at once. Returns the seconds until the last was done."""
    problems: list[BaseException] = []

    def run(blob: Blob) -> None:
        try:
            work(blob)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(blob,)) for blob in blobs]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    if problems:
        raise problems[0]
    return took


# -- the clients


def request(connection: socket.socket, line: str, headers: str = "") -> None:
    """Send the head of a request."""
    connection.sendall(f"{line} HTTP/1.1\r\nHost: {connection.getpeername()[0]}\r\n{headers}\r\n".encode())


def answer(connection: socket.socket, wanted: int) -> tuple[dict[str, str], int]:
    """Read the head of an answer. Returns its headers, and how many bytes of the body are still to come."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(1 << 16)
        if not piece:
            raise ConnectionError(f"the server hung up after {data!r}")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    if int(first.split()[1]) != wanted:
        raise AssertionError(f"{first}, {body!r}")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return headers, int(headers.get("content-length", "0")) - len(body)


def skip(connection: socket.socket, size: int) -> None:
    """Let the kernel throw away so many bytes."""
    buffer = bytearray(1 << 18)
    while size > 0:
        got = connection.recv_into(buffer, min(size, len(buffer)), socket.MSG_TRUNC)
        if not got:
            raise ConnectionError("the server hung up")
        size -= got


def push(address: Address, name: str, blob: Blob) -> None:
    """Push a blob: POST, then PUT (distribution-spec spec.md#post-then-put)."""
    digest, path, size = blob
    with socket.create_connection(address, 60) as connection, open(path, "rb") as file:
        request(connection, f"POST /v2/{name}/blobs/uploads/", "Content-Length: 0\r\n")
        headers, _ = answer(connection, 202)
        location = headers["location"]
        location = location[location.index("/v2/") :]
        query = f"{location}{'&' if '?' in location else '?'}digest={digest}"
        request(connection, f"PUT {query}", f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n")
        connection.sendfile(file)
        answer(connection, 201)


def pull(address: Address, name: str, blob: Blob) -> None:
    """Pull a blob."""
    with socket.create_connection(address, 60) as connection:
        request(connection, f"GET /v2/{name}/blobs/{blob[0]}")
        headers, rest = answer(connection, 200)
        assert int(headers["content-length"]) == blob[2]
        skip(connection, rest)


def tag(address: Address, name: str, blob: Blob) -> None:
    """Push a manifest that leads to a blob."""
    part = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob[0], "size": blob[2]}
    kind = "application/vnd.oci.image.manifest.v1+json"
    data = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": part, "layers": [part]}).encode()
    with socket.create_connection(address, 60) as connection:
        request(connection, f"PUT /v2/{name}/manifests/v1", f"Content-Type: {kind}\r\nContent-Length: {len(data)}\r\n")
        connection.sendall(data)
        answer(connection, 201)


def manifests(address: Address, name: str, count: int) -> None:
    """Ask for a manifest, again and again on one connection."""
    with socket.create_connection(address, 60) as connection:
        for _ in range(count):
            request(connection, f"GET /v2/{name}/manifests/v1", "Accept: application/vnd.oci.image.manifest.v1+json\r\n")
            _, rest = answer(connection, 200)
            skip(connection, rest)


def show(results: dict[str, dict[str, list[float]]]) -> None:
    """Print a table."""
    names = list(results["push"])
    print(f"{'median of the rounds':<22}{names[0]:>12}{names[1]:>18}{'ratio':>8}   unit")
    for kind, found in results.items():
        ours, theirs = (statistics.median(found[name]) for name in names)
        ratio = statistics.median(a / b for a, b in zip(*(found[name] for name in names), strict=True))
        unit = "requests/s" if kind == "small" else "MB/s"
        print(f"{kind:<22}{ours:>12.0f}{theirs:>18.0f}{ratio:>8.2f}   {unit}")


if __name__ == "__main__":
    sys.exit(main())
