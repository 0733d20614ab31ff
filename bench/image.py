"""Images beside the peers: a pull that ends unpacked, the unpacking of one big layer, a push; one machine, one run.

    .venv/bin/python -m bench.image [--only pull,unpack,push] [--size 300] [--layers 12] [--rounds 3] [--place DIR] [--format json]

    pull            from a docker-registry on loopback into an empty store, unpacked: `minirt pull`; `skopeo copy` into an OCI
                    layout and `umoci unpack` of it; `podman pull` with the overlay driver
    unpack          one gzip layer of all the files: ours, and GNU `tar xzf` of the same file
    push            of the same image to an empty registry: `minirt push`, `skopeo copy` from an OCI layout

The image is made of the standard library's and /usr's files, large and small, and of bytes that do not compress. The order of
the programs changes with each round. A ratio is the median of the rounds' own, as both programs of a round have the same noise
about them; a time is the least.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bench import beside
from bench.beside import ROOT

sys.path.insert(0, str(ROOT / "tests"))  # where docker-registry is started for tests, too
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
KINDS = ("pull", "unpack", "push")
NEEDED = ("docker-registry", "skopeo", "umoci", "podman", "tar", "gzip")


def main(argv: list[str] | None = None) -> int:
    """Measure and print."""
    parser = beside.parser("bench.image", __doc__)
    parser.add_argument("--size", type=int, default=300, help="MB of files in the image (300)")
    parser.add_argument("--layers", type=int, default=12, help="that they are in (12)")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(KINDS), help="kinds to measure (all)")
    parser.add_argument("--rounds", type=int, default=3, help="of each program (3)")
    parser.add_argument("--place", default="/var/tmp", help="directory to work in; a tmpfs leaves the disk out (/var/tmp)")
    args = parser.parse_args(argv)
    if not beside.able(*NEEDED):
        return 1
    with tempfile.TemporaryDirectory(prefix="minirt-bench-", dir=args.place) as name:
        results = measure(Path(name), args.size, args.layers, args.rounds, args.only)
    show(results) if args.format == "table" else print(json.dumps(results, indent=2))
    return 0


def files() -> Iterator[Path]:
    """Yield files of this machine, always in the same order: programs and libraries, text, many of them small."""
    for folder in ("/usr/lib/python3", "/usr/share", "/usr/lib", "/usr/bin", "/usr/include"):
        for above, folders, names in os.walk(folder):
            folders.sort()
            yield from (Path(above, name) for name in sorted(names))


def tars(size: int, count: int) -> Iterator[tuple[bytes, int]]:
    """Yield the layers' archives, which have `size` MB of files together, and where the end of each begins.

    A tenth of each does not compress.
    """
    source, chance, share = files(), random.Random(1), (size << 20) // count
    for number in range(count):
        stream = io.BytesIO()
        with tarfile.open(fileobj=stream, mode="w") as tar:
            info = tarfile.TarInfo(f"random/{number}")
            info.size = share // 10
            tar.addfile(info, io.BytesIO(chance.randbytes(info.size)))
            while stream.tell() < share:
                path = next(source)
                if path.is_file() and not path.is_symlink() and path.stat().st_size < share // 4:
                    tar.add(path, str(path).lstrip("/"), recursive=False)
            end = tar.offset
        yield stream.getvalue(), end


class Bench:
    """The image, and the ways to move it."""

    def __init__(self, place: Path, host: str) -> None:
        self.place = place
        self.name = f"{host}/bench/image:1"
        self.host = host
        self.number = 0

    def fresh(self) -> Path:
        """Return a new empty directory; the one before is removed, outside of what is measured."""
        shutil.rmtree(self.place / f"run{self.number}", ignore_errors=True)
        self.number += 1
        path = self.place / f"run{self.number}"
        path.mkdir()
        os.sync()
        return path

    def minirt(self, root: Path, *words: str) -> None:
        run([sys.executable, "-m", "minirt", *words], env={**os.environ, "MINIRT_ROOT": str(root)})

    def pull_minirt(self) -> float:
        root = self.fresh()
        return timed(lambda: self.minirt(root, "pull", "-q", "--tls-verify=false", self.name))

    def pull_skopeo_umoci(self) -> float:
        root = self.fresh()

        def work() -> None:
            run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{self.name}", f"oci:{root}/layout:image"])
            run(["umoci", "unpack", "--image", f"{root}/layout:image", f"{root}/bundle"])

        return timed(work)

    def pull_podman(self) -> float:
        root = self.fresh()
        environment = {**os.environ, **beside.storage(root), "TMPDIR": str(root)}
        return timed(lambda: run(["podman", "pull", "-q", "--tls-verify=false", self.name], env=environment))

    def push_minirt(self) -> float:
        words = ("push", "-q", "--tls-verify=false", self.name)
        return self.push(lambda target: self.minirt(self.place / "store", *words, target))

    def push_skopeo(self) -> float:
        words = ["skopeo", "copy", "-q", "--dest-tls-verify=false", f"oci:{self.place}/store/lib/image:{self.name}"]
        return self.push(lambda target: run([*words, f"docker://{target}"]))

    def push(self, work: Callable[[str], None]) -> float:
        """Return how long a push takes to a registry that has nothing."""
        from registries import DockerRegistry

        with DockerRegistry(self.fresh()) as registry:
            return timed(lambda: work(f"{registry.host}/bench/image:1"))

    def unpack_minirt(self) -> float:
        root = self.fresh()
        code = (
            "import os, sys; from minirt.image.compression import FdReader, decompressed; from minirt.image.layer import unpack\n"
            "unpack(decompressed('gzip', FdReader(os.open(sys.argv[1], os.O_RDONLY))), sys.argv[2])"
        )
        return timed(lambda: run([sys.executable, "-c", code, str(self.place / "big.tar.gz"), str(root)]))

    def unpack_tar(self) -> float:
        root = self.fresh()
        return timed(lambda: run(["tar", "-xzf", str(self.place / "big.tar.gz"), "-C", str(root), "--xattrs"]))


def run(words: list[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(words, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")


def timed(work: Callable[[], None]) -> float:
    """Return how many seconds it took."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def make(bench: Bench, size: int, layers: int) -> None:
    """Make the image in a store of ours, and the one big layer as a file; push it."""
    from minirt.image.store import Store

    store = Store(str(bench.place / "store" / "lib" / "image"))
    archives = list(tars(size, layers))
    with store.adding():
        blobs = [store.blobs.add(packed(data), LAYER) for data, _ in archives]
        config = {"architecture": "amd64", "os": "linux", "config": {},
                  "rootfs": {"type": "layers", "diff_ids": [digest(data) for data, _ in archives]}}  # fmt: skip
        store.set_name(bench.name, store.add_image(config, blobs))
    (bench.place / "big.tar.gz").write_bytes(packed(b"".join(data[:end] for data, end in archives) + bytes(1024)))
    bench.minirt(bench.place / "store", "push", "-q", "--tls-verify=false", bench.name)


def packed(data: bytes) -> bytes:
    return subprocess.run(["gzip", "-n"], input=data, stdout=subprocess.PIPE, check=True).stdout


def digest(data: bytes) -> str:
    from minirt.image.digest import of

    return of(data)


def measure(place: Path, size: int, layers: int, rounds: int, only: Sequence[str] = KINDS) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each round, by measurement and program."""
    from registries import DockerRegistry

    with DockerRegistry(place / "registry") as registry:
        bench = Bench(place, registry.host)
        make(bench, size, layers)
        kinds = {
            "pull": {"minirt": bench.pull_minirt, "skopeo+umoci": bench.pull_skopeo_umoci, "podman": bench.pull_podman},
            "unpack": {"minirt": bench.unpack_minirt, "tar": bench.unpack_tar},
            "push": {"minirt": bench.push_minirt, "skopeo": bench.push_skopeo},
        }
        results: dict[str, dict[str, list[float]]] = {}
        for kind, programs in kinds.items():
            if kind not in only:
                continue
            results[kind] = {name: [] for name in programs}
            for number in range(rounds):
                names = [*programs][number % len(programs) :] + [*programs][: number % len(programs)]
                for name in names:
                    results[kind][name].append(programs[name]())
    return results


def show(results: dict[str, dict[str, list[float]]]) -> None:
    """Print a table: seconds, and how much of a peer's time ours is."""
    for kind, times in results.items():
        line = f"{kind:<8} minirt {min(times['minirt']):.2f} s"
        for name, theirs in times.items():
            if name != "minirt":
                ratio = statistics.median(a / b for a, b in zip(times["minirt"], theirs, strict=True))
                line += f"   {name} {min(theirs):.2f}  ratio {ratio:.2f}"
        print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
