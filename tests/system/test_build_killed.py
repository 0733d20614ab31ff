"""A build that is killed, whenever it is: nothing damaged, nothing running or mounted, and what was done is found again."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
from command import Minirt

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="RUN is a container with owners of its own, which needs root"),
]

DOCKERFILE = """
FROM busybox AS one
ARG N
RUN echo $N > /n; sleep 0.1; dd if=/dev/urandom of=/blob bs=64k count=64 2>/dev/null
COPY data /data
RUN --mount=type=cache,target=/c --mount=type=secret,id=s sleep 0.1; echo $N > /c/n; mkdir /many; \
    for i in $(seq 200); do echo $i > /many/$i; done
FROM busybox AS two
ARG N
WORKDIR /w/$N
RUN sleep 0.2; echo $N > n
USER nobody
RUN sleep 0.1; echo $N > /tmp/n
FROM busybox
ARG N
COPY --from=one /many /many
COPY --from=two /w /w
RUN sleep 0.1; rm -r /many; echo $N > /done
"""


def steps(told: str, what: str) -> set[str]:
    """The titles of the steps that were told as done, or as found."""
    begun = dict(re.findall(r"^#(\d+) (\[.*)$", told, re.M))
    return {begun[number] for number in re.findall(rf"^#(\d+) {what}", told, re.M) if "FROM " not in begun[number]}


def running_below(root: Path) -> list[str]:
    """The processes in whose mounts this directory is, ours excepted: a container's root is an overlay of it."""
    found, own = [], os.readlink("/proc/self/ns/mnt")
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            text = Path(f"/proc/{pid}/mountinfo").read_text() if os.readlink(f"/proc/{pid}/ns/mnt") != own else ""
        except OSError:
            continue
        if str(root) in text:
            found.append(pid)
    return found


def check_after_a_kill(minirt: Minirt, project: Path, number: int, chance: random.Random) -> None:
    secret = project.parent / "secret"
    words = ("build", "--network", "none", "-t", "made", "--secret", f"id=s,src={secret}", "--build-arg", f"N={number}", project)
    build = minirt.start(*words)
    time.sleep(chance.uniform(0.05, 1.6))
    build.send_signal(signal.SIGKILL)
    told = build.communicate()[1]
    assert minirt("gc").returncode == 0
    assert running_below(minirt.root) == [] and minirt.containers == []
    assert str(minirt.root) not in Path("/proc/mounts").read_text()
    verified = minirt("image", "verify", "--all")
    assert verified.returncode == 0, verified.stderr
    again = minirt(*words)
    assert again.returncode == 0, again.stderr
    assert steps(told, "DONE") <= steps(again.stderr, "CACHED"), "what was told as done was found"
    shown = minirt("run", "--rm", "made", "cat", "/done", f"/w/{number}/n")
    assert shown.stdout.split() == [str(number)] * 2
    assert not list((minirt.root / "lib" / "image" / "tmp").iterdir())


@pytest.mark.parametrize("count", [6, pytest.param(200, marks=[pytest.mark.long, pytest.mark.timeout(7200)])])
def test_a_killed_build_leaves_a_whole_store_and_is_gone_on_with(own_store: Minirt, tmp_path: Path, count: int) -> None:
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    (tmp_path / "secret").write_text("hush")
    for number in range(100):
        (project / "data" / str(number)).write_bytes(os.urandom(20_000))
    (project / "Dockerfile").write_text(DOCKERFILE)
    seed = random.randrange(10**6)
    for number in range(count):
        check_after_a_kill(own_store, project, number, random.Random(seed + number))


def test_a_step_ends_with_its_build_before_anybody_tidies_up(own_store: Minirt, tmp_path: Path) -> None:
    """As root and as another user: to become one clears the death signal, so it has to be set after that."""
    for user in ("0", "1234"):
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nUSER {user}\nRUN echo begun; sleep 1000\n")
        build = own_store.start("build", "--network", "none", tmp_path)
        assert build.stderr is not None
        while not build.stderr.readline().endswith(" begun\n"):
            pass
        assert running_below(own_store.root)
        build.kill()
        build.communicate()
        end = time.monotonic() + 10
        while running_below(own_store.root):
            assert time.monotonic() < end, f"user {user}"
            time.sleep(0.01)
    assert own_store("gc").returncode == 0 and own_store.containers == []


@pytest.mark.parametrize("step", ["COPY big /big", "RUN dd if=/dev/urandom of=/big bs=1M count=8"])
def test_a_full_disk_is_told_and_leaves_a_whole_store(own_store: Minirt, tmp_path: Path, step: str) -> None:
    image = own_store.root / "lib" / "image"
    image.rename(own_store.root / "before")
    image.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=14m", "none", image], check=True, timeout=10)
    try:
        subprocess.run(["cp", "-a", f"{own_store.root}/before/.", image], check=True, timeout=10)
        (tmp_path / "big").write_bytes(os.urandom(8 << 20))
        (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN echo small > /small\n{step}\n")
        failed = own_store("build", "--network", "none", "-t", "made", tmp_path)
        assert failed.returncode == 1 and "No space left on device" in failed.stderr.splitlines()[-1]
        assert failed.stderr.splitlines()[-1].startswith("minirt: Dockerfile:3: ")
        assert not list((image / "tmp").iterdir()) and own_store.containers == []
        assert own_store("image", "verify", "--all").returncode == 0
        subprocess.run(["mount", "-o", "remount,size=100m", image], check=True, timeout=10)
        again = own_store("build", "--network", "none", "-t", "made", tmp_path)
        assert again.returncode == 0, again.stderr
        assert any("RUN echo small" in title for title in steps(again.stderr, "CACHED"))
    finally:
        subprocess.run(["umount", image], check=True, timeout=10)
