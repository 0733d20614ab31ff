"""Pulls and pushes that are killed, or run out of disk: what is there is whole, and the next command goes on with it."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import liars
import pytest
from command import Minirt
from liars import Content, Handler, Registry, tar
from registries import DockerRegistry, available

PLAIN = "--tls-verify=false"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")


def content(layers: int = 4, size: int = 400_000) -> Content:
    chance = random.Random(5)
    return Content(*(tar({f"{number}/{part}": chance.randbytes(size // 8) for part in range(8)}) for number in range(layers)))


@pytest.fixture
def empty() -> Iterator[Minirt]:
    """A minirt without images."""
    root = Path(tempfile.mkdtemp(prefix="minirt-kills-", dir="/var/tmp"))
    yield Minirt(root)
    shutil.rmtree(root)


def verified(minirt: Minirt) -> None:
    done = minirt("image", "verify", "--all")
    assert done.returncode == 0 and "DAMAGED" not in done.stdout, done.stdout + done.stderr


def served(registry: Registry) -> list[str]:
    return [path for path in registry.asked if "/blobs/" in path]


def kill_often(minirt: Minirt, times: int) -> None:
    """Kill pulls at random moments; after each the store is whole, and in the end the image is."""
    chance = random.Random(times)
    reused = 0
    with Registry(content()) as registry:
        name = f"{registry.host}/app:1"
        begin = time.monotonic()
        assert minirt("pull", PLAIN, name).returncode == 0
        usual = time.monotonic() - begin
        everything = len(served(registry))
        for number in range(times):
            assert minirt("rmi", name).returncode == 0
            registry.asked.clear()
            pull = minirt.start("pull", PLAIN, name)
            time.sleep(usual * chance.uniform(0.3, 1) if number % 2 else 0)
            while not number % 2 and len(served(registry)) < 3 and pull.poll() is None:  # by then something has arrived
                time.sleep(0.002)
            pull.send_signal(signal.SIGKILL)
            pull.communicate()
            verified(minirt)
            registry.asked.clear()
            again = minirt("pull", PLAIN, name)
            assert again.returncode == 0, again.stderr
            reused += len(served(registry)) < everything
        verified(minirt)
    assert reused, "in none of the tries was anything of use to the next"


def test_a_pull_that_is_killed_leaves_a_store_that_is_whole(empty: Minirt) -> None:
    kill_often(empty, 8)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_two_hundred_pulls_that_are_killed_leave_a_store_that_is_whole(empty: Minirt) -> None:
    kill_often(empty, 200)


def test_a_blob_that_arrived_in_part_is_gone_on_with_by_the_next_command(empty: Minirt) -> None:
    half = threading.Event()

    def slow(handler: Handler) -> bool:
        data = handler.server.content.layers[-1]
        if not handler.blob or half.is_set():
            return False
        handler.answer(200, data[:300_000], Content_Length=len(data))
        half.set()
        time.sleep(20)
        return True

    with Registry(content(), slow) as registry:
        name = f"{registry.host}/app:1"
        pull = empty.start("pull", PLAIN, name)
        assert half.wait(30)
        partial = empty.root / "lib" / "image" / "partial" / liars.digest(registry.content.layers[-1]).replace(":", "-")
        while not partial.exists() or partial.stat().st_size < 250_000:
            time.sleep(0.02)
        pull.send_signal(signal.SIGKILL)
        pull.communicate()
        there = partial.stat().st_size
        verified(empty)
        assert empty("pull", PLAIN, name).returncode == 0
        assert set(registry.ranges) == {f"bytes={there}-"}  # asked for again, if a loaded machine breaks it off
    verified(empty)
    assert list(partial.parent.iterdir()) == []


def test_an_interrupt_ends_a_pull_at_once_though_the_registry_says_nothing(empty: Minirt) -> None:
    silent, over = threading.Event(), threading.Event()

    def silence(handler: Handler) -> bool:
        if handler.blob and not over.is_set():
            handler.answer(200, b"", Content_Length=len(handler.server.content.layers[-1]))
            silent.set()
            over.wait(50)
        return handler.blob and not over.is_set()

    with Registry(content(), silence) as registry:
        pull = empty.start("pull", PLAIN, f"{registry.host}/app:1")
        assert silent.wait(30)
        time.sleep(0.5)
        pull.send_signal(signal.SIGINT)
        began = time.monotonic()
        _, errors = pull.communicate(timeout=50)
        over.set()
    assert pull.returncode == 130 and errors.splitlines()[-1] == "minirt: stopped", errors
    assert time.monotonic() - began < 55, "not the minute after which a silent registry is given up"
    verified(empty)


def test_what_arrived_in_part_and_was_torn_is_fetched_again(empty: Minirt) -> None:
    """After a power cut a file may hold zeros: the digest tells, and the registry is not to blame."""
    with Registry(content()) as registry:
        data = registry.content.layers[-1]
        partial = empty.root / "lib" / "image" / "partial" / liars.digest(data).replace(":", "-")
        partial.parent.mkdir(parents=True)
        partial.write_bytes(data[:1000] + bytes(50_000))
        done = empty("pull", PLAIN, f"{registry.host}/app:1")
        assert done.returncode == 0, done.stderr
    verified(empty)


def test_prune_removes_what_arrived_in_part(empty: Minirt) -> None:
    partial = empty.root / "lib" / "image" / "partial" / ("sha256-" + 64 * "0")
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"some")
    assert empty("image", "prune").returncode == 0 and not partial.exists()


def test_what_has_arrived_is_unpacked_before_the_disk_has_it(empty: Minirt, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob's name waits for fsync; here it waits for the unpacking too, and so neither would end, had that to wait for it."""
    from minirt.image.blobs import Blobs
    from minirt.image.layers import Layers
    from minirt.image.remote.pull import pull
    from minirt.image.store import Store

    begun, keep, unpack_one, late = threading.Event(), Blobs.keep, Layers.unpack_one, []

    def slow(self: Blobs, path: str, fd: int, digest: str) -> None:
        if "partial" in path:
            late.append(not begun.wait(60))
        keep(self, path, fd, digest)

    def noted(self: Layers, *args: object, **more: object) -> None:
        begun.set()
        unpack_one(self, *args, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Blobs, "keep", slow)
    monkeypatch.setattr(Layers, "unpack_one", noted)
    with Registry(content()) as registry:
        pull(Store(str(empty.root / "lib" / "image")), f"{registry.host}/app:1", verify=False)
    assert late and not any(late)
    verified(empty)


def test_two_pulls_at_a_time_fetch_each_layer_once(empty: Minirt) -> None:
    with Registry(content(), lambda handler: bool(handler.blob and time.sleep(0.5))) as registry:
        pulls = [empty.start("pull", PLAIN, f"{registry.host}/{name}:1") for name in ("a", "b")]
        assert [pull.wait(50) for pull in pulls] == [0, 0], [pull.communicate() for pull in pulls]
        layers = {liars.digest(layer) for layer in registry.content.layers}
        fetched = [path.rpartition("/")[2] for path in served(registry)]
        assert sorted(one for one in fetched if one in layers) == sorted(layers)
    verified(empty)


@ROOT
def test_a_pull_that_runs_out_of_disk_leaves_a_store_that_is_whole_and_goes_on_with_more(empty: Minirt) -> None:
    whole = content(6, 1_000_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=5m,mode=755", "tmpfs", empty.root], check=True)
    try:
        with Registry(whole) as registry:
            name = f"{registry.host}/app:1"
            done = empty("pull", PLAIN, name)
            errors = [line for line in done.stderr.splitlines() if line.startswith("minirt: ")]
            assert done.returncode == 1 and len(errors) == 1 and "No space left on device" in errors[0], done.stderr
            verified(empty)
            subprocess.run(["mount", "-o", "remount,size=60m", empty.root], check=True)
            before = len(served(registry))
            assert empty("pull", PLAIN, name).returncode == 0
            assert len(served(registry)) - before < 1 + len(whole.layers), "the second fetched less than all"
        verified(empty)
    finally:
        subprocess.run(["umount", empty.root], check=True)


def kill_pushes(minirt: Minirt, place: Path, times: int) -> None:
    """Kill pushes at random moments; the next one goes on, and skopeo finds the whole image."""
    chance = random.Random(times)
    with Registry(content(6)) as source:
        pulled = f"{source.host}/app:1"
        assert minirt("pull", PLAIN, pulled).returncode == 0
    reused = 0
    with DockerRegistry(place / "first") as registry:
        begin = time.monotonic()
        assert minirt("push", PLAIN, pulled, f"{registry.host}/app:1").returncode == 0
        usual = time.monotonic() - begin
    for number in range(times):
        with DockerRegistry(place / "registry") as registry:  # that has nothing of it
            name = f"{registry.host}/app:1"
            push = minirt.start("push", PLAIN, pulled, name)
            time.sleep(usual * chance.uniform(0.3, 1) if number % 2 else 0)
            while not number % 2 and not registry.blobs() and push.poll() is None:  # by then something has arrived
                time.sleep(0.002)
            push.send_signal(signal.SIGKILL)
            push.communicate()
            verified(minirt)
            before = registry.blobs()
            done = minirt("push", PLAIN, pulled, name)
            assert done.returncode == 0, done.stderr
            reused += bool(before) and " there" in done.stderr
            words = ["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"dir:{place}/back"]
            check = subprocess.run(words, capture_output=True, text=True, timeout=60)
            assert check.returncode == 0, check.stderr
        shutil.rmtree(place / "registry")
        shutil.rmtree(place / "back")
    assert reused, "in none of the tries was anything of use to the next"


@pytest.mark.skipif(not available(), reason="docker-registry is not installed")
def test_a_push_that_is_killed_is_gone_on_with(empty: Minirt, tmp_path: Path) -> None:
    """What the registry has of it is not sent again; a manifest is there only when all of its layers are."""
    kill_pushes(empty, tmp_path, 6)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.skipif(not available(), reason="docker-registry is not installed")
def test_two_hundred_pushes_that_are_killed_are_gone_on_with(empty: Minirt, tmp_path: Path) -> None:
    kill_pushes(empty, tmp_path, 200)
