"""`minirt image import` and `minirt run` of what is damaged or not there: one line, the right exit code, nothing left."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import zstandard

from minirt.image.store import Store
from minirt.image.verify import verify

pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(120),
    pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners of layers need root"),
]


def rootfs(size: int = 200_000) -> bytes:
    """A root file system: the static busybox, and a file of bytes that do not compress."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in {"bin/sh": Path("/bin/busybox").read_bytes(), "data": random.Random(1).randbytes(size)}.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
    return stream.getvalue()


TAR = rootfs()
PACKED = {"plain": TAR, "gzip": gzip.compress(TAR, 1), "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(TAR)}
BAD = {
    **{f"{kind} cut at {at}": data[: int(len(data) * at)] for kind, data in PACKED.items() for at in (0.001, 0.5, 0.98)},
    **{f"{kind} with a byte changed": PACKED[kind][:9000] + b"\0no" + PACKED[kind][9003:] for kind in ("gzip", "zstd")},
    "a changed header": TAR[:100] + b"\1" + TAR[101:],
    "empty": b"",
    "text": b"hello\n" * 1000,
    "a program": Path("/bin/busybox").read_bytes(),
    "gzip of text": gzip.compress(b"hello\n" * 1000),
    "xz": b"\xfd7zXZ\0" + bytes(100),
    "a way out": b"",
}  # fmt: skip


def contents(root: Path) -> set[str]:
    """All files of a store that are content or unfinished; not its locks."""
    image = root / "lib" / "image"
    parts = ("blobs/sha256", "layers", "tmp", "holds")
    found = {str(path.relative_to(image)) for part in parts for path in (image / part).iterdir()}
    return found | {json.dumps(entry) for entry in json.loads((image / "index.json").read_text())["manifests"]}


def one_line(done: subprocess.CompletedProcess[str], code: int) -> str:
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert re.fullmatch(r"minirt: [^\n]{10,300}\n", done.stderr), done.stderr
    assert "Error:" not in done.stderr  # a Python exception's name tells a reader nothing
    return done.stderr


@pytest.mark.parametrize("how", ["file", "pipe"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_whole_archive_is_refused_in_a_line_and_leaves_nothing(own_store, kind, how):
    before = contents(own_store.root)
    path = own_store.root / "rootfs.tar"
    path.write_bytes(BAD[kind])
    if kind == "a way out":
        with tarfile.open(path, "w") as tar:
            tar.addfile(tarfile.TarInfo("../../../../../../out"))
    with path.open() as stream:
        words = ("image", "import", path if how == "file" else "-", "broken")
        done = subprocess.run(
            [*own_store.program, *map(str, words)], stdin=stream, capture_output=True, text=True, timeout=60, env=own_store.env
        )
    assert (str(path) if how == "file" else "cannot import -") in one_line(done, 1)
    assert contents(own_store.root) == before


@pytest.mark.parametrize("kind", PACKED)
def test_what_is_whole_runs(own_store, kind):
    """The archives above are refused for what was done to them, and not for what they are."""
    path = own_store.root / "rootfs.tar"
    path.write_bytes(PACKED[kind])
    imported = own_store("image", "import", "-c", "ENV A=b", path, "whole")
    assert imported.returncode == 0 and imported.stdout.startswith("sha256:"), imported.stderr
    done = own_store("run", "--rm", "whole", "/bin/sh", "-c", 'echo $A; read -n 3 x </data; echo "$(wc -c </data)"')
    assert done.stdout.split() == ["b", "200000"], done.stderr


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("/nowhere/x.tar", "a"), "No such file"),
        (("/etc", "a"), "is a directory"),
        (("/dev/null", "A"), "not an image name"),
        (("/dev/null", "a"), "is empty"),
        (("-c", "RUN make", "/dev/null", "a"), "RUN make"),
        (("http://example.org/x.tar", "a"), "curl"),
        (("/proc/self/mem", "a"), "cannot import"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_line(own_store, words, text):
    before = contents(own_store.root)
    assert text in one_line(own_store("image", "import", *words), 1)
    assert contents(own_store.root) == before


def test_a_closed_standard_input_is_told_in_a_line(own_store):
    shell = ["sh", "-c", 'exec "$@" <&-', "sh", *own_store.program, "image", "import", "-", "a"]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=60, env=own_store.env)
    assert "standard input" in one_line(done, 1)


def test_a_full_disk_is_told_in_a_line_and_leaves_nothing(own_store):
    image = own_store.root / "lib" / "image"
    shutil.rmtree(image)
    image.mkdir()
    path = own_store.root / "rootfs.tar"
    path.write_bytes(rootfs(8 << 20))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", image], check=True, timeout=10)
    try:
        assert "No space left on device" in one_line(own_store("image", "import", path, "large"), 1)
        assert contents(own_store.root) == set()
    finally:
        subprocess.run(["umount", image], check=True, timeout=10)


# -- what is damaged later, or never was


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("part", "damage"),
    [("index", truncate), *((part, how) for part in ("manifest", "config", "layer") for how in (truncate, alter, Path.unlink))],
)
def test_run_of_a_damaged_image_is_told_in_a_line_and_leaves_nothing(own_store, part, damage):
    image = own_store.root / "lib" / "image"
    (entry,) = json.loads((image / "index.json").read_text())["manifests"]
    blobs = image / "blobs" / "sha256"
    manifest = json.loads((blobs / entry["digest"][7:]).read_text())
    digest = {"manifest": entry, "config": manifest["config"], "layer": manifest["layers"][0], "index": entry}[part]["digest"]
    shutil.rmtree(image / "layers")
    (image / "layers").mkdir()
    path = image / "index.json" if part == "index" else blobs / digest[7:]
    path.chmod(0o600)
    damage(path)
    text = one_line(own_store("run", "--rm", "busybox", "true"), 125)
    assert (str(path) if part == "index" else digest) in text
    assert list((image / "layers").iterdir()) == list((image / "tmp").iterdir()) == own_store.containers == []
    assert str(own_store.root) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.parametrize(
    ("words", "code"),
    [(("run", "nothere", "true"), 125), (("run", "--rm", "host:5000/a/b:c", "true"), 125), (("run", "No Image", "true"), 125),
     (("image", "inspect", "nothere"), 1), (("image", "rm", "nothere"), 1), (("image", "verify", "nothere"), 1),
     (("image", "tag", "nothere", "x"), 1), (("image", "history", "nothere"), 1)],
)  # fmt: skip
def test_an_unknown_image_is_told_in_a_line(own_store, words, code):
    before = contents(own_store.root)
    done = own_store(*words)
    if words[1] == "inspect":  # docker prints an empty list, too
        assert done.stdout == "[]\n"
        done.stdout = ""
    text = one_line(done, code)
    assert words[-1 if words[0] == "image" and words[1] != "tag" else -2] in text
    assert contents(own_store.root) == before and own_store.containers == []


# -- interrupted


def begin(minirt, data: bytes, count: int) -> subprocess.Popen[bytes]:
    """Start an import from a pipe and write the first bytes into it."""
    child = subprocess.Popen(
        [*minirt.program, "image", "import", "-", "half"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=minirt.env,
    )  # fmt: skip
    child.stdin.write(data[:count])
    child.stdin.flush()
    return child


def usable(minirt) -> bool:
    """Whether the store works and each image in it is whole. Returns whether `half` is one of them."""
    names = {json.loads(line)["Repository"] for line in minirt("image", "ls", "--format", "json").stdout.splitlines()}
    assert "busybox" in names
    verified = minirt("image", "verify", *names)
    assert verified.returncode == 0, verified.stderr
    assert minirt("run", "--rm", "busybox", "true").returncode == 0
    if "half" in names:
        assert minirt("run", "--rm", "half", "/bin/sh", "-c", "true").returncode == 0
    return "half" in names


def test_an_import_that_is_killed_leaves_no_half_image_and_what_it_leaves_is_swept(own_store):
    """At points of the stream, and at times after its end, when blobs, layer and names get theirs."""
    data = rootfs(3 << 20)
    before = contents(own_store.root)
    dice = random.Random()
    points = [(dice.randrange(1, len(data)), 0.0) for _ in range(3)] + [(len(data), dice.uniform(0, 0.03)) for _ in range(4)]
    for count, delay in points:
        child = begin(own_store, data, count)
        if count == len(data):
            child.stdin.close()
            time.sleep(delay)
        child.send_signal(dice.choice([signal.SIGKILL, signal.SIGTERM]))
        child.wait(30)
        for stream in (child.stdin, child.stdout, child.stderr):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        if usable(own_store):
            assert own_store("image", "rm", "half").returncode == 0
        assert own_store("image", "prune").returncode == 0
        assert contents(own_store.root) == before, (count, delay)


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
@pytest.mark.parametrize("call", ["rename", "fsync", "mkdir"])
def test_an_import_that_is_killed_at_any_of_its_calls_leaves_no_half_image(own_store, tmp_path, call):
    """strace sends SIGKILL when the call is entered for the nth time, until there is no nth time."""
    archive = tmp_path / "rootfs.tar"
    archive.write_bytes(TAR)
    store = Store(str(own_store.root / "lib" / "image"))
    before, killed = contents(own_store.root), 0
    while True:
        strace = ["strace", "-f", "-qq", "-o", tmp_path / "trace", "-e", f"inject={call}:signal=KILL:when={killed + 1}"]
        words = [*strace, *own_store.program, "image", "import", archive, "half"]
        status = subprocess.run(words, env=own_store.env, capture_output=True, timeout=60).returncode
        half = [image for image in store.images() if image.name == "half:latest"]
        for image in half:
            assert all(problem == "" for _, problem in verify(store, image)) and Path(image.layers()[0], "bin/sh").exists()
            store.remove("half")
        store.collect()
        assert contents(own_store.root) == before, (call, killed)
        if status == 0:
            break
        assert status in (-signal.SIGKILL, 128 + signal.SIGKILL)
        killed += 1
    assert killed >= 1 and half


def test_an_import_sweeps_what_a_killed_one_left(own_store):
    data = rootfs(3 << 20)
    child = begin(own_store, data, len(data) // 2)
    image = own_store.root / "lib" / "image"
    while len(list((image / "tmp").iterdir())) < 2:  # the blob and the layer's directory
        assert child.poll() is None
        time.sleep(0.01)
    child.kill()
    child.wait(30)
    assert len(list((image / "tmp").iterdir())) == 2
    (image / "blobs" / "sha256" / ("0" * 64)).write_bytes(b"nobody's")
    (own_store.root / "x.tar").write_bytes(TAR)
    assert own_store("image", "import", own_store.root / "x.tar", "next").returncode == 0
    assert list((image / "tmp").iterdir()) == [] and not (image / "blobs" / "sha256" / ("0" * 64)).exists()


def test_an_import_that_is_interrupted_leaves_nothing_at_all(own_store):
    before = contents(own_store.root)
    data = rootfs(3 << 20)
    child = begin(own_store, data, len(data) // 2)
    while len(list((own_store.root / "lib" / "image" / "tmp").iterdir())) < 2:
        assert child.poll() is None
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert (child.returncode, errors) == (130, b"minirt: stopped\n")
    assert contents(own_store.root) == before


def test_prune_waits_for_an_import_and_takes_nothing_of_it(own_store):
    data = rootfs(3 << 20)
    child = begin(own_store, data, len(data) // 2)
    while len(list((own_store.root / "lib" / "image" / "tmp").iterdir())) < 2:
        time.sleep(0.01)
    prune = own_store.start("image", "prune")
    time.sleep(0.2)
    assert prune.poll() is None
    _, errors = child.communicate(data[len(data) // 2 :], timeout=60)
    assert child.returncode == 0, errors
    prune.communicate(timeout=60)
    assert prune.returncode == 0 and usable(own_store)


# -- at the same time


def test_first_runs_at_the_same_time_build_and_unpack_one_image(own_store):
    image = own_store.root / "lib" / "image"
    shutil.rmtree(image)
    children = [own_store.start("run", "--rm", "busybox", "echo", str(n)) for n in range(6)]
    assert [(child.communicate(timeout=60), child.returncode) for child in children] == [((f"{n}\n", ""), 0) for n in range(6)]
    assert len(list((image / "layers").iterdir())) == 1 and list((image / "tmp").iterdir()) == []
    assert len(json.loads((image / "index.json").read_text())["manifests"]) == 1


def test_imports_and_removals_at_the_same_time_leave_whole_images(own_store):
    path = own_store.root / "x.tar"
    path.write_bytes(TAR)
    before = contents(own_store.root)
    for _ in range(3):
        children = [own_store.start("image", "import", path, f"image{n % 3}") for n in range(6)]
        children += [own_store.start("image", "prune"), own_store.start("run", "--rm", "busybox", "true")]
        assert [child.communicate(timeout=60)[1] for child in children] == [""] * 8
        assert [child.returncode for child in children] == [0] * 8
        # Two imports of one archive in different seconds are two images, and the first of them has lost its name.
        assert own_store("image", "prune").returncode == 0
        assert usable(own_store) is False
        assert own_store("run", "--rm", "image1", "/bin/sh", "-c", "true").returncode == 0
        assert own_store("image", "rm", "image0", "image1", "image2").returncode == 0
        assert contents(own_store.root) == before
